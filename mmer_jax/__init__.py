"""MMER in JAX: multimodal multi-task emotion recognition from speech."""

import sys

__all__ = ["load"]

if sys.argv[:1] == ["-m"]:  # a command, before it imports what may be missing
    from mmer_jax import commands

    commands.check_packages()


def load(name: str, **options):
    """A `Predictor` of a trained model: `mmer_jax.load("runs/demo/fold5").predict("a.wav")`.

    Args:
      name: a finished fold of a run, a model folder, a converted checkpoint, or the name of a
        model on the Hugging Face hub (`owner/name`).
      **options: of `mmer_jax.inference.predictor.Predictor`: `decoder`, `beam_width`,
        `batch_sizes`, `detect_speech`.

    Raises:
      mmer_jax.errors.UserError: there is no such model; says what was found.
    """
    import os

    # Otherwise transformers imports tensorflow where there is one, which takes seconds.
    os.environ.setdefault("USE_TF", "0")
    # Here, so that `import mmer_jax` alone imports no jax.
    from mmer_jax.inference import loading

    return loading.load(name, **options)
