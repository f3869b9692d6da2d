"""The random mask of dropout, drawn by bytes instead of words: drawing is what dropout costs."""

import jax
import jax.numpy as jnp

_LEVELS = 256


def plain_keep_mask(key: jax.Array, rate: float, shape) -> tuple[jax.Array, float]:
    """Keep ~ Bernoulli(1 - rate), and the factor 1 / (1 - rate) that keeps the mean."""
    return jax.random.bernoulli(key, 1 - rate, shape), 1 / (1 - rate)


def keep_mask(key: jax.Array, rate: float, shape) -> tuple[jax.Array, float]:
    """As `plain_keep_mask`, of a quarter of its random bits.

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
