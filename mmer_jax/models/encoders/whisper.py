"""Whisper's encoder on as many frames as there are: log-mel, HF Flax blocks, a frame mask."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from transformers import WhisperConfig
from transformers.audio_utils import mel_filter_bank
from transformers.models.whisper import modeling_flax_whisper
from transformers.models.whisper.modeling_flax_whisper import (
    FlaxWhisperEncoderLayer,
    sinusoidal_embedding_init,
)

from mmer_jax.models.activations import gelu
from mmer_jax.models.dropout import Dropout
from mmer_jax.models.encoders.hf_softmax import float32_softmax

WINDOW, HOP = 400, 160  # samples: 25 ms every 10 ms at 16 kHz


def log_mel(audio: jax.Array, length: jax.Array, bins: int) -> tuple[jax.Array, jax.Array]:
    """Whisper's log-mel spectrogram, its statistics over the utterance alone.

    log10 power in `bins` mel bands, at most 8 below the utterance's maximum, then (x + 4) / 4.
    The start is reflected as Whisper does; after the end there are zeros, as in its 30 s windows.

    Args:
      audio: float32 [b, n], 16 kHz, zero-padded.
      length: int32 [b], samples of each utterance.
      bins: mel bands, 80 or (large-v3) 128.

    Returns:
      features float32 [b, n // 160, bins], 0 after each utterance's end; its mask [b, n // 160].
    """
    count = audio.shape[1] // HOP
    half = WINDOW // 2
    padded = jnp.concatenate([audio[:, 1 : half + 1][:, ::-1], audio], axis=1)
    padded = jnp.pad(padded, ((0, 0), (0, half)))
    at = jnp.arange(count)[:, None] * HOP + jnp.arange(WINDOW)[None]
    hann = jnp.asarray(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW), jnp.float32)
    power = jnp.abs(jnp.fft.rfft(padded[:, at] * hann, axis=-1)) ** 2
    filters = mel_filter_bank(
        WINDOW // 2 + 1, bins, 0.0, 8000.0, 16_000, norm="slaney", mel_scale="slaney"
    )
    log = jnp.log10(jnp.maximum(power @ jnp.asarray(filters, jnp.float32), 1e-10))
    # Whole hops only, as Whisper counts: then a frame exists alone if it exists in a batch.
    mask = _mask(length // HOP, count)
    kept = mask[..., None]
    peak = jnp.where(kept, log, -jnp.inf).max(axis=(1, 2), keepdims=True)
    return jnp.where(kept, (jnp.maximum(log, peak - 8.0) + 4.0) / 4.0, 0.0), mask


def _mask(lengths, count):
    """[b] -> bool [b, count]; one position at least, so that no attention is over nothing."""
    return jnp.arange(count)[None] < jnp.maximum(lengths, 1)[:, None]


class WhisperEncoder(nn.Module):
    """Whisper's encoder with HF's parameter names; frames every 20 ms.

    Unlike HF's it takes any length up to `config.max_source_positions` frames and masks padding:
    in the convolutions (which would leak it) and in the attention.

    Attributes:
      config: HF's configuration.
      dtype: of the computation.
      remat: `layers` computes each layer again in the backward pass instead of storing it.
    """

    config: WhisperConfig
    dtype: jnp.dtype = jnp.float32
    remat: str = "none"

    @nn.compact
    def __call__(self, audio, audio_length, deterministic: bool = True):
        """float32 [b, n], [b] -> frames [b, t, d] with t = ceil(n // 160 / 2), bool mask [b, t]."""
        features, mel_mask = log_mel(audio, audio_length, self.config.num_mel_bins)
        # No gradient reaches the waveform: spares the backward FFT.
        features = jax.lax.stop_gradient(features).astype(self.dtype)
        hidden = gelu(self._conv("conv1", 1)(features))
        hidden = jnp.where(mel_mask[..., None], hidden, 0)
        hidden = gelu(self._conv("conv2", 2)(hidden))
        mask = mel_mask[:, ::2]
        hidden = self._add_positions(hidden)
        hidden = Dropout(self.config.dropout)(hidden, deterministic)
        layers = Layers(self.config, self.dtype, self.remat, name="layers")
        hidden = layers(hidden, mask, deterministic)
        return nn.LayerNorm(1e-5, dtype=self.dtype, name="layer_norm")(hidden), mask

    def _conv(self, name, stride):
        init = nn.initializers.normal(self.config.init_std)
        return nn.Conv(self.config.d_model, (3,), strides=stride, padding=1, dtype=self.dtype,
                       kernel_init=init, name=name)  # fmt: skip

    def _add_positions(self, hidden):
        t, limit = hidden.shape[1], self.config.max_source_positions
        if t > limit:
            raise ValueError(
                f"{t} frames, but this Whisper has positions for {limit} (20 ms each)."
            )
        positions = nn.Embed(
            limit,
            self.config.d_model,
            embedding_init=sinusoidal_embedding_init,
            dtype=self.dtype,
            name="embed_positions",
        )
        # Fixed sinusoids in Whisper: never trained, pretrained or not.
        return hidden + jax.lax.stop_gradient(positions(jnp.arange(t)))


class Layers(nn.Module):
    """HF's transformer layers, named 0, 1, ... as HF has them."""

    config: WhisperConfig
    dtype: jnp.dtype
    remat: str

    @nn.compact
    def __call__(self, hidden, mask, deterministic):
        """[b, t, d], [b, t] -> [b, t, d]."""
        # Static: output_attentions and deterministic.
        kind = FlaxWhisperEncoderLayer
        if self.remat == "layers":
            kind = nn.remat(kind, static_argnums=(3, 4))
        for i in range(self.config.encoder_layers):
            layer = kind(self.config, dtype=self.dtype, name=str(i))
            with float32_softmax(modeling_flax_whisper):
                hidden = layer(hidden, mask, False, deterministic)[0]
        return hidden
