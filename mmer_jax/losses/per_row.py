"""Losses of single utterances: emotion classification and speech recognition."""

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


def ctc(logits, frame_mask, transcript, transcript_length, valid, normalization: str = "utterance"):
    """-log p(transcript | frames) (Graves et al. 2006), unreduced.

    A transcript that its frames can't spell (a symbol needs a frame, and a doubled symbol a blank
    between) has probability 0; it is masked, as is an empty one.

    Args:
      logits: [b, t, v], blank 0.
      frame_mask: [b, t], 0 on padding.
      transcript: int [b, u].
      transcript_length: int [b].
      valid: bool [b]; False for what is cut, and for rows that fill the batch.
      normalization: `symbol` divides by the transcript's length, as the field's toolkits do;
        `utterance` and `sum` do not.

    Returns:
      values float32 [b], 0 where masked; mask [b].
    """
    real = jnp.arange(transcript.shape[1])[None] < transcript_length[:, None]
    mask = valid & (transcript_length > 0) & _spellable(transcript, real, frame_mask)
    # optax picks log-probabilities by a product with ones and zeros, which must not round them.
    with jax.default_matmul_precision("float32"):
        values = optax.ctc_loss(
            logits.astype(jnp.float32),
            1.0 - (frame_mask > 0).astype(jnp.float32),
            transcript,
            # A masked row gets an empty transcript: optax's -1e5 stand-in for log 0 never enters.
            1.0 - (real & mask[:, None]).astype(jnp.float32),
        )
    if normalization == "symbol":
        values = values / jnp.maximum(transcript_length, 1)
    return jnp.where(mask, values, 0.0), mask


def _spellable(transcript, real, frame_mask):
    doubled = (transcript[:, 1:] == transcript[:, :-1]) & real[:, 1:]
    return (frame_mask > 0).sum(1) >= real.sum(1) + doubled.sum(1)
