"""The model cut in two compiled halves: speech -> frames and symbols, frames and text -> logits."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from mmer_jax.models.encoders.wav2vec2 import Wav2Vec2Encoder
from mmer_jax.models.heads import CTCHead
from mmer_jax.models.layers import flat_dense
from mmer_jax.models.mmer import MMER
from mmer_jax.models.precision import jit_at


class Network:
    """A model on the device. The speech is encoded once, whatever is made of it afterwards.

    With `config.model.padding="original"` the encoder's answer hangs on its padding; here it
    computes what the published model does with the recording alone, unpadded.

    Args:
      model: the Flax module.
      params: its parameters.
    """

    def __init__(self, model: MMER, params: dict):
        self._model = padding_kept_out(model)
        self._params = jax.device_put(params)
        self._encode = jit_at(self._encoded, model.precision)
        self._decide = jit_at(self._decided, model.precision)
        self._attend = jit_at(self._attended, model.precision)

    @property
    def compiled(self) -> int:
        """How many programs have been compiled so far."""
        return self._encode._cache_size() + self._decide._cache_size()

    def encode(self, audio: np.ndarray, length: np.ndarray) -> dict:
        """Speech -> frames.

        Args:
          audio: float32 [b, n], prepared and zero-padded.
          length: int32 [b].

        Returns:
          Device arrays `audio_hidden` [b, t, d], `audio_mask` [b, t], `log_probs` float32
          [b, t, v] of the CTC symbols. {} where the model reads text alone.
        """
        if self._model.audio_encoder is None:
            return {}
        return jax.block_until_ready(self._encode(self._params, audio, length))

    def symbols(self, encoded: dict) -> list[np.ndarray]:
        """What `encode` returned -> log-probabilities [t, v] of each row, without its padding."""
        log_probs, mask = jax.device_get((encoded["log_probs"], encoded["audio_mask"]))
        return [row[kept] for row, kept in zip(log_probs, mask)]

    def decide(self, encoded: dict, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Frames and text -> logits float32 [b, c].

        Args:
          encoded: what `encode` returned.
          ids, mask: int32 [b, s] tokens, and which of them are no padding.
        """
        given = {k: encoded[k] for k in ("audio_hidden", "audio_mask") if k in encoded}
        return jax.device_get(self._decide(self._params, given, ids, mask))

    def attention(self, encoded: dict, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Where each token looks in the speech: float32 [b, s, t], mean over the heads.

        Args:
          encoded, ids, mask: as for `decide`; of a model with cross-modal fusion.
        """
        given = {k: encoded[k] for k in ("audio_hidden", "audio_mask")}
        return jax.device_get(self._attend(self._params, given, ids, mask))

    def _encoded(self, params, audio, length):
        m = self._model
        with nn.intercept_methods(flat_dense):
            hidden, mask = m.audio_encoder.apply(
                {"params": params["audio_encoder"]}, audio, length, True
            )
        head = CTCHead(m.symbols, m.dropout)
        logits = head.apply({"params": params["ctc"]}, hidden, True)
        log_probs = jax.nn.log_softmax(logits.astype(jnp.float32))
        return {"audio_hidden": hidden, "audio_mask": mask, "log_probs": log_probs}

    def _decided(self, params, encoded, ids, mask):
        return self._applied(params, encoded, ids, mask)[0]

    def _attended(self, params, encoded, ids, mask):
        _, out = self._applied(params, encoded, ids, mask)
        return out["text_to_audio_attention"].astype(jnp.float32).mean(1)

    def _applied(self, params, encoded, ids, mask):
        batch = {"text_ids": ids, "text_mask": mask, "label": jnp.zeros(len(ids), jnp.int32)}
        return self._model.apply({"params": params}, batch | encoded)


def padding_kept_out(model: MMER) -> MMER:
    """The model without `padding="original"`: what it computes does not hang on its padding."""
    encoder = model.audio_encoder
    if isinstance(encoder, Wav2Vec2Encoder) and encoder.published_padding:
        return model.clone(audio_encoder=encoder.clone(published_padding=False))
    return model
