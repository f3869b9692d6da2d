"""Activation functions by Hugging Face's names, and a GELU that stores its input alone."""

import functools

import jax
import jax.numpy as jnp

from mmer_jax.errors import UserError


def activation(name: str):
    """The function that a Hugging Face config names; its exact GELU is the one below.

    Raises:
      UserError: none of `FUNCTIONS`.
    """
    if name not in FUNCTIONS:
        raise UserError(
            f"The activation function {name!r} is not supported; the choices are: "
            f"{', '.join(FUNCTIONS)}."
        )
    return FUNCTIONS[name]


@jax.custom_vjp
def gelu(x: jax.Array) -> jax.Array:
    """X * Phi(x), Phi the normal distribution's, computed in float32: any shape, x's dtype.

    What autodiff stores of jax.nn.gelu is two more arrays of x's size, the largest of a
    transformer layer. Source: Hendrycks and Gimpel 2016.
    """
    wide = x.astype(jnp.float32)
    return (wide * _normal_cdf(wide)).astype(x.dtype)


def _normal_cdf(x):
    return 0.5 + 0.5 * jax.lax.erf(x * 0.5**0.5)


def _forward(x):
    return gelu(x), x


def _backward(x, dy):
    wide = x.astype(jnp.float32)
    # 1 - Phi(-x), or XLA would find Phi(x) computed already, and keep it from the forward pass.
    slope = 1 - _normal_cdf(-wide) + wide * jnp.exp(-0.5 * wide**2) * (2 * jnp.pi) ** -0.5
    return ((dy * slope).astype(x.dtype),)


gelu.defvjp(_forward, _backward)

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
# Those of them that Hugging Face's Flax blocks of BERT and RoBERTa lack, by a name that they have.
FLAX_NAMES = {
    "gelu_python": "gelu",
    **dict.fromkeys(("gelu_fast", "gelu_accurate", "gelu_python_tanh"), "gelu_new"),
}
