"""GELU with a derivative that stores its input alone, and dropout's mask, drawn by bytes."""

import jax
import jax.numpy as jnp

_LEVELS = 256  # of the byte that dropout draws


def plain_gelu(x: jax.Array) -> jax.Array:
    """gelu(x) = x Phi(x), Phi the normal distribution's, by autodiff: any shape, x's dtype.

    Source: Hendrycks and Gimpel 2016.
    """
    return jax.nn.gelu(x, approximate=False)


@jax.custom_vjp
def gelu(x: jax.Array) -> jax.Array:
    """As `plain_gelu`, computed in float32.

    Autodiff stores two more arrays of x's size, which is the largest of a transformer layer.
    """
    wide = x.astype(jnp.float32)
    return (wide * _normal_cdf(wide)).astype(x.dtype)


def _normal_cdf(x):
    return 0.5 + 0.5 * jax.lax.erf(x * 0.5**0.5)


def _gelu_forward(x):
    return gelu(x), x


def _gelu_backward(x, dy):
    wide = x.astype(jnp.float32)
    # 1 - Phi(-x), or XLA would find Phi(x) computed already, and keep it from the forward pass.
    slope = 1 - _normal_cdf(-wide) + wide * jnp.exp(-0.5 * wide**2) * (2 * jnp.pi) ** -0.5
    return ((dy * slope).astype(x.dtype),)


gelu.defvjp(_gelu_forward, _gelu_backward)


def plain_keep_mask(key: jax.Array, rate: float, shape) -> tuple[jax.Array, float]:
    """Keep ~ Bernoulli(1 - rate), and the factor 1 / (1 - rate) that keeps the mean."""
    return jax.random.bernoulli(key, 1 - rate, shape), 1 / (1 - rate)


def keep_mask(key: jax.Array, rate: float, shape) -> tuple[jax.Array, float]:
    """As `plain_keep_mask`, of a quarter of its random bits: drawing is what dropout costs.

    The rate is rounded to 1/256 (0.1 becomes 26/256 = 0.1016), and the factor is that rate's.

    Returns:
      bool of `shape`, True where an element stays; the factor for those.

    Raises:
      ValueError: a rate that leaves nothing.
    """
    dropped = max(1, round(rate * _LEVELS))
    if dropped >= _LEVELS:
        raise ValueError(f"dropout's rate is {rate}; expected 0 to 0.99: nothing would be left.")
    *rows, width = shape
    # Whole words per row, so that the rows of a sharded batch are drawn where they are.
    words = jax.random.bits(key, (*rows, -(-width // 4)), jnp.uint32)
    drawn = jax.lax.bitcast_convert_type(words, jnp.uint8).reshape(*rows, -1)[..., :width]
    return drawn >= dropped, _LEVELS / (_LEVELS - dropped)
