"""Results of folds and runs: typed here, JSON in the files, those of every earlier version too."""

import dataclasses
import functools

import numpy as np

from mmer_jax import plain
from mmer_jax.metrics import classification, reliability

# What is held out of training for the choice of the epoch, in words; see `folds.Split.heldout`.
HELDOUT = {
    "dialog": "held-out dialogs", "speaker": "held-out speakers", "session": "held-out sessions",
    "fold": "held-out folds", "corpus": "held-out corpora", "utterance": "held-out utterances",
    "validation": "the official validation part", "": "the test side",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class PredictionRow:
    """The model's prediction for one test utterance.

    Attributes:
      utterance, session, speaker, dialog, transcript: of the corpus; "" where it does not say. A
        session that is called by a whole number is one.
      label, prediction: names of classes.
      probabilities, logits: c numbers, of 6 digits.
      seen: whether a training utterance has the same words; None: not known.
      recognized: greedy transcript of the CTC head; None without a trained one.
      corpus: of several, that of the utterance, whose name is then before those of the utterance,
        its session, speaker and dialog.
    """

    utterance: str
    session: int | str
    speaker: str
    dialog: str
    label: str
    prediction: str
    probabilities: list[float]
    logits: list[float]
    seen: bool | None
    recognized: str | None
    transcript: str
    corpus: str = ""


def scores(logits: np.ndarray, label_names) -> list[dict]:
    """`prediction`, `probabilities` and `logits` of a `PredictionRow` for each of logits [n, c]."""
    return [
        {
            "prediction": label_names[int(p.argmax())],
            "probabilities": [round(float(x), 6) for x in p],
            "logits": [round(float(x), 6) for x in z],
        }
        for p, z in zip(classification.softmax(logits), logits)
    ]


def _known(cls, values):
    """An object of a dataclass; values that are none of its fields are passed over."""
    return cls(**{f.name: values[f.name] for f in dataclasses.fields(cls)})


@dataclasses.dataclass(frozen=True)
class FoldResult:
    """The content of a fold's result.json.

    Attributes:
      fold: its number.
      name: of the test group, for example `session 5`.
      protocol: that it is of.
      heldout: what was held out of training, see `HELDOUT`.
      shared_speakers: those who are trained on and tested; None where they are not known.
      seed: of its run.
      label_names: of the c classes, in the order of the logits.
      counts: utterances: `train`, `select`, `test`, and `trained`, those that the tested state was
        trained on.
      chosen: entry of the history that was selected.
      temperature: of the text that the test utterances came with; None where none was fitted.
      text_sources: what was measured on held-out dialogs, see `evaluation.measure_heldout`.
      dataset_version: of the TFDS builder.
      normalized: whether waveforms were; None: not recorded.
      pretrained: weights begun with, see `Trainer.pretrained`.
      languages: that the trained utterances name; [] where they name none, or it is not recorded.
      alphabet: characters of the CTC head; "" for the English ones.
      layer_weights: of the audio encoder's hidden states, in the order of its layers, 0 being what
        enters the first; None where they are not weighted.
      history: `step`, `epoch`, `score` and metrics of each epoch.
      predictions: one per test utterance.
    """

    fold: int
    name: str
    protocol: str
    heldout: str
    shared_speakers: list[str] | None
    seed: int
    label_names: list[str]
    counts: dict[str, int]
    chosen: dict
    temperature: float | None
    text_sources: dict[str, dict]
    dataset_version: str
    normalized: bool | None
    pretrained: dict
    languages: list[str]
    alphabet: str
    layer_weights: list[float] | None
    history: list[dict]
    predictions: list[PredictionRow]

    @classmethod
    def from_json(cls, stored: dict, config) -> "FoldResult":
        """The result in a result.json of any version.

        Before `text_sources` came there was one temperature, and a refit kept that of the state
        before.

        Args:
          stored: content of the file.
          config: of the run.

        Raises:
          AttributeError, KeyError, TypeError, ValueError: it is no such content.
        """
        values = {
            "dataset_version": "not recorded", "normalized": None, "pretrained": {},
            "languages": [], "alphabet": "", "layer_weights": None, "protocol": config.protocol,
            "shared_speakers": [],
            "heldout": "dialog" if config.selection == "heldout" else "",
        } | stored  # fmt: skip
        if "text_sources" not in stored:
            refit = config.refit and stored["chosen"]["step"]
            values["temperature"] = None if refit else stored["temperature"]
            uses_text = "text" in config.model.modalities
            values["text_sources"] = reliability.of_old_run(values["temperature"], refit, uses_text)
        usual = {"seen": None, "recognized": None, "corpus": ""}
        untrained = {} if config.losses.ctc.weight else {"recognized": None}
        values["predictions"] = [
            _known(PredictionRow, usual | row | untrained) for row in stored["predictions"]
        ]
        result = _known(cls, values)
        result.check()
        return result

    def check(self) -> None:
        """Raises ValueError where it contradicts itself, as a damaged file may."""
        plain.check(self)
        names = set(self.label_names)
        if len(names) < max(2, len(self.label_names)):
            raise ValueError(f"label_names is {self.label_names!r:.80}")
        if self.temperature is not None and self.temperature <= 0:
            raise ValueError(f"temperature is {self.temperature}")
        for row in self.predictions:
            plain.check(row)
            sizes = {len(row.logits), len(row.probabilities)}
            if not {row.label, row.prediction} <= names or sizes != {len(self.label_names)}:
                raise ValueError(f"the prediction for {row.utterance} is of other classes")

    def to_json(self) -> dict:
        """The content of result.json."""
        values = dataclasses.asdict(self)
        ends = {k: values.pop(k) for k in ("history", "predictions")}
        return values | {"confusion": self.confusion.tolist()} | ends

    @property
    def key(self) -> tuple[int, int]:
        """(seed, fold)."""
        return self.seed, self.fold

    @functools.cached_property
    def labels(self) -> np.ndarray:
        """Int [n], the true classes."""
        return np.array([self.label_names.index(p.label) for p in self.predictions], int)

    @functools.cached_property
    def predicted(self) -> np.ndarray:
        """Int [n], the predicted classes."""
        return np.array([self.label_names.index(p.prediction) for p in self.predictions], int)

    @functools.cached_property
    def confusion(self) -> np.ndarray:
        """int64 [c, c], see `classification.confusion`."""
        return classification.confusion(self.labels, self.predicted, len(self.label_names))

    def probabilities(self, scaled: bool = False) -> np.ndarray:
        """[n, c]; `scaled` by the fold's temperature, if there is one."""
        temperature = (self.temperature if scaled else None) or 1.0
        return classification.softmax(np.array([p.logits for p in self.predictions]) / temperature)


@dataclasses.dataclass(frozen=True)
class RunResult:
    """The content of a run's results.json; None where an earlier version did not write a field.

    Attributes:
      name, selection, refit: of the config; `fingerprint` and `config` are all of it.
      protocol, heldout: of the folds, see `FoldResult`.
      shared_speakers: all that are trained on and tested in some fold; None: not known.
      seed: the only one, or None; `seeds` are all.
      label_names: of the c classes.
      folds: per fold and seed its result but for the predictions, with metrics and `ece`.
      mean: metric -> see `report.mean`.
      pooled: metrics over all test utterances, and `confusion`.
      intervals: see `intervals.estimate`.
      calibration: ECE and reliability, without and with the temperatures.
      recognition: error rates of the CTC head; None without a trained one.
      corpora: of several, corpus -> metrics over its test utterances, `confusion` and
        `utterances`; None for one.
      leakage: `share` of the utterances whose words occur in training, and the metrics of these,
        `seen`, and of the others, `unseen`, with `count`; None where it is not known.
      dataset_versions: of the folds.
      pretrained: see `FoldResult`.
      text_source: the text that the model was given, see `reliability.TEXT_SOURCES`.
      tested_on: of another corpus than the run's, see `across.facts`; None for its own.
      asr_transcripts: what the source `asr` read: `recognizer`, `sha256` of the files, and error
        rates over the test utterances; None with another source.
      seconds, hardware, versions: of the computation.
    """

    name: str
    fingerprint: str
    seed: int | None
    seeds: list[int]
    protocol: str
    heldout: str
    shared_speakers: list[str] | None
    selection: str
    refit: bool
    label_names: list[str]
    folds: list[dict]
    mean: dict
    pooled: dict
    intervals: dict
    calibration: dict
    recognition: dict | None
    corpora: dict | None
    leakage: dict | None
    dataset_versions: list[str]
    pretrained: dict
    config: dict
    text_source: str
    tested_on: dict | None
    asr_transcripts: dict | None
    seconds: float
    hardware: str
    versions: dict[str, str]

    @classmethod
    def from_json(cls, stored: dict) -> "RunResult":
        """The result in a results.json of any version.

        Raises:
          ValueError: a field is of another kind.
        """
        values = {f.name: stored.get(f.name) for f in dataclasses.fields(cls)}
        for field in dataclasses.fields(cls):
            if not plain.is_kind(values[field.name], field.type | None):
                raise ValueError(f"{field.name} is {values[field.name]!r:.80}")
        return cls(**values)

    def to_json(self) -> dict:
        """The content of results.json."""
        return dataclasses.asdict(self)
