"""Blocks that the audio encoders share, and activation functions by Hugging Face's names."""

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn

from mmer_jax.errors import UserError
from mmer_jax.models.layers import Dropout, rematerialized
from mmer_jax.ops import attend, gelu
from mmer_jax.ops.attention import weights_shape


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


class Layers(nn.Module):
    """Transformer layers, named 0, 1, ... as HF has them.

    Attributes:
      kind: the class of a layer, made of `config` and `dtype`.
      count: how many.
      config: HF's.
      dtype: of the computation.
      remat: `layers` computes each layer again in the backward pass instead of storing it.
    """

    kind: type[nn.Module]
    count: int
    config: object
    dtype: jnp.dtype = jnp.float32
    remat: str = "none"

    @nn.compact
    def __call__(self, hidden, mask, deterministic):
        """[b, t, d], [b, t] -> [b, t, d]."""
        kind = rematerialized(self.kind, self.remat, deterministic_at=3)
        for i in range(self.count):
            hidden = kind(self.config, self.dtype, name=str(i))(hidden, mask, deterministic)
        return hidden


def normal_dense(features, init_std, dtype, name, bias=True):
    """Linear layer whose kernel is drawn from a normal distribution."""
    init = nn.initializers.normal(init_std)
    return nn.Dense(features, use_bias=bias, dtype=dtype, kernel_init=init, name=name)


def activation(name: str):
    """The function that a Hugging Face config names.

    Raises:
      UserError: none of `FUNCTIONS`.
    """
    if name not in FUNCTIONS:
        raise UserError(
            f"The activation function {name!r} is not supported; the choices are: "
            f"{', '.join(FUNCTIONS)}."
        )
    return FUNCTIONS[name]


_tanh_gelu = functools.partial(jax.nn.gelu, approximate=True)

# Hugging Face's names, all but those of functions with parameters of their own (prelu, xielu).
FUNCTIONS = {
    "gelu": gelu,
    "gelu_python": gelu,
    "gelu_10": lambda x: jnp.clip(gelu(x), -10, 10),
    "gelu_new": _tanh_gelu,
    "gelu_fast": _tanh_gelu,
    "gelu_accurate": _tanh_gelu,
    "gelu_pytorch_tanh": _tanh_gelu,
    "gelu_python_tanh": _tanh_gelu,
    "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
    "laplace": lambda x: 0.5 + 0.5 * jax.lax.erf((x - 0.707107) / (0.282095 * 2**0.5)),
    "leaky_relu": jax.nn.leaky_relu,
    "linear": lambda x: x,
    "mish": jax.nn.mish,
    "relu": jax.nn.relu,
    "relu2": lambda x: jnp.square(jax.nn.relu(x)),
    "relu6": jax.nn.relu6,
    "sigmoid": jax.nn.sigmoid,
    "silu": jax.nn.silu,
    "swish": jax.nn.silu,
    "tanh": jnp.tanh,
}
