"""Attention and feed-forward blocks of the audio encoders: HF's parameter names."""

import jax.numpy as jnp
from flax import linen as nn

from mmer_jax.models.activations import activation
from mmer_jax.models.attention import attend, weights_shape
from mmer_jax.models.dropout import Dropout


class SelfAttention(nn.Module):
    """softmax(Q K^T / sqrt(d_head)) V over heads; softmax in float32.

    Every row, head and pair of frames has its own dropout, as in PyTorch; HF's Flax block draws
    one mask for all rows and heads.

    Attributes:
      heads: divides d.
      dropout: rate on the attention weights.
      init_std: of the kernels' normal distribution.
      dtype: of the computation.
      key_bias: whether keys have one; Whisper's have none.
    """

    heads: int
    dropout: float
    init_std: float
    dtype: jnp.dtype = jnp.float32
    key_bias: bool = True

    @nn.compact
    def __call__(self, hidden, mask, deterministic: bool = True):
        """[b, t, d], bool [b, t] -> [b, t, d]."""

        def dense(name, bias=True):
            return normal_dense(hidden.shape[-1], self.init_std, self.dtype, name, bias)

        def project(name, bias=True):
            x = dense(name, bias)(hidden)
            return x.reshape(*x.shape[:2], self.heads, -1)

        q, k, v = project("q_proj"), project("k_proj", self.key_bias), project("v_proj")
        drawn = Dropout(self.dropout).draw(weights_shape(q, k), deterministic)
        merged, _ = attend(q, k, v, mask, *drawn)
        return dense("out_proj")(merged.reshape(hidden.shape))


class FeedForward(nn.Module):
    """wav2vec 2.0's Linear, activation and Linear, dropout after each.

    Attributes:
      config: HF's `Wav2Vec2Config` or `HubertConfig`.
      dtype: of the computation.
    """

    config: object
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, hidden, deterministic: bool = True):
        """[b, t, d] -> [b, t, d]."""
        c = self.config
        options = c.initializer_range, self.dtype
        inner = normal_dense(c.intermediate_size, *options, "intermediate_dense")(hidden)
        inner = Dropout(c.activation_dropout)(activation(c.hidden_act)(inner), deterministic)
        outer = normal_dense(c.hidden_size, *options, "output_dense")(inner)
        return Dropout(c.hidden_dropout)(outer, deterministic)


def normal_dense(features, init_std, dtype, name, bias=True):
    """Linear layer whose kernel is drawn from a normal distribution."""
    init = nn.initializers.normal(init_std)
    return nn.Dense(features, use_bias=bias, dtype=dtype, kernel_init=init, name=name)
