"""Tiny models of random parameters, built by hand, and batches for them."""

import jax
import numpy as np

from mmer_jax import configuration
from mmer_jax.data.text import read_tokenizer
from mmer_jax.demo import corpus
from mmer_jax.models import factory
from mmer_jax.training import checkpoint_io
from mmer_jax.training.checkpoint_io import LoadedModel, build

LABELS = ("ang", "hap", "neu", "sad")
WORDS = (
    "I told you not to touch it, but it was you who broke the jacket of the lady at the airport."
)
FIGURES = {
    "gold": {"temperature": 1.7, "ua": 0.76, "ua_low": 0.7, "utterances": 60, "wer": None},
    "ctc": {"temperature": 2.5, "ua": 0.55, "ua_low": 0.5, "utterances": 60, "wer": 0.4},
    "none": {"temperature": 3.1, "ua": 0.45, "ua_low": 0.4, "utterances": 60, "wer": None},
}
HAVE = {"both": ("gold", "ctc", "none"), "audio": ("none",), "text": ("gold",)}
CARD = {
    "name": "tiny", "fold": 5, "seed": 3, "fingerprint": "856abdf1ffde", "protocol": "session",
    "selection": "heldout", "rates": {"wa": 0.75, "ua": 0.7, "recall": [0.1, 0.2, 0.3, None]},
}  # fmt: skip


def made(folder, modality="both", family="whisper", text_family="bert"):
    """A model of random parameters, none of them 0 or 1."""
    c = configuration.default()
    c.name, c.data.dir, c.init_from = "tiny", str(folder / "tfds"), str(folder / "converted")
    c.audio.family, c.audio.conv_channels, c.text.family = family, 16, text_family
    c.text.tokenizer, c.text.max_tokens = str(folder / "words"), 32
    for size in (c.audio.size, c.text.size):
        size.width, size.layers, size.heads, size.ffn = 16, 1, 2, 16
    c.model.width, c.model.heads, c.model.ffn = 16, 2, 16
    if modality != "both":
        getattr(configuration, f"{modality}_only")(c)
    if not (folder / "words").exists():
        corpus.save_tokenizer([WORDS], folder / "words")
    words = read_tokenizer(c)
    model = build(c, len(LABELS), words)
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda x: rng.normal(0.1, 0.3, x.shape).astype(np.float32), factory.param_shapes(model)
    )
    figures = {source: FIGURES[source] for source in HAVE[modality]}
    return LoadedModel("by hand", c, model, params, LABELS, figures, words, CARD)


def written(folder, modality="both", seconds=None) -> str:
    """Path of a model folder with such a model, which takes at most so many seconds at once."""
    model, path = made(folder, modality), str(folder / f"{modality}_model")
    if seconds:
        model.config.data.max_seconds = seconds
    checkpoint_io.write(model, path)
    return path


def batch(rows=2, samples=8_000, tokens=6):
    """Its last utterance is half as long as the shapes in both modalities."""
    rng = np.random.default_rng(1)
    mask = np.ones((rows, tokens), np.int32)
    mask[-1, tokens // 2 :] = 0
    return {
        "audio": rng.standard_normal((rows, samples)).astype(np.float32),
        "audio_length": np.linspace(samples, samples // 2, rows).astype(np.int32),
        "text_ids": rng.integers(5, 30, (rows, tokens)).astype(np.int32),
        "text_mask": mask,
    }
