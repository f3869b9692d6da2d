"""From a config to the model, and to its first parameters."""

import re

import jax
import jax.numpy as jnp
import numpy as np
from transformers import BertConfig, RobertaConfig, Wav2Vec2Config, WhisperConfig

from mmer_jax.data import bucketing
from mmer_jax.data.preprocessing import SAMPLE_RATE, Preprocessor
from mmer_jax.errors import UserError
from mmer_jax.models.encoders import pretrained
from mmer_jax.models.encoders.text import BLOCKS, TextEncoder
from mmer_jax.models.encoders.wav2vec2 import Wav2Vec2Encoder
from mmer_jax.models.encoders.whisper import WhisperEncoder
from mmer_jax.models.mmer import MMER

AUDIO_FAMILIES = {"wav2vec2": "wav2vec2", "hubert": "wav2vec2", "whisper": "whisper"}


def build_model(config, classes: int, symbols: int, vocab_size: int) -> MMER:
    """The model of a config.

    Args:
      config: see `mmer_jax/configuration.py`.
      classes: c.
      symbols: v, of the CTC vocabulary.
      vocab_size: of the tokenizer; used by a text encoder from scratch.

    Raises:
      UserError: a pretrained encoder that can't be had or is of an unknown kind.
    """
    dtype = jnp.dtype(config.model.dtype)
    modalities = config.model.modalities
    audio = _audio_encoder(config, dtype) if "audio" in modalities else None
    text = _text_encoder(config, vocab_size, dtype) if "text" in modalities else None
    m = config.model
    frozen = tuple(p for p in ("audio_encoder", "text_encoder") if _is_frozen(config, p))
    return MMER(
        audio, text, classes, symbols, m.width, m.heads, m.ffn, m.dropout, dtype, frozen, m.remat,
        m.fusion, m.gate, m.precision,
    )  # fmt: skip


def _is_frozen(config, part):
    """Whether the optimiser leaves the whole of a part alone, not some of its layers."""
    return any(re.fullmatch(pattern, f"{part}/any/path") for pattern in config.optimizer.frozen)


def audio_family(config) -> str:
    """`wav2vec2` or `whisper`; a pretrained encoder's own kind where one is named."""
    if not config.audio.pretrained:
        return config.audio.family
    kind = pretrained.load_config(config.audio.pretrained).model_type
    if kind not in AUDIO_FAMILIES:
        raise UserError(
            f"config.audio.pretrained={config.audio.pretrained!r} is a {kind} model; the audio "
            f"encoders are: {', '.join(AUDIO_FAMILIES)}."
        )
    return AUDIO_FAMILIES[kind]


def normalizes(config, model: MMER | None = None) -> bool:
    """Whether waveforms get zero mean and unit variance.

    With `auto` as the pretrained checkpoint's preprocessor_config.json says; from scratch wav2vec2
    does, and Whisper does not: loudness tells emotions apart.

    Args:
      config: the whole config.
      model: of the config, where it is built: its pretrained folder need not be there any more.

    Raises:
      UserError: with `auto`, what the checkpoint says can't be had.
    """
    if config.data.normalize != "auto":
        return config.data.normalize == "utterance"
    if model is not None:
        encoder = model.audio_encoder
        usual = isinstance(encoder, Wav2Vec2Encoder)
        return usual if encoder is None else getattr(encoder.config, "do_normalize", usual)
    family = audio_family(config)
    if not config.audio.pretrained:
        return family == "wav2vec2"
    name = config.audio.pretrained
    value = getattr(pretrained.load_config(name), "do_normalize", None)
    if value is None:
        raise UserError(
            f"config.data.normalize=auto follows the preprocessor_config.json of {name}, and there "
            "is no network to look for it. Say how its waveforms are prepared: "
            "--config.data.normalize=utterance (zero mean and unit variance, as for most wav2vec2 "
            "and HuBERT checkpoints) or --config.data.normalize=none (as for Whisper)."
        )
    return value


def preprocessor(config, model: MMER, tokenizer) -> Preprocessor:
    """What makes a trained model's inputs in prediction.

    Audio is cut where training cut utterances, or where the audio encoder's positions end; a model
    that uses none gets none.
    """
    if model.audio_encoder is None:
        return Preprocessor(tokenizer, 0, False)
    longest = round(config.data.max_seconds * SAMPLE_RATE)
    positions = getattr(model.audio_encoder.config, "max_source_positions", None)
    longest = min(longest, positions * bucketing.FRAME) if positions else longest
    return Preprocessor(tokenizer, longest, normalizes(config, model))


def as_trained(config, normalized: bool | None):
    """A finished fold's config with `data.normalize` as it was resolved in training.

    Args:
      config: of the fold's run.
      normalized: of its result; None for those of versions that did not read
        preprocessor_config.json: it was the kind of encoder that decided.
    """
    if config.data.normalize != "auto" or "audio" not in config.model.modalities:
        return config
    config = config.copy_and_resolve_references()
    if normalized is None:
        normalized = audio_family(config) == "wav2vec2"
    config.data.normalize = "utterance" if normalized else "none"
    return config


def check_limits(model: MMER, config, tokenizer, samples: int | None = None) -> None:
    """Raises UserError where ids or positions can lie beyond one of the model's tables.

    Beyond a table JAX reads NaN, and a loss of NaN says nothing of where it came from.

    Args:
      model: of `config`.
      config: the whole config.
      tokenizer: a `Tokenizer`; None for a model of speech alone.
      samples: of the longest batch; None where recordings are cut to what the model can take.
    """
    if tokenizer is not None and model.text_encoder is not None:
        _check_tokens(model.text_encoder.config, config, tokenizer)
    audio = model.audio_encoder.config if model.audio_encoder is not None else None
    positions = getattr(audio, "max_source_positions", None)  # Whisper's; wav2vec2 has no table
    longest = (positions or 0) * bucketing.FRAME / SAMPLE_RATE
    if samples and positions and samples / SAMPLE_RATE > longest:
        raise UserError(
            f"config.data.max_seconds is {config.data.max_seconds:g} and the longest utterances "
            f"take {samples / SAMPLE_RATE:g} s, but the audio encoder has positions for "
            f"{longest:g} s ({positions} of 20 ms). Set config.data.max_seconds={longest:g}: what "
            "is longer is cut there."
        )


def _check_tokens(text, config, tokenizer):
    if tokenizer.vocab_size > text.vocab_size:
        raise UserError(
            f"The tokenizer ({config.text.tokenizer or config.text.pretrained}) gives ids up to "
            f"{tokenizer.vocab_size - 1}, but the text encoder has embeddings for "
            f"{text.vocab_size} tokens. Use the encoder's own tokenizer, or resize the encoder's "
            "embeddings where tokens were added."
        )
    # Batches pad texts to multiples of 8. RoBERTa counts from behind its padding id, where all
    # padding lies.
    roberta = text.model_type == "roberta"
    longest = tokenizer.max_tokens
    needed = longest + text.pad_token_id + 1 if roberta else bucketing.rounded(longest)
    most = text.max_position_embeddings
    if needed > most:
        fits = most - text.pad_token_id - 1 if roberta else most // 8 * 8
        raise UserError(
            f"config.text.max_tokens is {longest}, for which the text encoder needs {needed} "
            f"positions; it has {most}. Set config.text.max_tokens={fits} or less."
        )


def _audio_encoder(config, dtype):
    family = audio_family(config)
    name = config.audio.pretrained
    hf = pretrained.load_config(name) if name else _scratch_audio(config.audio)
    if family == "wav2vec2":
        return Wav2Vec2Encoder(hf, config.model.padding == "original", dtype, config.model.remat)
    return WhisperEncoder(hf, dtype, config.model.remat)


def _scratch_audio(audio):
    size, spread = audio.size, audio.size.width**-0.5
    if audio.family == "whisper":
        return WhisperConfig(
            d_model=size.width, encoder_layers=size.layers, encoder_attention_heads=size.heads,
            encoder_ffn_dim=size.ffn, dropout=size.dropout, init_std=spread,
        )  # fmt: skip
    return Wav2Vec2Config(
        hidden_size=size.width, num_hidden_layers=size.layers, num_attention_heads=size.heads,
        intermediate_size=size.ffn, hidden_dropout=size.dropout, attention_dropout=size.dropout,
        feat_proj_dropout=size.dropout, activation_dropout=size.dropout,
        initializer_range=spread,
        conv_dim=(audio.conv_channels,) * 7,
        num_conv_pos_embedding_groups=min(16, size.width),
    )  # fmt: skip


def _text_encoder(config, vocab_size, dtype):
    name = config.text.pretrained
    hf = pretrained.load_config(name) if name else _scratch_text(config.text, vocab_size)
    if hf.model_type not in BLOCKS:
        raise UserError(
            f"config.text.pretrained={name!r} is a {hf.model_type} model; the text encoders are: "
            f"{', '.join(BLOCKS)}."
        )
    return TextEncoder(hf, dtype, config.model.remat)


def _scratch_text(text, vocab_size):
    size = text.size
    # Batches pad texts to multiples of 8: beyond the last position there is no embedding but NaN.
    positions = bucketing.rounded(text.max_tokens)
    kind = {"bert": BertConfig, "roberta": RobertaConfig}[text.family]
    return kind(
        vocab_size=vocab_size, hidden_size=size.width, num_hidden_layers=size.layers,
        num_attention_heads=size.heads, intermediate_size=size.ffn,
        hidden_dropout_prob=size.dropout, attention_probs_dropout_prob=size.dropout,
        initializer_range=size.width**-0.5, max_position_embeddings=positions + 2,
        type_vocab_size=1,
    )  # fmt: skip


def init_params(model: MMER, config, seed: int) -> dict:
    """Fresh parameters, pretrained where the config names a checkpoint.

    Every number depends on the seed and the config alone.
    """
    shapes = param_shapes(model)
    params = jax.jit(model.init)(jax.random.key(seed), _example_batch())["params"]
    for modality, name in _pretrained_parts(model, config).items():
        part = f"{modality}_encoder"
        params[part] = pretrained.load_params(name, shapes[part])
    return params


def provenance(model: MMER, config) -> dict:
    """`audio` and `text` -> which weights its encoder began with, see `pretrained.provenance`."""
    return {k: pretrained.provenance(v) for k, v in _pretrained_parts(model, config).items()}


def _pretrained_parts(model, config):
    parts = {
        "audio": (model.audio_encoder, config.audio.pretrained),
        "text": (model.text_encoder, config.text.pretrained),
    }
    return {k: name for k, (encoder, name) in parts.items() if encoder is not None and name}


def check_params(model: MMER, params: dict, source: str) -> None:
    """Raises UserError where `params`, read from `source`, are not this model's."""

    def shapes_of(tree):
        return {jax.tree_util.keystr(k): x.shape for k, x in jax.tree.leaves_with_path(tree)}

    expected, found = shapes_of(param_shapes(model)), shapes_of(params)
    wrong = sorted(k for k in expected.keys() | found.keys() if expected.get(k) != found.get(k))
    if wrong:
        lines = "; ".join(f"{k} is {found.get(k)}, not {expected.get(k)}" for k in wrong[:5])
        raise UserError(
            f"{source} holds the parameters of another model than the config describes, in "
            f"{len(wrong)} places: {lines}. Give the config that model's sizes and encoders: its "
            "config.json has them, and configs/converted.py:FOLDER takes those of a converted "
            "checkpoint."
        )


def reorder_classes(params: dict, names, wanted) -> dict:
    """The parameters with the emotion head's outputs in another order.

    Args:
      params: of the whole model.
      names: of its outputs.
      wanted: the same names in the order that is wanted.
    """
    order = np.array([tuple(names).index(name) for name in wanted])
    linear = params["emotion"]["linear"]
    linear = {"kernel": linear["kernel"][:, order], "bias": linear["bias"][order]}
    return params | {"emotion": {"linear": linear}}


def param_shapes(model: MMER) -> dict:
    """The parameters as shapes and dtypes, nothing computed."""
    return jax.eval_shape(lambda: model.init(jax.random.key(0), _example_batch())["params"])


def _example_batch():
    """The smallest batch, for shapes: no parameter depends on a batch's size."""
    return {
        "audio": np.zeros((1, 8_000), np.float32),
        "audio_length": np.array([8_000], np.int32),
        "text_ids": np.zeros((1, 4), np.int32),
        "text_mask": np.ones((1, 4), np.int32),
    }
