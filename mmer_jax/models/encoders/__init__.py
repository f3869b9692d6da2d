"""The registry of encoders, by Hugging Face's `model_type`: all that the program knows of each.

Plain data without jax: `configuration.py` takes its choices from here. An encoder is a Flax module
in a file of its own and an entry here; how to add one: docs/extending.md.
"""

import copy
import dataclasses
import math
import pkgutil
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Encoder:
    """What is known of the checkpoints of one `model_type`.

    Attributes:
      modality: `audio`, called with float32 samples [b, n] at 16 kHz, lengths [b] and
        `deterministic`, returns frames [b, t, d] and their bool mask [b, t]; or `text`, called with
        ids [b, s], mask [b, s] and `deterministic`, returns states [b, s, d].
      module: `package.module:Class`, a Flax module with the attributes `config` (Hugging Face's),
        `dtype` and `remat`, whose parameters have Hugging Face's names. It has two static methods:
        `scratch(model_type, options, vocab_size)`, Hugging Face's config of `config.audio` or
        `config.text` where nothing is pretrained, and `longest(config)`, the most samples or tokens
        that it has positions for, or None. An attribute `original_padding` lets padding into the
        encoder as MMER's original code does, and those of `audio.AudioEncoder` let it be
        trained with SpecAugment and LayerDrop.
      supported: option of Hugging Face's config -> its values that the module can compute, the
        usual one first, as a tuple or as `package.module:NAME` of one; any other is refused. An
        option that is not listed may have any value, or changes no state of the encoder.
      parts: of an encoder whose parts differ by kind: role -> `package.module:Class`, see `part`.
      fixed: option of Hugging Face's config -> the value that this kind's models compute with,
        whatever their config.json has.
      sharding: (regex of a parameter's path below the encoder, its mesh axes), the first match
        counts, see `training/sharding.py`.
      frame: samples from one frame to the next of an audio encoder, unless its config has strides.
      normalizes: whether waveforms get zero mean and unit variance where a checkpoint does not say.
      preprocessor: options of preprocessor_config.json -> the only value, or the name of the option
        of the config that has it.
    """

    modality: str
    module: str
    supported: Mapping
    sharding: tuple
    frame: int = 320
    normalizes: bool = False
    preprocessor: Mapping = dataclasses.field(default_factory=dict)
    parts: Mapping = dataclasses.field(default_factory=dict)
    fixed: Mapping = dataclasses.field(default_factory=dict)

    @property
    def cls(self):
        """The module's class."""
        return pkgutil.resolve_name(self.module)


COLUMNS, ROWS, WHOLE = ("fsdp", "model"), ("model", "fsdp"), ()

_HERE = "mmer_jax.models.encoders"
_ACTIVATIONS = "mmer_jax.models.layers:ACTIVATIONS"
_EVERYWHERE = {"pruned_heads": ({}, None), "quantization_config": (None,)}

_WAV2VEC2 = Encoder(
    modality="audio",
    module=f"{_HERE}.wav2vec2:Wav2Vec2Encoder",
    supported=_EVERYWHERE | {
        "hidden_act": _ACTIVATIONS,
        "feat_extract_activation": _ACTIVATIONS,
        "feat_extract_norm": ("group", "layer"),
        "conv_pos_batch_norm": (False,),
        "add_adapter": (False,),
    },
    sharding=(
        (r"feature_extractor/.*/kernel", (None, None, "fsdp")),
        (r"feature_projection/projection/kernel", ("fsdp", None)),
        (r"masked_spec_embed|encoder/pos_conv_embed/conv/weight_g", WHOLE),
        (r"encoder/pos_conv_embed/conv/weight_v", ("fsdp", None, None)),
        (r".*/attention/(q|k|v)_proj/kernel", COLUMNS),
        (r".*/attention/out_proj/kernel", ROWS),
        (r".*/feed_forward/intermediate_dense/kernel", COLUMNS),
        (r".*/feed_forward/output_dense/kernel", ROWS),
        (r".*/adapter_layer/linear_1/kernel", ("fsdp", None)),
        (r".*/adapter_layer/linear_2/kernel", (None, "fsdp")),
    ),
    normalizes=True,
    parts={
        "positions": f"{_HERE}.wav2vec2:PositionalConv",
        "attention": "mmer_jax.models.layers:SelfAttention",
    },
)  # fmt: skip

_WAVLM = dataclasses.replace(
    _WAV2VEC2,
    parts=_WAV2VEC2.parts | {"attention": f"{_HERE}.wavlm:GatedAttention"},
    fixed={"adapter_attn_dim": None, "feat_proj_layer_norm": True},
    sharding=_WAV2VEC2.sharding + (
        (r".*/attention/(gru_rel_pos_const|(gru_rel_pos_linear|rel_attn_embed)/.*)", WHOLE),
    ),
)  # fmt: skip

_DATA2VEC = dataclasses.replace(
    _WAV2VEC2,
    parts=_WAV2VEC2.parts | {"positions": f"{_HERE}.data2vec:StackedConvs"},
    fixed={
        "feat_extract_norm": "layer", "do_stable_layer_norm": False, "feat_proj_layer_norm": True,
        "adapter_attn_dim": None,
    },
    sharding=_WAV2VEC2.sharding + (
        (r"encoder/pos_conv_embed/layers/.*/kernel", (None, None, "fsdp")),
    ),
)  # fmt: skip

_WHISPER = Encoder(
    modality="audio",
    module=f"{_HERE}.whisper:WhisperEncoder",
    supported=_EVERYWHERE | {"activation_function": _ACTIVATIONS},
    sharding=(
        (r"conv[12]/kernel", (None, None, "fsdp")),
        (r"embed_positions/embedding", WHOLE),
        (r".*/self_attn/(q|k|v)_proj/kernel", COLUMNS),
        (r".*/self_attn/out_proj/kernel", ROWS),
        (r".*/fc1/kernel", COLUMNS),
        (r".*/fc2/kernel", ROWS),
    ),
    preprocessor={"n_fft": 400, "hop_length": 160, "feature_size": "num_mel_bins"},
)  # fmt: skip

_HF = "transformers.models"
_BERT = Encoder(
    modality="text",
    module=f"{_HERE}.text:TextEncoder",
    supported=_EVERYWHERE | {
        "hidden_act": _ACTIVATIONS,
        "position_embedding_type": ("absolute", None),
        "is_decoder": (False,),
        "add_cross_attention": (False,),
    },
    sharding=(
        (r"embeddings/.*/embedding", (None, "fsdp")),
        (r".*/attention/self/(query|key|value)/kernel", COLUMNS),
        (r".*/attention/output/dense/kernel", ROWS),
        (r".*/intermediate/dense/kernel", COLUMNS),
        (r".*/output/dense/kernel", ROWS),
    ),
    parts={
        "embeddings": f"{_HF}.bert.modeling_flax_bert:FlaxBertEmbeddings",
        "encoder": f"{_HF}.bert.modeling_flax_bert:FlaxBertEncoder",
        "positions": f"{_HERE}.text:FromZero",
    },
)  # fmt: skip

_ROBERTA = dataclasses.replace(_BERT, parts={
    "embeddings": f"{_HF}.roberta.modeling_flax_roberta:FlaxRobertaEmbeddings",
    "encoder": f"{_HF}.roberta.modeling_flax_roberta:FlaxRobertaEncoder",
    "positions": f"{_HERE}.text:FromPadding",
})  # fmt: skip

_ELECTRA = dataclasses.replace(
    _BERT,
    sharding=_BERT.sharding + ((r"embeddings_project/kernel", (None, "fsdp")),),
    parts=_BERT.parts | {
        "embeddings": f"{_HF}.electra.modeling_flax_electra:FlaxElectraEmbeddings",
        "encoder": f"{_HF}.electra.modeling_flax_electra:FlaxElectraEncoder",
    },
)  # fmt: skip

_DISTILBERT = Encoder(
    modality="text",
    module=f"{_HERE}.distilbert:DistilBertEncoder",
    supported=_EVERYWHERE | {"activation": _ACTIVATIONS, "sinusoidal_pos_embds": (False,)},
    sharding=(
        (r"embeddings/.*/embedding", (None, "fsdp")),
        (r".*/attention/(q|k|v)_lin/kernel", COLUMNS),
        (r".*/attention/out_lin/kernel", ROWS),
        (r".*/ffn/lin1/kernel", COLUMNS),
        (r".*/ffn/lin2/kernel", ROWS),
    ),
)  # fmt: skip

ENCODERS = {
    "wav2vec2": _WAV2VEC2,
    "hubert": _WAV2VEC2,
    "wavlm": _WAVLM,
    "data2vec-audio": _DATA2VEC,
    "whisper": _WHISPER,
    "bert": _BERT,
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "camembert": _ROBERTA,
    "electra": _ELECTRA,
    "distilbert": _DISTILBERT,
}


def part(config, role: str):
    """The class of a part of the encoder that a config of Hugging Face's is of.

    Args:
      config: Hugging Face's.
      role: of the wav2vec2 family `positions`, an `EncoderPart` called with [b, t, d], 0 in the
        padding, and bool [b, t], returns [b, t, d] to be added, and `attention`, a
        `layers.SelfAttention`. Of text `embeddings` and `encoder`, Hugging Face's Flax modules, and
        `positions`, `text.FromZero` or `text.FromPadding`.
    """
    return pkgutil.resolve_name(ENCODERS[config.model_type].parts[role])


def completed(config):
    """Hugging Face's config with the options that its kind's models compute with, see `fixed`."""
    config = copy.copy(config)
    for name, value in ENCODERS[config.model_type].fixed.items():
        setattr(config, name, value)
    return config


def frame(encoder) -> int:
    """Samples from one frame to the next of an audio encoder, a module of the registry's."""
    strides = getattr(encoder.config, "conv_stride", ())
    return math.prod(strides) if strides else ENCODERS[encoder.config.model_type].frame


def names(modality: str) -> tuple[str, ...]:
    """The `model_type`s of a modality."""
    return tuple(name for name, encoder in ENCODERS.items() if encoder.modality == modality)
