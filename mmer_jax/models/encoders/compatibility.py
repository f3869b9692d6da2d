"""Whether our encoders compute what a checkpoint's config and weights say.

An option of Hugging Face's configs is in one of three tables: those that our modules read, those
that change the encoder's states and of which one value is supported, and those that do not change
them. An option of a newer transformers version is in none; it must have its default.
"""

import re

from mmer_jax.errors import UserError
from mmer_jax.models.encoders.blocks import FLAX_NAMES, FUNCTIONS

_AUDIO_READ = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act",
    "hidden_dropout", "activation_dropout", "attention_dropout", "feat_proj_dropout",
    "initializer_range", "layer_norm_eps", "feat_extract_norm", "feat_extract_activation",
    "conv_dim", "conv_stride", "conv_kernel", "conv_bias", "num_conv_pos_embeddings",
    "num_conv_pos_embedding_groups", "num_feat_extract_layers", "do_stable_layer_norm",
)  # fmt: skip
_TEXT_READ = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
    "hidden_act", "hidden_dropout_prob", "attention_probs_dropout_prob", "max_position_embeddings",
    "type_vocab_size", "initializer_range", "layer_norm_eps", "pad_token_id",
)  # fmt: skip
READ = {
    "wav2vec2": _AUDIO_READ,
    "hubert": (*_AUDIO_READ, "feat_proj_layer_norm"),
    "whisper": (
        "d_model", "encoder_layers", "encoder_attention_heads", "encoder_ffn_dim", "num_mel_bins",
        "max_source_positions", "activation_function", "dropout", "attention_dropout",
        "activation_dropout", "init_std",
    ),
    "bert": _TEXT_READ,
    "roberta": _TEXT_READ,
}  # fmt: skip

# Option -> values of it that are supported; anything else changes the states.
_EVERYWHERE = {"pruned_heads": ({}, None), "quantization_config": (None,)}
_ADAPTERS = {"add_adapter": (False,), "adapter_attn_dim": (None,)}
_CONVOLUTIONS = {"feat_extract_norm": ("group", "layer")}
_ACTIVATIONS = {"hidden_act": tuple(FUNCTIONS), "feat_extract_activation": tuple(FUNCTIONS)}
# What Hugging Face's Flax blocks have, by this name or another.
_TEXT = {
    "hidden_act": ("gelu", "gelu_new", "gelu_pytorch_tanh", "quick_gelu", "relu", "silu", "swish",
                   "tanh", *FLAX_NAMES),
    "position_embedding_type": ("absolute", None),
    "is_decoder": (False,),
    "add_cross_attention": (False,),
}  # fmt: skip
SUPPORTED = {
    "wav2vec2": _EVERYWHERE | _ADAPTERS | _CONVOLUTIONS | _ACTIVATIONS,
    "hubert": _EVERYWHERE
    | _ADAPTERS
    | _CONVOLUTIONS
    | _ACTIVATIONS
    | {"conv_pos_batch_norm": (False,)},
    "whisper": _EVERYWHERE | {"activation_function": tuple(FUNCTIONS)},
    "bert": _EVERYWHERE | _TEXT,
    "roberta": _EVERYWHERE | _TEXT,
}

# Heads, decoders, pretraining losses, generation, and what acts in Hugging Face's training alone:
# skipped layers and SpecAugment, see docs/deviations.md.
_LEFT_OUT = re.compile(
    r"layerdrop|apply_spec_augment|mask_(time|feature)_.*|.*_quantizer_dropout|final_dropout"
    r"|use_weighted_layer_sum|classifier_.*|tdnn_.*|xvector_.*|ctc_.*|.*codevector.*|num_negatives"
    r"|contrastive_.*|diversity_.*|adapter_(kernel_size|stride)|num_adapter_layers"
    r"|output_hidden_size|decoder_.*|encoder_layerdrop|max_target_positions|median_filter_width"
    r"|scale_embedding|use_cache|vocab_size|num_hidden_layers"
)

# Names of arrays that no encoder's states depend on, below the model that holds the encoder.
HARMLESS = re.compile(
    r"(.*\.)?(position_ids|token_type_ids|masked_spec_embed|num_batches_tracked)"
    r"|(pooler|decoder|cls|lm_head|qa_outputs|classifier|projector|proj_out|quantizer|project_q"
    r"|project_hid|layer_weights|tdnn|objective|score|seq_relationship)(\..*)?"
)


def check_config(config, source: str) -> None:
    """Raises UserError where a config asks for what our module does not compute.

    A config of a kind that has no module here passes: `models/factory.py` refuses it by its kind.

    Args:
      config: Hugging Face's.
      source: named in messages.
    """
    kind = config.model_type
    if kind not in READ:
        return
    for name, values in SUPPORTED[kind].items():
        value = getattr(config, name, values[0])
        if not any(value == v and type(value) is type(v) for v in values):
            _refuse(source, kind, name, value, values)
    for name, default in _unknown(config):
        if getattr(config, name) != default:
            _refuse(source, kind, name, getattr(config, name), (default,))
    _check_sizes(config, source)


def _unknown(config):
    """(option, default) of the class' options that no table has."""
    from transformers import PretrainedConfig

    kind = config.model_type
    known = {*READ[kind], *SUPPORTED[kind], *PretrainedConfig().to_dict()}
    defaults = type(config)().to_dict()
    return [(k, v) for k, v in defaults.items() if k not in known and not _LEFT_OUT.fullmatch(k)]


def _refuse(source, kind, name, value, values):
    raise UserError(
        f"{source}: its config.json has {name}={value!r}, with which a {kind} model computes "
        f"something that this encoder does not. Supported: {', '.join(map(repr, values))}. Take "
        "another checkpoint; changing the value alone would make another model of this one."
    )


def _check_sizes(config, source):
    heads = config.num_attention_heads
    if config.hidden_size % heads:
        raise UserError(
            f"{source}: its config.json has {heads} attention heads for a width of "
            f"{config.hidden_size}, which they do not divide."
        )


def check_unused(names, prefix: str, path: str) -> None:
    """Raises UserError where weights inside the encoder are among the `names` not used.

    Args:
      names: of the file's arrays that the encoder does not read.
      prefix: under which the file keeps the model that holds the encoder; "" for all of it.
      path: named in the message.
    """
    dotted = {name: name.replace("/", ".") for name in names}
    inside = sorted(
        name
        for name, d in dotted.items()
        if d.startswith(prefix) and not HARMLESS.fullmatch(d.removeprefix(prefix))
    )
    if inside:
        more = f" and {len(inside) - 8} more" if len(inside) > 8 else ""
        raise UserError(
            f"{path} has {len(inside)} weights inside the encoder that its config.json does not "
            f"ask for: {', '.join(inside[:8])}{more}. Without them the encoder would compute "
            "something else; take a checkpoint without adapters, quantisation or further layers, "
            "and its own config.json."
        )
