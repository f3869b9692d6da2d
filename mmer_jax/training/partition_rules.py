"""Which dimension of which parameter lies on which mesh axis.

A rule is a regex that a parameter's whole path (`a/b/kernel`) matches, and the axes of its
dimensions; the first match counts. An encoder's rules are in its entry of the registry, relative to
it. Megatron's pattern (Shoeybi et al. 2019): of two matrices in a row the first is split by its
columns on `model` and the second by its rows, so that one sum follows, not two; the other dimension
is split on `fsdp`.
"""

import re

from jax.sharding import PartitionSpec as P

from mmer_jax.errors import UserError
from mmer_jax.models.encoders import COLUMNS, ENCODERS, ROWS, WHOLE

_OTHERS = (
    (r".*/(bias|scale)", WHOLE),
    # `text` alone is the text-only model's one layer.
    (r"(fusion/)?text/projection/kernel", ("fsdp", None)),
    (r"(fusion|text)/.*/(query|key|value|intermediate)/kernel", COLUMNS),
    (r"(fusion|text)/.*/(attention_output|output)/kernel", ROWS),
    (r"fusion/(audio_keys|audio_queries|downsample|gate)/kernel", ("fsdp", None)),
    (r"(aug_)?projection/hidden/kernel", COLUMNS),
    (r"(aug_)?projection/output/kernel", ROWS),
    (r"(emotion|ctc)/linear/kernel", ("fsdp", None)),
)


def rules() -> list[tuple[str, tuple]]:
    """All rules in their order: a part that a model lacks has rules that match nothing."""
    encoders = [
        (f"{encoder.modality}_encoder/(?:{path})", axes)
        for encoder in ENCODERS.values()
        for path, axes in encoder.sharding
    ]
    return [*_OTHERS, *encoders]


def specs(paths) -> dict[str, P]:
    """PartitionSpec of every parameter of a model.

    Raises:
      UserError: a path that no rule matches.
    """
    return {path: _spec(path) for path in paths}


def _spec(path):
    for pattern, axes in rules():
        if re.fullmatch(pattern, path):
            return P(*axes)
    raise UserError(
        f"No sharding rule matches the parameter {path!r}. Add one to its encoder's entry in "
        "mmer_jax/models/encoders/__init__.py, or to mmer_jax/training/partition_rules.py."
    )
