"""The authors' state dict -> our parameters, and the sizes of the model that they belong to.

Every size but three is read from the weights. They don't say how wide an attention head is (64, as
in every wav2vec2 and BERT), which strides the convolutions have (wav2vec2's) and whether an encoder
with layer norm in its convolutions is pre-norm (as the large wav2vec2 models are). Nor do they say
how much dropout there was: what is written down here is the original code's.
"""

import dataclasses
import re

import jax
import numpy as np
from flax import linen as nn
from flax import traverse_util
from transformers import Wav2Vec2Config

from mmer_jax.errors import UserError
from mmer_jax.models.encoders import pretrained
from mmer_jax.models.encoders.wav2vec2 import Wav2Vec2Encoder
from mmer_jax.models.mmer import MMER

HEAD_WIDTH = 64
STRIDES = (5, 2, 2, 2, 2, 2, 2)
DROPOUT = 0.1  # of the fusion network and the heads
# Those of facebook/wav2vec2-base's own config.json, with which it was trained on. Transformers'
# class has others as its defaults.
AUDIO_DROPOUTS = {
    "hidden_dropout": 0.1, "attention_dropout": 0.1, "activation_dropout": 0.0,
    "feat_proj_dropout": 0.1, "final_dropout": 0.0, "layerdrop": 0.0,
}  # fmt: skip
AUDIO = "model_mmi.wav2vec2."

# From an original key to the path of our parameter, by every rule in turn. The original names say
# "img" and "vis" where they mean audio.
RULES = (
    (r"^model_mmi\.self_attention_v2\.layer\.0\.", "fusion/text/self_attention/"),
    (r"^model_mmi\.txt2img_attention\.layer\.0\.", "fusion/text_to_audio/"),
    (r"^model_mmi\.img2txt_attention\.layer\.0\.", "fusion/audio_to_text/"),
    (r"^model_mmi\.txt2txt_attention\.layer\.0\.", "fusion/text_to_text/"),
    (r"/attention\.self\.", "/"),
    (r"/attention\.output\.", "/attention_output."),
    (r"output\.LayerNorm\.", "norm."),  # attention_norm
    (r"/norm\.", "/output_norm."),
    (r"/(attention_output|intermediate|output)\.dense\.", r"/\1."),
    (r"^model_mmi\.vismap2text\.", "fusion/audio_keys."),
    (r"^model_mmi\.vismap2text_v2\.", "fusion/audio_queries."),
    (r"^model_mmi\.gate\.", "fusion/gate."),
    (r"^model_mmi\.downsample_final\.", "fusion/downsample."),
    (r"^model_mmi\.classifier\.linear3\.", "emotion/linear."),
    (r"^model_mmi\.ctc_linear\.", "ctc/linear."),
    (r"^orgin_linear_change\.", "projection/"),
    (r"^augment_linear_change\.", "aug_projection/"),
    (r"projection/0\.", "projection/hidden."),
    (r"projection/2\.", "projection/output."),
    (r"_norm\.weight$", "_norm/scale"),
    (r"\.weight$", "/kernel"),
    (r"\.bias$", "/bias"),
)
UNUSED = {
    "model_mmi.weights": "weights of encoder layers that the original forward pass never reads",
    "model_mmi.wav2vec2.masked_spec_embed": "SpecAugment's embedding; the authors train without",
}


class GivenFeatures(nn.Module):
    """Stands in a text encoder's place where `text_ids` already holds token states.

    The original code reads them from files, so its checkpoint has no text encoder.
    """

    def __call__(self, features, mask, deterministic: bool = True):
        """[b, s, d] -> the same."""
        return features


@dataclasses.dataclass(frozen=True)
class Converted:
    """An original checkpoint in our terms, its text encoder apart.

    Attributes:
      params: nested dict of float32 arrays.
      model: the module they belong to; its text encoder is `GivenFeatures`.
      audio_config: HF's `Wav2Vec2Config`.
      names: original key -> path of our parameter, for every key that is used.
      unused: original key -> why it was left out.
    """

    params: dict
    model: MMER
    audio_config: Wav2Vec2Config
    names: dict[str, str]
    unused: dict[str, str]


def convert(state: dict[str, np.ndarray], source: str = "the checkpoint") -> Converted:
    """Parameters and sizes from the authors' state dict.

    Args:
      state: original key -> array, PyTorch's layout.
      source: named in messages.

    Raises:
      UserError: weights missing or of shapes that don't go together; names them.
    """
    audio_state = {k.removeprefix(AUDIO): v for k, v in state.items() if k.startswith(AUDIO)}
    audio_config = _audio_config(audio_state, source)
    model = _model(state, audio_config, source)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), _example_batch(model)))["params"]
    audio_shapes = shapes.pop("audio_encoder")
    params = {"audio_encoder": pretrained.from_state(audio_state, audio_shapes, source)}
    expected = traverse_util.flatten_dict(shapes, sep="/")
    names = {key: path for key in state if (path := _path(key)) in expected}
    # Linear [out, in] -> [in, out]; vectors stay.
    found = {path: np.asarray(state[key].T, np.float32) for key, path in names.items()}
    _check(found, expected, source)
    params |= traverse_util.unflatten_dict(found, sep="/")
    for path in traverse_util.flatten_dict(audio_shapes):
        keys = (AUDIO + name for name in pretrained.torch_keys("", path))
        names |= {key: "/".join(("audio_encoder", *path)) for key in keys if key in state}
    unknown = "unknown to this converter, NOT a part of the original model"
    unused = {key: UNUSED.get(key, unknown) for key in state if key not in names}
    return Converted(params, model, audio_config, names, unused)


def _path(key):
    for pattern, ours in RULES:
        key = re.sub(pattern, ours, key)
    return key


def _check(found, expected, source):
    missing = sorted(expected.keys() - found.keys())
    if missing:
        raise UserError(
            f"{source} lacks {len(missing)} weights of the fusion network and heads (named as "
            f"here): {', '.join(missing[:8])}. Is it a checkpoint of the authors' code?"
        )
    wrong = [
        f"{k} {found[k].shape} instead of {tuple(v.shape)}"
        for k, v in sorted(expected.items())
        if found[k].shape != tuple(v.shape)
    ]
    if wrong:
        raise UserError(f"{source}: shapes don't go together: {', '.join(wrong[:8])}.")


def _example_batch(model):
    return {
        "audio": np.zeros((1, 8_000), np.float32),
        "audio_length": np.array([8_000], np.int32),
        "text_ids": np.zeros((1, 4, model.width), np.float32),
        "text_mask": np.ones((1, 4), np.int32),
    }


def _model(state, audio_config, source):
    sizes = (
        "gate", "self_attention_v2.layer.0.intermediate.dense", "classifier.linear3", "ctc_linear"
    )  # fmt: skip
    width, ffn, classes, symbols = (
        _shape(state, f"model_mmi.{name}.bias", source)[0] for name in sizes
    )
    audio = Wav2Vec2Encoder(audio_config, original_padding=True)
    heads = width // HEAD_WIDTH
    return MMER(audio, GivenFeatures(), classes, symbols, width, heads, ffn, DROPOUT)


def _audio_config(state, source):
    """The `Wav2Vec2Config` that weights in HF's spelling belong to."""
    kernels = [
        _shape(state, f"feature_extractor.conv_layers.{i}.conv.weight", source)
        for i in range(_count(state, r"feature_extractor\.conv_layers\.(\d+)\."))
    ]
    if len(kernels) != len(STRIDES):
        raise UserError(
            f"{source} has {len(kernels)} wav2vec2 convolutions; expected {len(STRIDES)}, whose "
            f"strides are {STRIDES}. Is it a checkpoint of the authors' code?"
        )
    layer_norm = "feature_extractor.conv_layers.1.layer_norm.weight" in state
    conv = "encoder.pos_conv_embed.conv."
    new = f"{conv}parametrizations.weight.original1"
    width, grouped, positions = _shape(state, new if new in state else f"{conv}weight_v", source)
    return Wav2Vec2Config(
        hidden_size=width,
        num_hidden_layers=_count(state, r"encoder\.layers\.(\d+)\."),
        num_attention_heads=width // HEAD_WIDTH,
        intermediate_size=_shape(
            state, "encoder.layers.0.feed_forward.intermediate_dense.bias", source
        )[0],
        conv_dim=[k[0] for k in kernels],
        conv_kernel=[k[2] for k in kernels],
        conv_stride=list(STRIDES),
        conv_bias="feature_extractor.conv_layers.0.conv.bias" in state,
        feat_extract_norm="layer" if layer_norm else "group",
        do_stable_layer_norm=layer_norm,
        num_conv_pos_embeddings=positions,
        num_conv_pos_embedding_groups=width // grouped,
        **AUDIO_DROPOUTS,
    )


def _shape(state, key, source):
    if key not in state:
        have = ", ".join(sorted(state)[:5]) or "nothing"
        raise UserError(
            f"{source} has no {key} (it begins with: {have}). Expected a checkpoint of the "
            'authors\' code: {"state_dict": {"model_mmi.gate.weight": ..., ...}}.'
        )
    return state[key].shape


def _count(state, pattern):
    return 1 + max((int(m[1]) for m in map(re.compile(pattern).match, state) if m), default=-1)
