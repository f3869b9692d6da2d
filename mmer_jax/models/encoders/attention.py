"""wav2vec 2.0's attention and feed-forward blocks: HF's parameter names, dropout per element."""

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
      config: HF's `Wav2Vec2Config` or `HubertConfig`.
      dtype: of the computation.
    """

    config: object
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, hidden, mask, deterministic: bool = True):
        """[b, t, d], bool [b, t] -> [b, t, d]."""
        c = self.config
        heads = c.num_attention_heads

        def project(name):
            x = _dense(c, c.hidden_size, self.dtype, name)(hidden)
            return x.reshape(*x.shape[:2], heads, -1)

        q, k, v = project("q_proj"), project("k_proj"), project("v_proj")
        drawn = Dropout(c.attention_dropout).draw(weights_shape(q, k), deterministic)
        merged, _ = attend(q, k, v, mask, *drawn)
        return _dense(c, c.hidden_size, self.dtype, "out_proj")(merged.reshape(hidden.shape))


class FeedForward(nn.Module):
    """Linear, activation and Linear, dropout after each.

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
        inner = _dense(c, c.intermediate_size, self.dtype, "intermediate_dense")(hidden)
        inner = Dropout(c.activation_dropout)(activation(c.hidden_act)(inner), deterministic)
        outer = _dense(c, c.hidden_size, self.dtype, "output_dense")(inner)
        return Dropout(c.hidden_dropout)(outer, deterministic)


def _dense(config, features, dtype, name):
    init = nn.initializers.normal(config.initializer_range)
    return nn.Dense(features, dtype=dtype, kernel_init=init, name=name)
