"""A recording's windows, and its prediction for programs and as JSON."""

import dataclasses
import html

import numpy as np

from mmer_jax.errors import UserError

# Below this confidence 63 % of a recogniser's words were wrong (docs/results.md), and above this
# rate most of the CTC head's: no transcript.
LEAST_CONFIDENCE, MOST_WRONG = 0.5, 0.5


@dataclasses.dataclass(frozen=True)
class Span:
    """A window, in samples: its input is [start, end), and it answers for [own_start, own_end)."""

    start: int
    end: int
    own_start: int
    own_end: int

    def own_frames(self, frame: int) -> slice:
        """Those of its encoder frames, one every `frame` samples, that begin in its own part."""
        first, last = (-(-(x - self.start) // frame) for x in (self.own_start, self.own_end))
        return slice(first, None if self.own_end == self.end else last)


def windows(samples: int, longest: int) -> list[Span]:
    """The windows of a recording: one, if it is no longer than `longest`.

    Otherwise windows of that length, each half of it after the one before, the last one aligned to
    the end. What two neighbours overlap in is divided at its middle, so that every moment belongs
    to one window, the one with the most context around it.

    Args:
      samples: of the recording.
      longest: of a window.
    """
    if samples <= longest:
        return [Span(0, samples, 0, samples)]
    hop = max(longest // 2, 1)
    starts = [*range(0, samples - longest, hop), samples - longest]
    middles = [(left + longest + right) // 2 for left, right in zip(starts, starts[1:])]
    own = [0, *middles, samples]
    return [Span(s, s + longest, a, b) for s, a, b in zip(starts, own, own[1:])]


@dataclasses.dataclass(frozen=True)
class Window:
    """The prediction for one stretch of a recording.

    Attributes:
      start, end: seconds.
      label: the most probable class; None without speech.
      probabilities: of the classes by name, with the temperature of the whole prediction; {}
        without speech.
      text: input of the text branch; "" without speech, where it was recognised.
      speech: whether there is speech in the part that it answers for; None where nobody looked.
    """

    start: float
    end: float
    label: str | None
    probabilities: dict[str, float]
    text: str
    speech: bool | None = None


@dataclasses.dataclass(frozen=True, repr=False)
class Prediction:
    """The prediction for one recording.

    Attributes:
      label: the most probable class; None for a recording without speech.
      probabilities: of the classes by name: softmax(logits / T) with the temperature of this text
        source, softmax(logits) where it has none; {} for a recording without speech.
      calibrated: whether T was fitted on held-out dialogs to answers like this one: of a single
        window, with this text source (its own text as the greedy decoder writes it).
      logits: float32 [c], before any temperature; of several windows the mean of those with
        speech, each weighted with the seconds it answers for. Mean logits and mean
        log-probabilities are the same prediction: they differ by a constant.
      text: the given one, or what the recogniser or else the CTC head wrote where there is speech,
        or "", also for a given one without a word, such as [LAUGHTER].
      text_source: `gold`, a given text; `asr`, a recogniser's; `ctc`; or `none`.
      seconds: of the recording.
      timeline: the windows, one for a recording no longer than a window.
      timings: seconds of `read` (and resample), `speech` (look for it), `encode`, `text`
        (transcribe and tokenise) and `decide` (text, fusion, logits). A batch's time is shared by
        its rows; the first of a shape includes its compilation.
      speech: whether there is any; None where nobody looked: the model reads text alone, or
        `detect_speech=False`.
      held_out: what was measured on held-out dialogs with this text source: `ua`, `ua_low` (the
        lower end of its 95 % interval), `utterances`, `wer`, `cer`, `temperature`; {} where nothing
        was.
      recognition: of a recogniser's text: its name, `recognizer`, and `confidence`, `no_speech` and
        `note` of the transcript, see `data.transcripts.Transcript`; {} with another source.
      warning: why the label is not to be relied upon: no speech, or hardly better than guessing
        with this text source; "" where neither is so.
    """

    label: str | None
    probabilities: dict[str, float]
    calibrated: bool
    logits: np.ndarray
    text: str
    text_source: str
    seconds: float
    timeline: tuple[Window, ...]
    timings: dict[str, float]
    speech: bool | None = None
    held_out: dict = dataclasses.field(default_factory=dict)
    warning: str = ""
    recognition: dict = dataclasses.field(default_factory=dict)

    @property
    def is_readable(self) -> bool:
        """Whether a person may be shown `text` as a transcript: given, or recognised well enough.

        A recogniser says how sure it is. The model's own CTC head does not; known is how many of
        its words were wrong on held-out speech.
        """
        if self.text_source == "asr":
            return self.recognition.get("confidence", 0.0) >= LEAST_CONFIDENCE  # {}: no speech
        wer = self.held_out.get("wer")
        return self.text_source != "ctc" or (wer is not None and wer <= MOST_WRONG)

    def __repr__(self):
        name, share = self._answer()
        said = f", {self.text_source} text {self.text!r}" if self.text else ""
        warned = f", warning={self.warning!r}" if self.warning else ""
        return f"Prediction({name}{share and f' {share}'}{said}, {self.seconds:.1f} s{warned})"

    def _answer(self):
        """The class and its share in words."""
        if self.label is None:
            return "no speech", ""
        return self.label, f"{100 * self.probabilities[self.label]:.0f} %"

    def _repr_html_(self):
        """The same for a notebook, with a bar for each class."""
        name, share = (html.escape(x) for x in self._answer())
        lines = [f"<b>{name}</b> {share} &nbsp; {self.seconds:.1f} s"]
        if self.warning:
            lines.append(f"<i>{html.escape(self.warning)}</i>")
        lines += [f"{self.text_source}: <q>{html.escape(self.text)}</q>"] if self.text else []
        bar = '<div style="background:#4c78a8;height:0.8em;width:{:.0f}px"></div>'
        rows = [
            f"<tr><td>{html.escape(name)}</td><td>{bar.format(200 * p)}</td>"
            f"<td>{100 * p:.0f} %</td></tr>"
            for name, p in self.probabilities.items()
        ]
        table = f"<table>{''.join(rows)}</table>" if rows else ""
        return f"<div>{'<br>'.join(lines)}{table}</div>"

    def to_dict(self) -> dict:
        """The same as plain values, for JSON."""
        plain = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        plain["logits"] = [float(x) for x in self.logits]
        plain["timeline"] = [dataclasses.asdict(w) for w in self.timeline]
        return plain

    as_dict = to_dict  # its name of before


def to_dataframe(predictions):
    """A pandas `DataFrame` with a row for each prediction.

    Args:
      predictions: of `Predictor.predict`, or the pairs of `Predictor.predict_each`, whose indices
        and errors are then the table's.

    Returns:
      Columns `label`, `p_<class>` for each class, `calibrated`, `seconds`, `text_source`, `text`,
      `speech`, `held_out_ua`, `warning`, as in the command's CSV, and `error` for what could not be
      predicted, if there is any.

    Raises:
      UserError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError as e:
        raise UserError(
            f"A table needs pandas, which can't be imported ({e}). Install it: pip install pandas"
        ) from e
    pairs = [x if isinstance(x, tuple) else (i, x) for i, x in enumerate(predictions)]
    rows = {index: _row(prediction) for index, prediction in pairs}
    return pandas.DataFrame(list(rows.values()), index=list(rows))


def _row(p):
    if isinstance(p, UserError):
        return {"error": str(p)}
    return {
        "label": p.label, **{f"p_{name}": share for name, share in p.probabilities.items()},
        "calibrated": p.calibrated, "seconds": p.seconds, "text_source": p.text_source,
        "text": p.text, "speech": p.speech, "held_out_ua": p.held_out.get("ua"),
        "warning": p.warning,
    }  # fmt: skip
