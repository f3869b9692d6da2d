"""The one place where the losses are reduced, weighted and added.

Losses of single rows are sums over rows: a batch's is made of its chunks'. Losses between rows
need the whole batch's embeddings. `total_loss` is both on one batch; `training/gradients.py` calls
the parts.
"""

import pkgutil

import jax
import jax.numpy as jnp

from mmer_jax import losses as registry

# What the losses between rows read.
EMBEDDINGS = tuple(
    dict.fromkeys(x for loss in registry.LOSSES.values() if loss.between_rows for x in loss.reads)
)

NOT_OF_FUNCTION = ("weight", "form", "class_weights", "alphabet")  # options used elsewhere


def total_loss(out: dict, batch: dict, losses, memory=None) -> tuple[jax.Array, dict]:
    """L = sum of w_k L_k over the losses k of a batch, in MMER: CE, CTC, SCL and ACL.

    A loss of weight 0 is not computed; nor is one whose input the model lacks (no speech: no CTC;
    no augmented view: no ACL). The rows that a mask takes out count in no mean.

    Args:
      out: what the model returned, `logits` included.
      batch: the batch it was given.
      losses: `config.losses`.
      memory: past embeddings, see `losses/memory_bank.py`.

    Returns:
      The total, and each loss by its name in the registry, reduced and unweighted.
    """
    sums, counts = row_sums(out, batch, losses)
    values = row_means(sums, counts, losses) | pair_losses(out, batch, losses, memory)
    return weighted(values, losses), values


def weighted(values: dict, losses) -> jax.Array:
    """The weighted sum of losses by name."""
    return sum(losses[name].weight * value for name, value in values.items())


def row_sums(out: dict, batch: dict, losses) -> tuple[dict, dict]:
    """The losses of single rows summed over them, and how many rows count in each."""
    found = _compute(False, out, batch, losses)
    return {k: v.sum() for k, (v, _) in found.items()}, {k: m.sum() for k, (_, m) in found.items()}


def row_means(sums: dict, counts: dict, losses) -> dict:
    """Reduced losses of single rows from the sums and counts of the whole batch."""
    return {k: _reduced(v, counts[k], losses[k]) for k, v in sums.items()}


def pair_losses(out: dict, batch: dict, losses, memory=None) -> dict:
    """The losses between the rows of a whole batch, reduced; `out` needs only `EMBEDDINGS`."""
    found = _compute(True, out, batch, losses, memory)
    return {k: _reduced(v.sum(), m.sum(), losses[k]) for k, (v, m) in found.items()}


def _compute(between_rows, out, batch, losses, memory=None):
    """Loss by name -> unreduced values and mask."""
    return {
        name: _values(loss, out, batch, losses[name], memory)
        for name, loss in registry.weighted(losses).items()
        if loss.between_rows == between_rows and all(x in out for x in loss.reads)
    }


def _values(loss, out, batch, options, memory):
    original = options.get("form") == "original"
    arrays = [out[x] for x in loss.reads] + [batch[x] for x in loss.batch]
    settings = {k: v for k, v in options.items() if k not in NOT_OF_FUNCTION}
    if memory and loss.memory_bank and not original:
        settings |= {"memory": memory, "index": batch["index"]}
    function = pkgutil.resolve_name(loss.original if original else loss.function)
    values, mask = function(*arrays, **settings)
    if options.get("class_weights", "none") == "balanced":
        values = values * batch["class_weight"]
    return values, mask


def _reduced(total, count, options):
    return total if options.get("normalization") == "sum" else total / jnp.maximum(count, 1)
