"""Contrast between utterances: same emotion, and original against augmented view."""

import jax
import jax.numpy as jnp

_AWAY = -1e9  # a similarity that no softmax sees


def _unit(z):
    # rsqrt of the clamped square: finite gradient at z = 0, where a norm's is NaN.
    return z * jax.lax.rsqrt(jnp.maximum((z * z).sum(-1, keepdims=True), 1e-12))


def _products(a, b):
    """[n, d], [m, d] -> [n, m]; a similarity over tau = 0.07 enters an exponential."""
    return jnp.matmul(a, b.T, precision="highest")


def supervised_contrastive(z, label, valid, temperature: float = 0.07, memory=None, index=None):
    """Supervised contrast (Khosla et al. 2020, L_out), unreduced.

    -1/|P(i)| sum_{p in P(i)} log( exp(z_i z_p / tau) / sum_{a != i} exp(z_i z_a / tau) ) with
    unit vectors z and P(i) the other utterances of i's class. An utterance alone in its class has
    no positive: it is masked.

    Args:
      z: embeddings [b, d], any length.
      label: int [b].
      valid: bool [b]; False rows are neither anchor, positive nor negative.
      temperature: tau.
      memory: m past embeddings (see `losses/memory_bank.py`) that are positives and negatives as
        well, but no anchors; {} or None for none.
      index: int [b], the rows' utterances: no utterance meets its own past. Needed with a memory.

    Returns:
      values float32 [b], 0 where masked; mask [b].
    """
    z = _unit(z.astype(jnp.float32))
    others = valid[None, :] & ~jnp.eye(len(z), dtype=bool)
    candidates, labels = z, label
    if memory:
        candidates = jnp.concatenate([z, _unit(memory["projection"])])
        labels = jnp.concatenate([label, memory["label"]])
        past = memory["valid"][None, :] & (index[:, None] != memory["index"][None, :])
        others = jnp.concatenate([others, past], axis=1)
    positives = others & (label[:, None] == labels[None, :])
    similarity = _products(z, candidates) / temperature
    log_p = jax.nn.log_softmax(jnp.where(others, similarity, _AWAY), axis=-1)
    count = positives.sum(1)
    mask = valid & (count > 0)
    values = -jnp.where(positives, log_p, 0.0).sum(1) / jnp.maximum(count, 1)
    return jnp.where(mask, values, 0.0), mask


def supervised_contrastive_original(z, label, valid, temperature: float = 0.07):
    """Supervised contrast as MMER's code has it, one value per ordered same-class pair.

    -log softmax_j(z_i z_j) / tau: no unit vectors, self pairs kept, tau after the softmax.

    Args:
      z, label, valid, temperature: as in `supervised_contrastive`.

    Returns:
      values float32 [b, b], 0 where masked; mask [b, b].
    """
    z = z.astype(jnp.float32)
    log_p = jax.nn.log_softmax(jnp.where(valid[None, :], _products(z, z), _AWAY), axis=-1)
    mask = valid[:, None] & valid[None, :] & (label[:, None] == label[None, :])
    return jnp.where(mask, -log_p / temperature, 0.0), mask


def augmented_contrastive(z, z_aug, valid, temperature: float = 0.07, memory=None, index=None):
    """Contrast of each utterance with its augmented view (NT-Xent between views), unreduced.

    Half the sum of -log softmax_j(z_i z'_j / tau) at j = i and the same from z' to z, on unit
    vectors. A row without a negative is masked.

    Args:
      z: embeddings of the originals [b, d].
      z_aug: embeddings of the augmented views [b, d].
      valid: bool [b]; False rows are neither anchor nor negative.
      temperature: tau.
      memory: m past pairs (see `losses/memory_bank.py`) that are negatives as well; {} or None for
        none.
      index: int [b], the rows' utterances: no utterance meets its own past. Needed with a memory.

    Returns:
      values float32 [b], 0 where masked; mask [b].
    """
    z, z_aug = _unit(z.astype(jnp.float32)), _unit(z_aug.astype(jnp.float32))
    kept = jnp.broadcast_to(valid[None, :], (len(z), len(z)))
    past, past_aug = z[:0], z_aug[:0]
    if memory:
        past, past_aug = _unit(memory["projection"]), _unit(memory["aug_projection"])
        other = index[:, None] != memory["index"][None, :]
        kept = jnp.concatenate([kept, memory["aug_valid"][None, :] & other], axis=1)

    def towards(anchors, candidates):
        similarity = _products(anchors, jnp.concatenate(candidates)) / temperature
        return _diagonal(similarity, kept)

    values = (towards(z, (z_aug, past_aug)) + towards(z_aug, (z, past))) / 2
    mask = valid & (kept.sum(1) > 1)
    return jnp.where(mask, values, 0.0), mask


def augmented_contrastive_original(z, z_aug, valid, temperature: float = 0.07):
    """Contrast with the augmented view as MMER's code has it: one direction, no unit vectors.

    Args, Returns: as in `augmented_contrastive`.
    """
    similarity = _products(z.astype(jnp.float32), z_aug.astype(jnp.float32)) / temperature
    return jnp.where(valid, _diagonal(similarity, valid[None, :]), 0.0), valid


def _diagonal(similarity, kept):
    """-log softmax of row i at column i, over the columns that are kept."""
    log_p = jax.nn.log_softmax(jnp.where(kept, similarity, _AWAY), axis=-1)
    return -jnp.diagonal(log_p)
