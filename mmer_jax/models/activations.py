"""Activation functions by Hugging Face's names, and a GELU that stores its input alone."""

import jax
import jax.numpy as jnp
from transformers.modeling_flax_utils import ACT2FN


def activation(name: str):
    """The function that a Hugging Face config names; its exact GELU is the one below."""
    return gelu if name == "gelu" else ACT2FN[name]


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
