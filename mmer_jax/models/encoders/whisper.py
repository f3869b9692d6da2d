"""Whisper's encoder on as many frames as there are, padding masked. Source: Radford et al. 2022."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from transformers import WhisperConfig
from transformers.audio_utils import mel_filter_bank

from mmer_jax.models.encoders.audio import AudioEncoder
from mmer_jax.models.layers import (
    ACTIVATIONS,
    Dropout,
    EncoderPart,
    SelfAttention,
    normal_dense,
)  # fmt: skip
from mmer_jax.ops import gelu

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
    mel = jnp.matmul(power, jnp.asarray(filters, jnp.float32), precision="highest")
    log = jnp.log10(jnp.maximum(mel, 1e-10))
    # Whole hops only, as Whisper counts: then a frame exists alone if it exists in a batch.
    mask = _mask(length // HOP, count)
    kept = mask[..., None]
    peak = jnp.where(kept, log, -jnp.inf).max(axis=(1, 2), keepdims=True)
    return jnp.where(kept, (jnp.maximum(log, peak - 8.0) + 4.0) / 4.0, 0.0), mask


def _mask(lengths, count):
    """[b] -> bool [b, count]; one position at least, so that no attention is over nothing."""
    return jnp.arange(count)[None] < jnp.maximum(lengths, 1)[:, None]


class WhisperEncoder(AudioEncoder):
    """Whisper's encoder with HF's parameter names; frames every 20 ms.

    Unlike HF's it takes any length up to `config.max_source_positions` frames and masks padding:
    in the convolutions (which would leak it) and in the attention.

    Attributes:
      window: `utterance`, its own frames alone; `30s`, silence up to the 30 s that Whisper was
        trained on, which the convolutions and the attention see. Either way what is returned are
        the utterance's frames, whatever the batch.
    """

    window: str = "utterance"

    @nn.compact
    def __call__(self, audio, audio_length, deterministic: bool = True,
                 every_state: bool = False):  # fmt: skip
        """float32 [b, n], [b] -> frames [b, t, d] with t = ceil(n // 160 / 2), bool mask [b, t].

        With `every_state` a list of arrays in the frames' place, as Hugging Face's `hidden_states`:
        what enters the first layer, then what each layer makes of it, the last as without.
        """
        spoken = audio_length // HOP
        own = _mask(spoken, audio.shape[1] // HOP)[:, ::2]
        if self.window == "30s":
            samples = self.longest(self.config)
            audio = jnp.pad(audio, ((0, 0), (0, max(0, samples - audio.shape[1]))))
            audio_length = jnp.full_like(audio_length, samples)
        features, mel_mask = log_mel(audio, audio_length, self.config.num_mel_bins)
        # No gradient reaches the waveform: spares the backward FFT.
        features = jax.lax.stop_gradient(features).astype(self.dtype)
        own_features = _mask(spoken, features.shape[1])
        features = self.spec_augment(features, own_features, deterministic)
        hidden = gelu(self._conv("conv1", 1)(features))
        hidden = jnp.where(mel_mask[..., None], hidden, 0)
        hidden = gelu(self._conv("conv2", 2)(hidden))
        mask = mel_mask[:, ::2]
        hidden = self._add_positions(hidden)
        hidden = Dropout(self.config.dropout)(hidden, deterministic)
        count = self.config.encoder_layers
        layers = self.layers_of(self.config, EncoderLayer, count, name="layers")
        *states, last = layers(hidden, mask, deterministic)
        states.append(nn.LayerNorm(1e-5, dtype=self.dtype, name="layer_norm")(last))
        states = [state[:, : own.shape[1]] for state in states]
        return states if every_state else states[-1], own

    @staticmethod
    def scratch(model_type, options, vocab_size):
        """Hugging Face's config for `config.audio` where nothing is pretrained."""
        size = options.size
        return WhisperConfig(
            d_model=size.width, encoder_layers=size.layers, encoder_attention_heads=size.heads,
            encoder_ffn_dim=size.ffn, dropout=size.dropout, init_std=size.width**-0.5,
        )  # fmt: skip

    @staticmethod
    def longest(config):
        """Samples for which there are positions: the second convolution takes every other hop."""
        return config.max_source_positions * 2 * HOP

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
        positions = nn.Embed(limit, self.config.d_model, embedding_init=_sinusoids,
                             dtype=self.dtype, name="embed_positions")  # fmt: skip
        # Fixed sinusoids in Whisper: never trained, pretrained or not.
        return hidden + jax.lax.stop_gradient(positions(jnp.arange(t)))


def _sinusoids(key, shape, dtype=jnp.float32):
    """Sines, then cosines, of wavelengths from 2 pi to 20 000 pi positions: [n, d]."""
    n, d = shape
    rates = np.exp(-np.log(10_000) / (d // 2 - 1) * np.arange(d // 2))
    phases = np.arange(n)[:, None] * rates
    return jnp.asarray(np.concatenate([np.sin(phases), np.cos(phases)], axis=1), dtype)


class EncoderLayer(EncoderPart):
    """Attention and feed-forward block, each normalised before (pre-norm) and added to its input.

    Dropout as HF's PyTorch applies it; HF's Flax port leaves out that on the attention weights.
    """

    @nn.compact
    def __call__(self, hidden, mask, deterministic, shared=None):
        """[b, t, d], [b, t], None -> [b, t, d], None."""
        c = self.config
        norm = lambda name: nn.LayerNorm(1e-5, dtype=self.dtype, name=name)  # noqa: E731
        attention = SelfAttention(
            c.encoder_attention_heads, c.attention_dropout, c.init_std, self.dtype, key_bias=False,
            name="self_attn",
        )  # fmt: skip
        attended, _ = attention(norm("self_attn_layer_norm")(hidden), mask, deterministic)
        hidden = hidden + Dropout(c.dropout)(attended, deterministic)
        fc1 = normal_dense(c.encoder_ffn_dim, c.init_std, self.dtype, "fc1")
        fc2 = normal_dense(c.d_model, c.init_std, self.dtype, "fc2")
        inner = ACTIVATIONS[c.activation_function](fc1(norm("final_layer_norm")(hidden)))
        inner = Dropout(c.activation_dropout)(inner, deterministic)
        return hidden + Dropout(c.dropout)(fc2(inner), deterministic), shared
