"""A memory bank: embeddings of past steps as further candidates in the contrastive losses.

Source: Wang et al., "Cross-Batch Memory for Embedding Learning" (CVPR 2020).
"""

import jax
import jax.numpy as jnp

EMPTY = -1  # the utterance index of a place that holds nothing yet


def create(size: int, width: int) -> dict:
    """An empty memory bank of `size` utterances, {} where size is 0.

    Returns:
      projection and aug_projection float32 [m, d], label int32 [m], valid and aug_valid bool [m],
      index int32 [m] (the utterance's row in the corpus); the newest come first.
    """
    if not size:
        return {}
    return {
        "projection": jnp.zeros((size, width)),
        "aug_projection": jnp.zeros((size, width)),
        "label": jnp.zeros((size,), jnp.int32),
        "valid": jnp.zeros((size,), bool),
        "aug_valid": jnp.zeros((size,), bool),
        "index": jnp.full((size,), EMPTY, jnp.int32),
    }


def push(memory: dict, embeddings: dict, batch: dict) -> dict:
    """The memory bank with a batch in front, as long as before: the oldest fall out.

    Args:
      memory: see `create`.
      embeddings: `projection` and, where there is an augmented view, `aug_projection` [b, d].
      batch: the batch they are of.
    """
    if not memory:
        return memory
    z = embeddings["projection"]
    newest = {
        "projection": z,
        "aug_projection": embeddings.get("aug_projection", jnp.zeros_like(z)),
        "label": batch["label"],
        "valid": batch["valid"],
        "aug_valid": batch.get("aug_valid", jnp.zeros_like(batch["valid"])),
        "index": batch["index"],
    }

    def shift(new, old):
        new = jax.lax.stop_gradient(new).astype(old.dtype)
        return jnp.concatenate([new, old])[: len(old)]

    return {name: shift(newest[name], old) for name, old in memory.items()}


def usable(memory: dict, started: jax.Array) -> dict:
    """The memory bank, invalid until `started`: early embeddings drift too fast to keep."""
    return memory | {name: memory[name] & started for name in ("valid", "aug_valid") if memory}
