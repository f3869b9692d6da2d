"""The registry of losses: options, total, ablations and curves derive from its entries.

Plain data without jax: `configuration.py` takes its options and choices from here, though it stands
before the losses. How to add one: docs/extending.md.
"""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Loss:
    """One term of the total loss.

    Its function takes the arrays of `reads` and `batch` in their order, then its options by name,
    and returns unreduced values and a bool mask of one shape. `losses/total.py` takes the mean over
    the mask; the sum where the loss has an option `normalization` and it is `sum`. Where it has
    `class_weights` and they are `balanced`, each row counts by `class_weight` in the batch. An
    option `alphabet` says what the transcripts are made of, see `data/alphabet.py`.

    Attributes:
      title: what it trains, for tables and curves; its short form is the name in capitals.
      function: `package.module:name`.
      reads: names in the model's `out`; where one is missing (no speech: no CTC) there is no loss.
      batch: names in the batch.
      options: `config.losses.NAME` with its defaults; of weight 0 it is not computed. A later
        loss has weight 0 by default, so that the configs of before mean what they meant.
      choices: option -> its values, where they are listed.
      between_rows: whether it relates the rows of a whole batch to each other. Then it reads
        embeddings [b, d] alone; else its values are of single rows. Chunks of a batch need that.
      memory_bank: whether a loss between rows takes `memory` and `index` as well, past embeddings
        and the rows' utterances (see `losses/memory_bank.py`).
      original: the function for `form="original"`, the authors' code; it knows no memory bank.
      original_options: options with which it is the authors'.
    """

    title: str
    function: str
    reads: tuple[str, ...]
    batch: tuple[str, ...]
    options: Mapping
    choices: Mapping = dataclasses.field(default_factory=dict)
    between_rows: bool = False
    memory_bank: bool = False
    original: str = ""
    original_options: Mapping = dataclasses.field(default_factory=dict)


FORMS = ("standard", "original")
LOSSES = {
    "ce": Loss(
        title="emotion classification",
        function="mmer_jax.losses.per_row:cross_entropy",
        reads=("logits",),
        batch=("label", "valid"),
        options={"weight": 1.0, "class_weights": "none"},
        choices={"class_weights": ("none", "balanced")},
    ),
    "ctc": Loss(
        title="speech recognition",
        function="mmer_jax.losses.per_row:ctc",
        reads=("ctc_logits", "audio_mask"),
        batch=("transcript", "transcript_length", "ctc_valid"),
        options={"weight": 0.1, "normalization": "utterance", "alphabet": "english"},
        choices={
            "normalization": ("utterance", "symbol", "sum"),
            "alphabet": ("english", "corpus"),
        },
        original_options={"normalization": "sum"},
    ),
    "scl": Loss(
        title="supervised contrast of the emotions",
        function="mmer_jax.losses.contrastive:supervised_contrastive",
        reads=("projection",),
        batch=("label", "valid"),
        options={"weight": 0.1, "form": "standard", "temperature": 0.07},
        choices={"form": FORMS},
        between_rows=True,
        memory_bank=True,
        original="mmer_jax.losses.contrastive:supervised_contrastive_original",
        original_options={"form": "original"},
    ),
    "acl": Loss(
        title="contrast with the augmented view",
        function="mmer_jax.losses.contrastive:augmented_contrastive",
        reads=("projection", "aug_projection"),
        batch=("aug_valid",),
        options={"weight": 0.1, "form": "standard", "temperature": 0.07},
        choices={"form": FORMS},
        between_rows=True,
        memory_bank=True,
        original="mmer_jax.losses.contrastive:augmented_contrastive_original",
        original_options={"form": "original"},
    ),
}


def weighted(losses) -> dict[str, Loss]:
    """The losses of `config.losses` that have a weight, by name."""
    return {name: loss for name, loss in LOSSES.items() if losses[name].weight}


def of_two_views(losses) -> list[str]:
    """Names of those that have a weight and need the augmented view."""
    return [name for name, loss in weighted(losses).items() if "aug_projection" in loss.reads]
