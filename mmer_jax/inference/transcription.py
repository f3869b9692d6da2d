"""From the CTC head's log-probabilities to a text, by one of two decoders."""

import dataclasses

import numpy as np

from mmer_jax.data.text import CTC_BLANK, ctc_text
from mmer_jax.errors import UserError
from mmer_jax.inference import beam

DECODERS = ("greedy", "beam")


@dataclasses.dataclass(frozen=True)
class Transcriber:
    """A decoder with its options.

    Attributes:
      decoder: `greedy`, the best path, or `beam`, the most probable text (see `beam.search`).
      beam_width: of `beam`.

    Raises:
      UserError: an option outside its choices.
    """

    decoder: str = "greedy"
    beam_width: int = 16

    def __post_init__(self):
        if self.decoder not in DECODERS:
            raise UserError(f"decoder is {self.decoder!r}; the choices are: {', '.join(DECODERS)}.")
        if not 1 <= self.beam_width <= 10_000:
            raise UserError(f"beam_width is {self.beam_width}; expected 1 to 10000.")

    def __call__(self, log_probs: np.ndarray) -> str:
        """What frames [t, v] spell, in lower case."""
        if self.decoder == "beam":
            symbols = beam.search(log_probs, self.beam_width, CTC_BLANK)[0][0]
        else:
            path = log_probs.argmax(-1)
            symbols = path[np.diff(path, prepend=CTC_BLANK) != 0]
        return ctc_text(symbols).lower()
