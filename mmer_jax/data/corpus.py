"""The corpus of a run: utterances of one prepared dataset or of several, audio on demand."""

import collections
import dataclasses

import numpy as np

from mmer_jax import configuration
from mmer_jax.data.prepared import Prepared
from mmer_jax.errors import UserError

_NO_MAJORITY = "xxx"  # IEMOCAP's word for raters who disagree: never a class
_OWN = ("id", "speaker", "session", "dialog")  # names that mean something within one corpus alone


@dataclasses.dataclass(frozen=True)
class Recording:
    """An augmented recording of an utterance.

    Attributes:
      start: where it begins among the utterance's augmented samples.
      samples: how many it has.
      voice: a speaker of the corpus, another name, "" for unknown.
    """

    start: int
    samples: int
    voice: str = ""


@dataclasses.dataclass(frozen=True)
class Utterance:
    """All facts about an utterance but its audio; what the corpus does not say is "".

    Attributes:
      index: its place in the whole dataset; also the key of what is drawn for it.
      label: class number.
      samples: of its recording, int16 at 16 kHz.
      part: of the corpus' own division: train, validation or test.
      fold: the corpus' own fold that tests it.
      corpus: of several, the one that it is from, see `short_name`; its name and a colon are then
        before `id`, `speaker`, `session` and `dialog`.
      aug_transcript: the same in other words; "" for none.
      augmented: its augmented recordings; of a training utterance those that may be drawn.
    """

    index: int
    id: str
    label: int
    samples: int
    transcript: str = ""
    speaker: str = ""
    session: str = ""
    dialog: str = ""
    part: str = ""
    fold: str = ""
    language: str = ""
    corpus: str = ""
    aug_transcript: str = ""
    augmented: tuple[Recording, ...] = ()

    def has_view(self, modalities) -> bool:
        """Whether there is an augmented view for a model of these modalities.

        Speech needs a recording, text a text; a model of both needs both.
        """
        views = {"audio": self.augmented, "text": self.aug_transcript}
        return all(views[name] for name in modalities)

    def without_voices(self, voices) -> "Utterance":
        """The utterance without its augmented recordings in one of these voices."""
        kept = tuple(r for r in self.augmented if r.voice not in voices)
        return dataclasses.replace(self, augmented=kept)

    def without_view(self) -> "Utterance":
        """The utterance without an augmented view, neither text nor recording."""
        return dataclasses.replace(self, aug_transcript="", augmented=())


class Corpus:
    """The utterances of prepared datasets, in their order, with random access to their audio.

    Args:
      data_dir: what `tfds build --data_dir` was given.
      datasets: the dataset's name and builder config, as in `speech_emotion/ravdess`; or several.
      labels: the classes, in the order of the logits; (): all, in the datasets' order.
      label_map: label of a dataset -> the class that it counts as; others keep their name.
      given: whether `labels` are the classes of a model, of which the datasets may lack some.

    Attributes:
      datasets: names of all.
      version: of the dataset; of several each with its name.
      versions: of each dataset, by its name.
      identity: changes with any dataset's version, files or recordings.
      label_names: of the c classes.
      left_out: label -> number of its utterances, of those labels that are no class.

    Raises:
      UserError: nothing prepared there, in a format without random access, a label that no dataset
        has, a dataset without any of the classes, or two with the same recordings.
    """

    def __init__(self, data_dir: str, datasets="iemocap/emotions4", labels=(), label_map=None,
                 given: bool = False):  # fmt: skip
        self.datasets = (datasets,) if isinstance(datasets, str) else tuple(datasets)
        self._parts = [Prepared(data_dir, name) for name in self.datasets]
        classes = _classes(self._parts, labels, dict(label_map or {}), given)
        self.label_names = tuple(dict.fromkeys(classes.values())) if not labels else tuple(labels)
        numbers = {name: self.label_names.index(c) for name, c in classes.items()}
        several, utterances, others = len(self._parts) > 1, [], collections.Counter()
        self._places, versions = [], []  # (dataset, row) of each utterance of all
        for part in self._parts:
            name = short_name(part.name)
            versions.append(f"{name} {part.version}" if several else part.version)
            for row, facts in enumerate(part.rows):
                if facts["label"] in numbers:
                    facts = _with_corpus(facts, name) if several else facts
                    label = numbers[facts["label"]]
                    utterances.append(_utterance(len(self._places), facts, label))
                else:
                    others[facts["label"]] += 1
                self._places.append((part, row))
        self.version = ", ".join(versions)
        self.versions = {part.name: part.version for part in self._parts}
        self.identity = ", ".join(part.identity for part in self._parts)
        self.utterances = tuple(utterances)
        self.left_out = dict(others.most_common())
        if several:
            _check_apart(self.utterances)

    @classmethod
    def of(cls, config) -> "Corpus":
        """The corpus that a config names."""
        d = config.data
        return cls(d.dir, configuration.datasets(config), tuple(d.labels), d.label_map)

    def recordings(self, utterance: Utterance) -> tuple[np.ndarray, list[np.ndarray]]:
        """The utterance's int16 samples [n] and those of each of its augmented recordings."""
        part, row = self._places[utterance.index]
        example = part.example(row)
        augmented = np.asarray(example["augmented_audio"]) if utterance.augmented else ()
        others = [augmented[r.start : r.start + r.samples] for r in utterance.augmented]
        return np.asarray(example["audio"]), others


def is_synthetic(config) -> bool:
    """Whether a run's corpus is the demo's."""
    if config.name.startswith("demo"):
        return True
    return all(name.startswith("demo") for name in configuration.datasets(config))


def short_name(dataset: str) -> str:
    """A dataset's name in tables: `ravdess` for `speech_emotion/ravdess`, others in full."""
    return dataset.removeprefix("speech_emotion/")


def recording(name: str, speaker: str, transcript: str, corpus: str) -> tuple[str, str, str]:
    """The same for two utterances that are the same recording, also in datasets of other configs.

    Args:
      name: the utterance's id.
      speaker, transcript, corpus: see `Utterance`.
    """
    prefix = f"{corpus}:" if corpus else ""
    return name.removeprefix(prefix), speaker.removeprefix(prefix), transcript


def _check_apart(utterances):
    """Raises UserError if a recording is in two datasets: it would be trained on and tested."""
    corpora = {}
    for u in utterances:
        key = recording(u.id, u.speaker, u.transcript, u.corpus)
        corpora.setdefault(key, set()).add(u.corpus)
    twice = [sorted(names) for names in corpora.values() if len(names) > 1]
    if twice:
        raise UserError(
            f"{len(twice)} utterances are in both {' and '.join(twice[0])} (the same id, speaker "
            "and transcript): they would be trained on and tested. Name one of the two in "
            "config.data.corpora."
        )


def _with_corpus(row, corpus):
    """A row whose own names can't be taken for those of another corpus."""
    named = {k: f"{corpus}:{row[k]}" for k in _OWN if k in row}
    voices = [(*place, v and f"{corpus}:{v}") for *place, v in row.get("augmented", ())]
    return row | named | {"corpus": corpus, "augmented": voices}


def _utterance(index, row, label):
    augmented = tuple(Recording(*r) for r in row.get("augmented", ()))
    return Utterance(**row | {"index": index, "label": label, "augmented": augmented})


def _classes(parts, labels, label_map, given):
    """Label of the datasets -> its class, of those that are one."""
    dataset, option = " and ".join(part.name for part in parts), "--" if given else "config.data."
    there = dict.fromkeys(name for part in parts for name in part.labels if name != _NO_MAJORITY)
    classes = {name: label_map.get(name, name) for name in there}
    known = list(dict.fromkeys(classes.values()))
    wrong = [f"{option}label_map maps {x!r}" for x in label_map if x not in there]
    if given:
        mapped = dict.fromkeys(label_map.values())
        wrong += [f"{option}label_map maps to {x!r}" for x in mapped if x not in labels]
    else:
        wrong += [f"{option}labels names {x!r}" for x in labels if x not in known]
    if wrong:
        after = f", with the map {', '.join(known)}" if known != [*there] else ""
        model = f", and the model has the classes {', '.join(labels)}" if given else ""
        raise UserError(
            f"{'; '.join(wrong)}: {dataset} has the labels {', '.join(there)}{after}{model}. Name "
            "some of these."
        )
    classes = {name: c for name, c in classes.items() if not labels or c in labels}
    if given and len(set(classes.values())) < 2:
        raise UserError(
            f"Less than two of the model's classes ({', '.join(labels)}) are among the labels of "
            f"{dataset} ({', '.join(there)}). Say what counts as what, for example "
            f'--label_map=\'{{"{next(iter(there), "happy")}": "{labels[0]}"}}\'.'
        )
    if len(set(classes.values())) < 2:
        raise UserError(
            f"Of the labels of {dataset} ({', '.join(there)}), config.data.labels and label_map "
            "leave less than two classes; name at least two."
        )
    empty = [p for p in parts if not any(row["label"] in classes for row in p.rows)]
    if empty:
        raise UserError(
            f"No utterance of {empty[0].name} is of one of the classes "
            f"{', '.join(dict.fromkeys(classes.values()))}: its labels are "
            f"{', '.join(empty[0].labels)}. Map them by {option}label_map, or leave the corpus out."
        )
    return classes
