"""Recordings that are no view, silence, copies and wrong lengths; figures over all views."""

import collections
import dataclasses

import numpy as np
from scipy import signal

from mmer_jax.data.preprocessing import SAMPLE_RATE
from mmer_jax.metrics import asr

COPY, CLONED, LENGTH = "copy of the original", "copy of the reference", "length"
ERRORS = "word errors"
_LOUD, _SPEECH = 10 ** (-50 / 20), 0.05  # full scale is 1; seconds that are to be louder
# Of a quiet original its views are quiet too: so far below its loudest frame, down to -80 dB.
_BELOW, _LEAST = 10 ** (-20 / 20), 10 ** (-80 / 20)
_FRAME = SAMPLE_RATE // 50
_LAG = SAMPLE_RATE // 2  # samples by which a copy may be shifted


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a view may be like.

    Attributes:
      similarity: least of a text to its source.
      length: a view may be so many times as long, or as short, as the original.
      copy: correlation with another recording, at the best shift, from which a view is its copy.
      wer: most word errors of a recogniser, where one listens.
    """

    similarity: float
    length: float = 3.0
    copy: float = 0.9
    wer: float = 0.5


def is_silent(wave: np.ndarray, original: np.ndarray) -> bool:
    """Whether hardly any of a view is louder than -50 dB, or than the original is less 20 dB.

    Args:
      wave, original: float32 [n] at 16 kHz. What is below -80 dB is silence beside any original.
    """
    bound = np.clip(_BELOW * _levels(original).max(initial=0.0), _LEAST, _LOUD)
    return bool((_levels(wave) > bound).sum() * _FRAME < _SPEECH * SAMPLE_RATE)


def _levels(wave):
    """Root mean square of each 20 ms."""
    frames = wave[: len(wave) // _FRAME * _FRAME].reshape(-1, _FRAME)
    return np.sqrt(np.square(frames, dtype=np.float64).mean(1))


def likeness(a: np.ndarray, b: np.ndarray) -> float:
    """Largest correlation of two recordings, 0 to 1, shifted by at most half a second."""
    found = signal.correlate(a.astype(np.float64), b.astype(np.float64), method="fft")
    zero = len(b) - 1
    near = found[max(0, zero - _LAG) : zero + _LAG + 1]
    return float(np.abs(near).max() / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-9))


def fault(wave: np.ndarray, request, limits: Limits) -> str:
    """Why a view's samples are not taken; "" where they are.

    Args:
      wave: float32 [n] at 16 kHz, not silent.
      request: the `speech.Request` that it answers.
      limits: on its length and on copies.
    """
    if likeness(wave, request.wave) >= limits.copy:
        return COPY
    if request.reference_wave is not None:
        if likeness(wave, request.reference_wave) >= limits.copy:
            return CLONED
    ratio = len(wave) / len(request.wave)
    return "" if 1 / limits.length <= ratio <= limits.length else LENGTH


def summary(corpus, texts: dict, views: list[dict], failed: int, seconds: dict) -> dict:
    """Figures over all views.

    Args:
      corpus: a `Corpus`.
      texts: utterance id -> row of `text`, `similarity` and `rejected`; {} where none were asked.
      views: rows of all recordings that were made; see `views.make`.
      failed: recordings that could not be made.
      seconds: stage -> what it took.
    """
    utterances = corpus.utterances
    taken = [v for v in views if not v["rejected"]]
    made = collections.defaultdict(list)
    for v in taken:
        made[v["id"]].append(v)
    speakers = {u.speaker for u in utterances} - {""}
    voices = collections.Counter(v["voice"] or "not known" for v in taken)
    recognized = [v for v in views if v.get("recognized") is not None]
    return {
        "utterances": len(utterances),
        "texts": sum(bool(row["text"]) for row in texts.values()),
        "texts_rejected": _counts(row["rejected"] for row in texts.values()),
        "similarity": _spread([r["similarity"] for r in texts.values() if r["text"]]),
        "recordings": len(taken),
        "recordings_rejected": _counts(v["rejected"] for v in views),
        "recordings_failed": failed,
        "with_recording": len(made),
        "own_words": sum(not texts.get(name, {}).get("text") for name in made),
        "by_label": _by_label(corpus, made),
        "length": _spread([v["ratio"] for v in taken]),
        "voices": dict(voices.most_common()),
        "of_speakers": sum(n for name, n in voices.items() if name in speakers),
        "left_in_folds": {
            column: left for column in ("session", "speaker")
            if (left := _left(utterances, made, column)) is not None
        },
        "wer": asr.recognizer_rates(
            [v["text"] for v in recognized], [v["recognized"] for v in recognized]
        )["wer"],
        "minutes_per_1000": {
            stage: round(1000 * s / 60 / len(utterances), 2) for stage, s in seconds.items()
        },
    }  # fmt: skip


def _by_label(corpus, made):
    """Class -> share of its utterances with a recording: a rejection may prefer one of them."""
    total = collections.Counter(u.label for u in corpus.utterances)
    found = collections.Counter(u.label for u in corpus.utterances if u.id in made)
    return {corpus.label_names[k]: round(found[k] / total[k], 4) for k in sorted(total)}


def _counts(reasons):
    return dict(collections.Counter(filter(None, reasons)).most_common())


def _spread(values):
    """Median, and the bounds of the middle 90 %; None of nothing."""
    if not values:
        return None
    low, middle, high = np.percentile(values, [5, 50, 95])
    return {"median": round(float(middle), 3), "low": round(float(low), 3),
            "high": round(float(high), 3)}  # fmt: skip


def _left(utterances, made, column):
    """Least share of a fold's training utterances that keep a recording, a group being tested.

    As `folds.train_test` has it: not those in the voice of another, tested speaker.
    """
    groups = {getattr(u, column) for u in utterances}
    if not made or "" in groups or len(groups) < 2:
        return None
    shares = []
    for group in groups:
        tested = {u.speaker for u in utterances if getattr(u, column) == group}
        train = [u for u in utterances if getattr(u, column) != group]
        kept = sum(
            any(v["voice"] not in tested - {u.speaker} for v in made.get(u.id, ())) for u in train
        )
        shares.append(kept / len(train))
    return round(min(shares), 4)
