"""MMER in JAX: multimodal multi-task emotion recognition from speech."""

from __future__ import annotations  # see `cli`

import re
import sys

__version__ = "0.1.0"
__all__ = ["load", "to_dataframe"]


def _is_command():
    """Whether this import is for `python -m mmer_jax...`, not for somebody else's module."""
    if sys.argv[:1] != ["-m"]:
        return False
    # The module stands before its own arguments, perhaps in one word with -m. A Python before 3.10
    # doesn't tell, and can't run the package either.
    named = getattr(sys, "orig_argv", ["mmer_jax"])[-len(sys.argv) :][0]
    return re.sub(r"^-\w*?m", "", named).split(".")[0] == __name__


if _is_command():  # before it imports what may be missing
    from mmer_jax import cli

    cli.check_python()


def load(name: str, **options):
    """A `Predictor` of a trained model: `mmer_jax.load("runs/demo/fold5").predict("a.wav")`.

    Args:
      name: a finished fold of a run, a model folder, a converted checkpoint, or the name of a
        model on the Hugging Face hub (`owner/name`).
      **options: of `mmer_jax.inference.predictor.Predictor`: `batch_sizes`, `detect_speech`,
        `transcriber`. The latter may also be the name or folder of a Whisper model, such as
        `openai/whisper-base.en`, with `language` where that is multilingual.

    Raises:
      mmer_jax.errors.UserError: there is no such model; says what was found.
    """
    import os

    # Otherwise transformers imports tensorflow where there is one, which takes seconds.
    os.environ.setdefault("USE_TF", "0")
    # Here, so that `import mmer_jax` alone imports no jax.
    from absl import logging

    from mmer_jax.inference.predictor import Predictor
    from mmer_jax.training import checkpoint_io

    removed = [x for x in ("decoder", "beam_width") if options.pop(x, None)]
    if removed:
        logging.warning("%s: the beam search was removed; texts are greedy.", ", ".join(removed))
    model, language = checkpoint_io.read(name), options.pop("language", "")
    if isinstance(options.get("transcriber"), str | os.PathLike):
        options["transcriber"] = _recognizer(os.fspath(options["transcriber"]), language)
    return Predictor(model, **options)


def to_dataframe(predictions):
    """A pandas `DataFrame` of many predictions, see `mmer_jax.inference.prediction.to_dataframe`.

    Args:
      predictions: of `Predictor.predict`, or the pairs of `Predictor.predict_each`.

    Raises:
      mmer_jax.errors.UserError: pandas is not installed.
    """
    from mmer_jax.inference import prediction

    return prediction.to_dataframe(predictions)


def _recognizer(name, language):
    """The `Recognizer` of a name; None for ""."""
    from mmer_jax.augmentation.recognizer import Recognizer

    return Recognizer(name, language) if name else None
