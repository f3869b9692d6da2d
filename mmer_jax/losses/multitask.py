"""The one place where the four losses are reduced, weighted and added."""

import jax
import jax.numpy as jnp

from mmer_jax.losses import contrastive
from mmer_jax.losses.classification import cross_entropy
from mmer_jax.losses.ctc import ctc


def total_loss(out: dict, batch: dict, losses) -> tuple[jax.Array, dict]:
    """L = w_ce CE + w_ctc CTC + w_scl SCL + w_acl ACL over a batch.

    A loss of weight 0 is not computed; nor is one whose input the model lacks (no speech: no CTC;
    no augmented view: no ACL). The rows that a mask takes out count in no mean.

    Args:
      out: what the model returned, `logits` included.
      batch: the batch it was given.
      losses: `config.losses`.

    Returns:
      The total, and each loss by name (`ce`, `ctc`, `scl`, `acl`), reduced and unweighted.
    """
    terms = {
        "ce": lambda: _mean(cross_entropy(out["logits"], batch["label"], batch["valid"])),
        "ctc": lambda: _ctc(out, batch, losses.ctc.form),
        "scl": lambda: _scl(out, batch, losses.scl),
        "acl": lambda: _acl(out, batch, losses.acl),
    }
    needs = {"ce": "logits", "ctc": "ctc_logits", "scl": "projection", "acl": "aug_projection"}
    values = {
        name: term() for name, term in terms.items() if losses[name].weight and needs[name] in out
    }
    return sum(losses[name].weight * value for name, value in values.items()), values


def _mean(values_and_mask):
    values, mask = values_and_mask
    return values.sum() / jnp.maximum(mask.sum(), 1)


def _ctc(out, batch, form):
    released = form == "released"
    values = ctc(
        out["ctc_logits"], out["audio_mask"], batch["transcript"], batch["transcript_length"],
        batch["ctc_valid"], per_symbol=not released,
    )  # fmt: skip
    return values[0].sum() if released else _mean(values)


def _scl(out, batch, options):
    loss = {
        "literature": contrastive.supervised_contrastive,
        "released": contrastive.supervised_contrastive_released,
    }[options.form]
    return _mean(loss(out["projection"], batch["label"], batch["valid"], options.temperature))


def _acl(out, batch, options):
    loss = {
        "literature": contrastive.augmented_contrastive,
        "released": contrastive.augmented_contrastive_released,
    }[options.form]
    embeddings = out["projection"], out["aug_projection"]
    return _mean(loss(*embeddings, batch["aug_valid"], options.temperature))
