"""A model on the device: speech -> frames, then frames and text -> logits."""

import jax
import numpy as np

from mmer_jax.models.forward import make_forward
from mmer_jax.models.mmer import MMER


class Network:
    """A model on the device. The speech is encoded once, whatever is made of it afterwards.

    Args:
      model: the Flax module.
      params: its parameters.
    """

    def __init__(self, model: MMER, params: dict):
        self._params = jax.device_put(params)
        self._has_audio = model.audio_encoder is not None
        self._encode, self._decide, self._attend = (
            make_forward(model, keep, standard_padding=True)
            for keep in (("audio_hidden", "audio_mask", "log_probs"), ("logits",), ("attention",))
        )

    @property
    def compiled(self) -> int:
        """How many programs have been compiled so far."""
        return self._encode._cache_size() + self._decide._cache_size()

    def encode(self, audio: np.ndarray, length: np.ndarray) -> dict:
        """float32 [b, n] and int32 [b] -> `audio_hidden`, `audio_mask` and `log_probs`.

        On the device; {} where the model reads text alone.
        """
        if not self._has_audio:
            return {}
        batch = {"audio": audio, "audio_length": length}
        return jax.block_until_ready(self._encode(self._params, batch))

    def symbols(self, encoded: dict) -> list[np.ndarray]:
        """What `encode` returned -> log-probabilities [t, v] of each row, without its padding."""
        log_probs, mask = jax.device_get((encoded["log_probs"], encoded["audio_mask"]))
        return [row[kept] for row, kept in zip(log_probs, mask)]

    def decide(self, encoded: dict, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """What `encode` returned, and int32 [b, s] tokens and their mask -> float32 [b, c]."""
        return self._with_text(self._decide, encoded, ids, mask)["logits"]

    def attention(self, encoded: dict, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """As `decide` -> float32 [b, s, t], see `make_forward`; cross-modal fusion has it."""
        return self._with_text(self._attend, encoded, ids, mask)["attention"]

    def _with_text(self, forward, encoded, ids, mask):
        speech = {k: encoded[k] for k in ("audio_hidden", "audio_mask") if k in encoded}
        batch = {"text_ids": ids, "text_mask": mask} | speech
        return jax.device_get(forward(self._params, batch))
