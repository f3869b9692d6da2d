"""The wav2vec 2.0 family, base and large: HF's config and parameter names, padding masked.

HF's Flax port runs the large wav2vec2 only (layer norm in the convolutions, pre-norm layers); this
one adds the base variant (group norm, post-norm) and keeps padding out of every statistic. By
model_type the registry says where positions come from and how frames attend to each other.
Sources: Baevski et al. 2020; Hsu et al. 2021 (HuBERT); Babu et al. 2022 (XLS-R).
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from transformers import AutoConfig

from mmer_jax.models.encoders import completed, part
from mmer_jax.models.encoders.audio import AudioEncoder
from mmer_jax.models.layers import (
    ACTIVATIONS,
    Dropout,
    EncoderPart,
    normal_dense,
    rematerialized,
    same_conv,
)  # fmt: skip


def frame_count(samples, config):
    """Frames that `samples` samples give, at least 1: int or int array -> the same.

    Each convolution without padding turns n positions into (n - kernel) // stride + 1.
    """
    for kernel, stride in zip(config.conv_kernel, config.conv_stride):
        samples = (samples - kernel) // stride + 1
    return jnp.maximum(samples, 1)


def frame_mask(samples, frames: int, config):
    """Which of `frames` frames are an utterance's own: int [b] -> bool [b, frames]."""
    return jnp.arange(frames)[None] < frame_count(samples, config)[:, None]


class Wav2Vec2Encoder(AudioEncoder):
    """Raw waveform -> contextual frames every 20 ms.

    Attributes:
      original_padding: lets padding into the encoder's norms, convolutions and attention, as
        MMER's original code does.
    """

    original_padding: bool = False

    @nn.compact
    def __call__(self, audio, audio_length, deterministic: bool = True, every_state: bool = False,
                 convolved=None):  # fmt: skip
        """float32 [b, n], [b] -> frames [b, t, d], bool mask [b, t].

        With `every_state` a list of arrays in the frames' place, as Hugging Face's `hidden_states`:
        what enters the first layer, then what each layer makes of it, the last as without.

        The mask is the utterances' own with `original_padding` too: the original fusion, pooling
        and CTC leave out the padded frames that its encoder let in.

        With `convolved`, what `convolutions` gives, audio and its length are not read.
        """
        config = completed(self.config)
        options = (config, self.dtype, self.remat)
        if convolved is not None:
            features, mask = convolved
            features, seen_mask = features.astype(self.dtype), mask
        else:
            seen = audio_length
            if self.original_padding:
                seen = jnp.full_like(audio_length, audio.shape[1])
            features = FeatureExtractor(*options, name="feature_extractor")(audio, seen)
            mask, seen_mask = (
                frame_mask(n, features.shape[1], config) for n in (audio_length, seen)
            )
        hidden = FeatureProjection(config, self.dtype, name="feature_projection")(
            features, deterministic
        )
        fill = 0.0
        if self.mask_time_prob:
            init = nn.initializers.uniform(1.0)
            fill = self.param("masked_spec_embed", init, hidden.shape[-1:])
        hidden = self.spec_augment(hidden, seen_mask, deterministic, fill)
        count = config.num_hidden_layers
        layers = self.layers_of(config, TransformerLayer, count, parent=None)
        encoder = TransformerEncoder(*options, layers, name="encoder")
        states = encoder(hidden, seen_mask, deterministic)
        return states if every_state else states[-1], mask

    def convolutions(self, params, audio, audio_length):
        """What its convolutions give alone, as `__call__` takes it: no dropout is in them.

        Args:
          params: of `feature_extractor`.
          audio, audio_length: float32 [b, n], [b].

        Returns:
          [b, t, channels], bool mask [b, t].
        """
        config = completed(self.config)
        extractor = FeatureExtractor(config, self.dtype, self.remat, parent=None)
        features = extractor.apply({"params": params}, audio, audio_length)
        return features, frame_mask(audio_length, features.shape[1], config)

    @staticmethod
    def scratch(model_type, options, vocab_size):
        """Hugging Face's config for `config.audio` where nothing is pretrained."""
        size = options.size
        return AutoConfig.for_model(
            model_type, hidden_size=size.width, num_hidden_layers=size.layers,
            num_attention_heads=size.heads, intermediate_size=size.ffn,
            hidden_dropout=size.dropout, attention_dropout=size.dropout,
            feat_proj_dropout=size.dropout, activation_dropout=size.dropout,
            initializer_range=size.width**-0.5, conv_dim=(options.conv_channels,) * 7,
            num_conv_pos_embedding_groups=min(16, size.width),
        )  # fmt: skip

    @staticmethod
    def longest(config):
        """No limit: its positions are a convolution's."""
        return None


class FeatureExtractor(EncoderPart):
    """The convolutions."""

    @nn.compact
    def __call__(self, audio, audio_length):
        """float32 [b, n], [b] -> [b, t, channels]."""
        layers = ConvLayers(self.config, self.dtype, self.remat, name="conv_layers")
        return layers(audio[..., None].astype(self.dtype), audio_length)


class ConvLayers(EncoderPart):
    """The convolution layers, named 0, 1, ... as HF has them."""

    @nn.compact
    def __call__(self, hidden, lengths):
        """[b, n, 1], [b] -> [b, t, channels]."""
        kind = rematerialized(ConvLayer, self.remat)
        for i in range(self.config.num_feat_extract_layers):
            layer = kind(self.config, self.dtype, index=i, name=str(i))
            hidden, lengths = layer(hidden, lengths)
        return hidden


class ConvLayer(EncoderPart):
    """Convolution, norm (none, group or layer) and activation of layer `index`."""

    index: int = 0

    @nn.compact
    def __call__(self, hidden, lengths):
        """[b, n, c], lengths [b] -> [b, m, c'], lengths [b]."""
        c, i = self.config, self.index
        hidden = nn.Conv(
            c.conv_dim[i], (c.conv_kernel[i],), strides=c.conv_stride[i], padding="VALID",
            use_bias=c.conv_bias, kernel_init=nn.initializers.he_normal(), dtype=self.dtype,
            name="conv",
        )(hidden)  # fmt: skip
        lengths = jnp.maximum((lengths - c.conv_kernel[i]) // c.conv_stride[i] + 1, 1)
        if c.feat_extract_norm == "layer":
            hidden = nn.LayerNorm(1e-5, dtype=self.dtype, name="layer_norm")(hidden)
        elif i == 0:
            hidden = ChannelNorm(name="layer_norm")(hidden, lengths).astype(self.dtype)
        return ACTIVATIONS[c.feat_extract_activation](hidden), lengths


class ChannelNorm(nn.Module):
    """Group norm with one group per channel: each channel over the utterance's own frames.

    HF's statistics run over the padding too, so that there an utterance's features depend on what
    it is batched with.
    """

    @nn.compact
    def __call__(self, x, lengths):
        """[b, n, c], [b] -> float32 [b, n, c]."""
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
        x = x.astype(jnp.float32)
        kept = (jnp.arange(x.shape[1])[None] < lengths[:, None])[..., None]
        count = lengths[:, None, None].astype(jnp.float32)
        mean = jnp.where(kept, x, 0).sum(1, keepdims=True) / count
        variance = jnp.where(kept, (x - mean) ** 2, 0).sum(1, keepdims=True) / count
        return (x - mean) / jnp.sqrt(variance + 1e-5) * scale + bias


class FeatureProjection(EncoderPart):
    """LayerNorm, Linear and dropout: convolution channels -> d."""

    @nn.compact
    def __call__(self, features, deterministic):
        """[b, t, channels] -> [b, t, d]."""
        c = self.config
        if getattr(c, "feat_proj_layer_norm", True):  # HuBERT can switch it off
            features = nn.LayerNorm(c.layer_norm_eps, dtype=self.dtype, name="layer_norm")(features)
        dense = normal_dense(c.hidden_size, c.initializer_range, self.dtype, "projection")
        return Dropout(c.feat_proj_dropout)(dense(features), deterministic)


class TransformerEncoder(EncoderPart):
    """Positional convolution and transformer layers, post-norm (base) or pre-norm (large)."""

    layers: nn.Module | None = None

    @nn.compact
    def __call__(self, hidden, mask, deterministic):
        """[b, t, d], [b, t] -> arrays [b, t, d]: the layers' input, then after each layer."""
        c = self.config
        norm = nn.LayerNorm(c.layer_norm_eps, dtype=self.dtype, name="layer_norm")
        # The positional convolution reaches 64 frames: it must not see what stands in the padding.
        hidden = jnp.where(mask[..., None], hidden, 0)
        positions = part(c, "positions")(c, self.dtype, name="pos_conv_embed")
        hidden += positions(hidden, mask)
        if not c.do_stable_layer_norm:
            hidden = norm(hidden)
        hidden = Dropout(c.hidden_dropout)(hidden, deterministic)
        *states, last = self.layers(hidden, mask, deterministic)
        return [*states, norm(last) if c.do_stable_layer_norm else last]


class PositionalConv(EncoderPart):
    """Grouped convolution over the frames under weight norm, and its activation."""

    @nn.compact
    def __call__(self, hidden, mask=None):
        """[b, t, d], 0 in the padding -> [b, t, d]; the mask is not needed."""
        hidden = WeightNormConv(self.config, self.dtype, name="conv")(hidden)
        return ACTIVATIONS[self.config.feat_extract_activation](hidden)


class WeightNormConv(EncoderPart):
    """Convolution whose kernel is weight_g * weight_v / |weight_v|, one norm per tap.

    The parameters have PyTorch's names and layout, [d, d / groups, taps].
    """

    @nn.compact
    def __call__(self, hidden):
        """[b, t, d] -> [b, t, d]; with an even number of taps the frame too many is cut."""
        c = self.config
        taps, groups = c.num_conv_pos_embeddings, c.num_conv_pos_embedding_groups
        shape = (c.hidden_size, c.hidden_size // groups, taps)
        v = self.param("weight_v", nn.initializers.he_normal(), shape)
        g = self.param("weight_g", lambda _: _norm(v))
        bias = self.param("bias", nn.initializers.zeros, (c.hidden_size,))
        return same_conv(hidden, (v / _norm(v) * g).T, bias, groups, self.dtype)


def _norm(v):
    return jnp.linalg.norm(v, axis=(0, 1), keepdims=True)


class TransformerLayer(EncoderPart):
    """Attention and feed-forward block with the norms after (base) or before (large)."""

    @nn.compact
    def __call__(self, hidden, mask, deterministic, shared=None):
        """[b, t, d], [b, t], shared -> [b, t, d], shared: see `SelfAttention.relative`."""
        c = self.config
        norm = lambda name: nn.LayerNorm(c.layer_norm_eps, dtype=self.dtype, name=name)  # noqa: E731
        before, after = norm("layer_norm"), norm("final_layer_norm")
        attention = part(c, "attention").of(c, self.dtype, name="attention")
        feed_forward = FeedForward(c, self.dtype, name="feed_forward")
        x = before(hidden) if c.do_stable_layer_norm else hidden
        attended, shared = attention(x, mask, deterministic, shared)
        hidden = hidden + Dropout(c.hidden_dropout)(attended, deterministic)
        if not c.do_stable_layer_norm:
            hidden = before(hidden)
            return after(hidden + feed_forward(hidden, deterministic)), shared
        hidden = hidden + feed_forward(after(hidden), deterministic)
        if getattr(c, "adapter_attn_dim", None) is not None:
            hidden = hidden + LanguageAdapter(c, self.dtype, name="adapter_layer")(hidden)
        return hidden, shared


class LanguageAdapter(EncoderPart):
    """LayerNorm, Linear, ReLU and Linear of one language after a layer (MMS, Pratap 2024)."""

    @nn.compact
    def __call__(self, hidden):
        """[b, t, d] -> [b, t, d]."""
        c = self.config
        options = c.initializer_range, self.dtype
        inner = nn.LayerNorm(1e-5, dtype=self.dtype, name="norm")(hidden)
        inner = jax.nn.relu(normal_dense(c.adapter_attn_dim, *options, "linear_1")(inner))
        return normal_dense(c.hidden_size, *options, "linear_2")(inner)


class FeedForward(EncoderPart):
    """Linear, activation and Linear, dropout after each."""

    @nn.compact
    def __call__(self, hidden, deterministic: bool = True):
        """[b, t, d] -> [b, t, d]."""
        c = self.config
        options = c.initializer_range, self.dtype
        inner = normal_dense(c.intermediate_size, *options, "intermediate_dense")(hidden)
        inner = Dropout(c.activation_dropout)(ACTIVATIONS[c.hidden_act](inner), deterministic)
        outer = normal_dense(c.hidden_size, *options, "output_dense")(inner)
        return Dropout(c.hidden_dropout)(outer, deterministic)
