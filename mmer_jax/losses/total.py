"""The one place where the four losses are reduced, weighted and added.

CE and CTC are sums over rows: a batch's is made of its chunks'. SCL and ACL relate every row to
every other one and need the whole batch's embeddings. `total_loss` is both on one batch;
`training/grad_cache.py` calls the parts.
"""

import jax
import jax.numpy as jnp

from mmer_jax.losses import contrastive
from mmer_jax.losses.classification import cross_entropy
from mmer_jax.losses.ctc import ctc

EMBEDDINGS = ("projection", "aug_projection")  # what the losses between rows read


def total_loss(out: dict, batch: dict, losses, memory=None) -> tuple[jax.Array, dict]:
    """L = w_ce CE + w_ctc CTC + w_scl SCL + w_acl ACL over a batch.

    A loss of weight 0 is not computed; nor is one whose input the model lacks (no speech: no CTC;
    no augmented view: no ACL). The rows that a mask takes out count in no mean.

    Args:
      out: what the model returned, `logits` included.
      batch: the batch it was given.
      losses: `config.losses`.
      memory: past embeddings, see `losses/memory_bank.py`.

    Returns:
      The total, and each loss by name (`ce`, `ctc`, `scl`, `acl`), reduced and unweighted.
    """
    sums, counts = row_sums(out, batch, losses)
    values = row_means(sums, counts, losses) | pair_losses(out, batch, losses, memory)
    return weighted(values, losses), values


def weighted(values: dict, losses) -> jax.Array:
    """The weighted sum of losses by name."""
    return sum(losses[name].weight * value for name, value in values.items())


def row_sums(out: dict, batch: dict, losses) -> tuple[dict, dict]:
    """CE and CTC summed over the rows, and the number of rows that count in each."""
    found = {}
    if losses.ce.weight and "logits" in out:
        found["ce"] = cross_entropy(out["logits"], batch["label"], batch["valid"])
    if losses.ctc.weight and "ctc_logits" in out:
        found["ctc"] = ctc(
            out["ctc_logits"], out["audio_mask"], batch["transcript"], batch["transcript_length"],
            batch["ctc_valid"], per_symbol=losses.ctc.normalization == "symbol",
        )  # fmt: skip
    return {k: v[0].sum() for k, v in found.items()}, {k: v[1].sum() for k, v in found.items()}


def row_means(sums: dict, counts: dict, losses) -> dict:
    """CE and CTC from the sums and counts of the whole batch; CTC may stay a sum."""
    summed = {"ctc"} if losses.ctc.normalization == "sum" else ()
    return {k: v if k in summed else v / jnp.maximum(counts[k], 1) for k, v in sums.items()}


def pair_losses(out: dict, batch: dict, losses, memory=None) -> dict:
    """SCL and ACL of a whole batch, reduced; `out` need hold no more than `EMBEDDINGS`."""
    values = {}
    if losses.scl.weight and "projection" in out:
        args = (out["projection"], batch["label"], batch["valid"])
        literature, released = (
            contrastive.supervised_contrastive,
            contrastive.supervised_contrastive_released,
        )
        values["scl"] = _contrast(literature, released, args, batch, losses.scl, memory)
    if losses.acl.weight and "aug_projection" in out:
        args = (out["projection"], out["aug_projection"], batch["aug_valid"])
        literature, released = (
            contrastive.augmented_contrastive,
            contrastive.augmented_contrastive_released,
        )
        values["acl"] = _contrast(literature, released, args, batch, losses.acl, memory)
    return values


def _contrast(literature, released, args, batch, options, memory):
    if options.form == "released":
        return _mean(released(*args, options.temperature))
    return _mean(literature(*args, options.temperature, memory, batch.get("index")))


def _mean(values_and_mask):
    values, mask = values_and_mask
    return values.sum() / jnp.maximum(mask.sum(), 1)
