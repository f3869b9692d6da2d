"""A predictor by its name."""

from absl import logging

from mmer_jax.inference.predictor import Predictor
from mmer_jax.training import checkpoint_io


def load(name: str, **options) -> Predictor:
    """A predictor from a folder or a hub name.

    Args:
      name: see `checkpoint_io.read`.
      **options: of `Predictor`, for example `batch_sizes=(1, 16)`.

    Raises:
      UserError: see `checkpoint_io.read`.
    """
    removed = [x for x in ("decoder", "beam_width") if options.pop(x, None)]
    if removed:
        logging.warning("%s: the beam search was removed; texts are greedy.", ", ".join(removed))
    return Predictor(checkpoint_io.read(name), **options)
