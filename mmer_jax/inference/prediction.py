"""What a prediction says, for programs and as JSON."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Window:
    """What the model made of one stretch of a recording.

    Attributes:
      start, end: seconds.
      label: the most probable class.
      probabilities: of the classes by name; calibrated as the whole prediction's.
      text: what the text branch read.
    """

    start: float
    end: float
    label: str
    probabilities: dict[str, float]
    text: str


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What the model made of one recording.

    Attributes:
      label: the most probable class.
      probabilities: of the classes by name: softmax(logits / T) with the temperature that was
        fitted on held-out data, softmax(logits) where none was.
      calibrated: whether there was one.
      logits: float32 [c], before any temperature; of several windows their mean, each weighted
        with the seconds it answers for. Mean logits and mean log-probabilities are the same
        verdict: they differ by a constant.
      text: the given one, or what the CTC head wrote, or "".
      text_source: `given`, `ctc` or `none`.
      seconds: of the recording.
      timeline: the windows, one for a recording that the model hears as a whole.
      timings: seconds of `read` (and resample), `encode` (speech), `text` (transcribe and
        tokenise) and `decide` (text, fusion, verdict). A batch's time is shared by its rows; the
        first of a shape includes its compilation.
    """

    label: str
    probabilities: dict[str, float]
    calibrated: bool
    logits: np.ndarray
    text: str
    text_source: str
    seconds: float
    timeline: tuple[Window, ...]
    timings: dict[str, float]

    def as_dict(self) -> dict:
        """The same as plain values, for JSON."""
        plain = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        plain["logits"] = [float(x) for x in self.logits]
        plain["timeline"] = [dataclasses.asdict(w) for w in self.timeline]
        return plain
