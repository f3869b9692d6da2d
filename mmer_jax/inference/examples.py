"""Recordings that the page offers to be clicked on, for who has none at hand."""

import dataclasses
import io
import os

import numpy as np
import soundfile

from mmer_jax import runs
from mmer_jax.data.corpus import Corpus, is_synthetic
from mmer_jax.data.preprocessing import SAMPLE_RATE
from mmer_jax.errors import UserError
from mmer_jax.inference import audio_io, tables

MOST = 8  # of a folder
_TITLE = 60  # characters


@dataclasses.dataclass(frozen=True)
class Example:
    """A recording.

    Attributes:
      title: on its button.
      wav: the bytes of its file.
      text: what is said; "": not known.
    """

    title: str
    wav: bytes
    text: str = ""


def of_files(name: str) -> list[Example]:
    """The first recordings of a folder, or of a table, whose texts are taken too.

    Raises:
      UserError: there is none, or one can't be read.
    """
    return [
        _example(os.path.splitext(os.path.basename(row.audio))[0],
                 audio_io.read(tables.recording(row)), row.text or "")
        for row in tables.expand([name])[:MOST]
    ]  # fmt: skip


def of_demo(name: str, model, titles: dict[str, str]) -> list[Example]:
    """A test utterance of each class, of a fold that was trained on the demo's synthetic corpus.

    None of another corpus: its recordings are not ours to show. Nor where the fold or the corpus is
    out of reach.

    Args:
      name: of the model.
      model: a `LoadedModel`.
      titles: class -> its name in full.
    """
    if not (is_synthetic(model.config) and os.path.exists(os.path.join(name, runs.RESULT))):
        return []
    try:
        corpus = Corpus.of(model.config)
        rows = runs.read_fold(name.rstrip("/")).result.predictions
    except (UserError, ImportError):  # without tensorflow a page can do as well
        return []
    known = {(u.id, u.transcript): u for u in corpus.utterances}
    examples = {}
    for p in rows:
        u = known.get((p.utterance, p.transcript))
        if u and p.label not in examples and len(p.transcript.split()) > 3:
            title = f"{titles[p.label]}: “{p.transcript}”"
            examples[p.label] = _example(title, corpus.recordings(u)[0], p.transcript)
    return [examples[label] for label in titles if label in examples]


def _example(title, wave: np.ndarray, text):
    out = io.BytesIO()
    soundfile.write(out, wave, SAMPLE_RATE, format="WAV", subtype="PCM_16")
    title = title if len(title) <= _TITLE else title[: _TITLE - 1] + "…"
    return Example(title, out.getvalue(), text)
