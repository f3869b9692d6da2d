"""Which dimension of which parameter lies on which mesh axis: the one place that says so.

A rule is a regex that a parameter's whole path (`a/b/kernel`) matches, and its PartitionSpec; the
first match counts. Rules come in groups, one per kind of part, and a group is used where its part
is in the model. Megatron's pattern (Shoeybi et al. 2019): of two matrices in a row the first is
split by its columns on `model` and the second by its rows, so that one sum follows, not two; the
other dimension is split on `fsdp`.
"""

import re

from jax.sharding import PartitionSpec as P

from mmer_jax.errors import UserError

_COLUMNS, _ROWS, _WHOLE = P("fsdp", "model"), P("model", "fsdp"), P()
_VECTORS = (r".*/(bias|scale)", _WHOLE)

# Group -> (a path that tells that the part is there, its rules).
GROUPS = {
    "wav2vec2 and HuBERT": (
        r"audio_encoder/feature_extractor/.*",
        (
            _VECTORS,
            (r"audio_encoder/feature_extractor/.*/kernel", P(None, None, "fsdp")),
            (r"audio_encoder/feature_projection/projection/kernel", P("fsdp", None)),
            (r"audio_encoder/encoder/pos_conv_embed/conv/weight_g", _WHOLE),
            (r"audio_encoder/encoder/pos_conv_embed/conv/weight_v", P("fsdp", None, None)),
            (r"audio_encoder/.*/attention/(q|k|v)_proj/kernel", _COLUMNS),
            (r"audio_encoder/.*/attention/out_proj/kernel", _ROWS),
            (r"audio_encoder/.*/feed_forward/intermediate_dense/kernel", _COLUMNS),
            (r"audio_encoder/.*/feed_forward/output_dense/kernel", _ROWS),
        ),
    ),
    "Whisper": (
        r"audio_encoder/conv1/.*",
        (
            _VECTORS,
            (r"audio_encoder/conv[12]/kernel", P(None, None, "fsdp")),
            (r"audio_encoder/embed_positions/embedding", _WHOLE),
            (r"audio_encoder/.*/self_attn/(q|k|v)_proj/kernel", _COLUMNS),
            (r"audio_encoder/.*/self_attn/out_proj/kernel", _ROWS),
            (r"audio_encoder/.*/fc1/kernel", _COLUMNS),
            (r"audio_encoder/.*/fc2/kernel", _ROWS),
        ),
    ),
    "BERT and RoBERTa": (
        r"text_encoder/.*",
        (
            _VECTORS,
            (r"text_encoder/embeddings/.*/embedding", P(None, "fsdp")),
            (r"text_encoder/.*/attention/self/(query|key|value)/kernel", _COLUMNS),
            (r"text_encoder/.*/attention/output/dense/kernel", _ROWS),
            (r"text_encoder/.*/intermediate/dense/kernel", _COLUMNS),
            (r"text_encoder/.*/output/dense/kernel", _ROWS),
        ),
    ),
    "fusion network": (
        r"(fusion|text)/.*",
        (
            _VECTORS,
            # `text` alone is the text-only model's one layer.
            (r"(fusion|text)/.*/(query|key|value|intermediate)/kernel", _COLUMNS),
            (r"(fusion|text)/.*/(attention_output|output)/kernel", _ROWS),
        ),
    ),
    "cross-modal fusion": (
        r"fusion/downsample/.*",
        ((r"fusion/(audio_keys|audio_queries|downsample)/kernel", P("fsdp", None)),),
    ),
    "fusion network's gate": (
        r"fusion/gate/.*",
        ((r"fusion/gate/kernel", P("fsdp", None)),),
    ),
    "projection of text of another width": (
        r"(fusion/)?text/projection/.*",
        ((r"(fusion/)?text/projection/kernel", P("fsdp", None)),),
    ),
    "heads": (
        r"emotion/.*",
        (
            _VECTORS,
            (r"(aug_)?projection/hidden/kernel", _COLUMNS),
            (r"(aug_)?projection/output/kernel", _ROWS),
            (r"emotion/linear/kernel", P("fsdp", None)),
        ),
    ),
    "CTC head": (r"ctc/.*", ((r"ctc/linear/kernel", P("fsdp", None)),)),
}


def specs(paths, groups=None) -> dict[str, P]:
    """PartitionSpec of every parameter.

    Args:
      paths: of the model's parameters, all of them.
      groups: as `GROUPS`, which is the default.

    Raises:
      UserError: a path that no rule matches, or a rule of a part that is there matches no path.
    """
    paths = list(paths)
    groups = GROUPS if groups is None else groups
    rules = [
        (name, *rule)
        for name, (marker, group) in groups.items()
        if any(re.fullmatch(marker, path) for path in paths)
        for rule in group
    ]
    for name, pattern, _ in rules:
        if not any(re.fullmatch(pattern, path) for path in paths):
            raise UserError(
                f"The sharding rule {pattern!r} ({name}) matches no parameter of this model. Mend "
                "it in mmer_jax/training/partition_rules.py."
            )
    found = {}
    for path in paths:
        spec = next((s for _, pattern, s in rules if re.fullmatch(pattern, path)), None)
        if spec is None:
            raise UserError(
                f"No sharding rule matches the parameter {path!r}. Add one to "
                "mmer_jax/training/partition_rules.py."
            )
        found[path] = spec
    return found
