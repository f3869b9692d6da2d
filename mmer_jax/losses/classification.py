"""Cross-entropy of the emotion classes."""

import jax
import jax.numpy as jnp
import optax


def cross_entropy(logits: jax.Array, label: jax.Array, valid: jax.Array):
    """-log softmax(logits)[label], unreduced.

    >>> import jax.numpy as jnp
    >>> values, mask = cross_entropy(jnp.zeros((1, 4)), jnp.array([2]), jnp.array([True]))
    >>> round(float(values[0]), 4)  # log 4
    1.3863

    Args:
      logits: [b, c].
      label: int [b].
      valid: bool [b].

    Returns:
      values float32 [b], 0 where masked; mask [b].
    """
    values = optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), label)
    return jnp.where(valid, values, 0.0), valid
