"""The registry of encoders, by Hugging Face's `model_type`: all that the program knows of each.

Plain data without jax: `configuration.py` takes its choices from here. An encoder is a Flax module
in a file of its own and an entry here; how to add one: docs/extending.md.
"""

import dataclasses
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
        encoder as MMER's original code does.
      supported: option of Hugging Face's config -> its values that the module can compute, the
        usual one first, as a tuple or as `package.module:NAME` of one; any other is refused. An
        option that is not listed may have any value, or changes no state of the encoder.
      sharding: (regex of a parameter's path below the encoder, its mesh axes), the first match
        counts, see `training/sharding.py`.
      frame: samples from one frame to the next, of an audio encoder.
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
        "adapter_attn_dim": (None,),
    },
    sharding=(
        (r"feature_extractor/.*/kernel", (None, None, "fsdp")),
        (r"feature_projection/projection/kernel", ("fsdp", None)),
        (r"encoder/pos_conv_embed/conv/weight_g", WHOLE),
        (r"encoder/pos_conv_embed/conv/weight_v", ("fsdp", None, None)),
        (r".*/attention/(q|k|v)_proj/kernel", COLUMNS),
        (r".*/attention/out_proj/kernel", ROWS),
        (r".*/feed_forward/intermediate_dense/kernel", COLUMNS),
        (r".*/feed_forward/output_dense/kernel", ROWS),
    ),
    normalizes=True,
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
)  # fmt: skip

ENCODERS = {
    "wav2vec2": _WAV2VEC2,
    "hubert": _WAV2VEC2,
    "whisper": _WHISPER,
    "bert": _BERT,
    "roberta": _BERT,
}


def frame(encoder) -> int:
    """Samples from one frame to the next of an audio encoder, a module of the registry's."""
    return ENCODERS[encoder.config.model_type].frame


def names(modality: str) -> tuple[str, ...]:
    """The `model_type`s of a modality."""
    return tuple(name for name, encoder in ENCODERS.items() if encoder.modality == modality)
