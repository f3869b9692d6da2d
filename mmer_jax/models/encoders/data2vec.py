"""data2vec's positions: several thin convolutions, one on the other, each normalised.

Source: Baevski et al. 2022; HF's Data2VecAudio.
"""

import jax.numpy as jnp
from flax import linen as nn

from mmer_jax.models.layers import ACTIVATIONS, EncoderPart, same_conv


class StackedConvs(EncoderPart):
    """`config.num_conv_pos_embeddings` grouped convolutions over the frames."""

    @nn.compact
    def __call__(self, hidden, mask):
        """[b, t, d], bool [b, t] -> [b, t, d]."""
        return _Layers(self.config, self.dtype, name="layers")(hidden, mask)


class _Layers(EncoderPart):
    """Named 0, 1, ... as HF has them."""

    @nn.compact
    def __call__(self, hidden, mask):
        for i in range(self.config.num_conv_pos_embeddings):
            # Each reaches into the padding, where the one before left its bias, normalised. In HF's
            # batches that comes back into the utterance's end; alone, there are zeros.
            hidden = jnp.where(mask[..., None], hidden, 0)
            hidden = PositionalLayer(self.config, self.dtype, name=str(i))(hidden)
        return hidden


class PositionalLayer(EncoderPart):
    """Convolution, LayerNorm without parameters, activation."""

    @nn.compact
    def __call__(self, hidden):
        """[b, t, d] -> [b, t, d]."""
        hidden = PlainConv(self.config, self.dtype, name="conv")(hidden)
        norm = nn.LayerNorm(1e-5, use_bias=False, use_scale=False, dtype=self.dtype)
        return ACTIVATIONS[self.config.feat_extract_activation](norm(hidden))


class PlainConv(EncoderPart):
    """Convolution of `conv_pos_kernel_size` taps; with an even number the frame too many is cut."""

    @nn.compact
    def __call__(self, hidden):
        """[b, t, d] -> [b, t, d]."""
        c = self.config
        taps, groups, width = c.conv_pos_kernel_size, c.num_conv_pos_embedding_groups, c.hidden_size
        shape = (taps, width // groups, width)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros, (width,))
        return same_conv(hidden, kernel, bias, groups, self.dtype)
