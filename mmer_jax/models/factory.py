"""From a config to the model, and to its first parameters."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from mmer_jax.configuration import AUGMENTATION, acting_in_training, is_frozen
from mmer_jax.data.alphabet import ENGLISH, Alphabet
from mmer_jax.data.preprocessing import SAMPLE_RATE, Preprocessor
from mmer_jax.errors import UserError
from mmer_jax.models.encoders import ENCODERS, ctc_head, names, pretrained, weight_files
from mmer_jax.models.mmer import MMER


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
    m = config.model
    dtype = jnp.dtype(m.dtype)
    frozen = tuple(p for p in ("audio_encoder", "text_encoder") if is_frozen(config, p))
    audio = _encoder(config, "audio", dtype) if "audio" in m.modalities else None
    # Hugging Face's softmax has the encoder's dtype; frozen, there is no need to lose digits in it.
    text_dtype = jnp.dtype("float32") if "text_encoder" in frozen else dtype
    text = _encoder(config, "text", text_dtype, vocab_size) if "text" in m.modalities else None
    return MMER(
        audio, text, classes, symbols, m.width, m.heads, m.ffn, m.dropout, dtype, frozen, m.remat,
        m.fusion, m.gate, m.precision, config.audio.layers, m.pooling, config.audio.subsample,
    )  # fmt: skip


def _encoder(config, modality, dtype, vocab_size=None):
    hf = _encoder_config(config, modality, vocab_size)
    encoder = ENCODERS[hf.model_type].cls
    options = {"dtype": dtype, "remat": config.model.remat}
    if hasattr(encoder, "original_padding"):
        options["original_padding"] = config.model.padding == "original"
    if hasattr(encoder, "window"):
        options["window"] = config.audio.window
    if modality == "audio":
        if config.audio.attention_dropout >= 0:
            hf.attention_dropout = config.audio.attention_dropout
        if hasattr(encoder, "scan"):
            options |= {"scan": _scans(config), "frozen": tuple(config.optimizer.frozen)}
        _check_layers(config.audio.layers, getattr(hf, "num_hidden_layers", 0))
        if hasattr(encoder, "layerdrop"):
            options |= {name: config.audio[name] for name in AUGMENTATION}
        elif acting := acting_in_training(config):
            raise UserError(
                f"config.audio.{acting[0]} is set, which the encoder {hf.model_type} does not "
                "support. Set it to 0."
            )
    return encoder(hf, **options)


def _scans(config):
    """Whether the speech encoder's layers are a loop; docs/performance.md has what it costs."""
    wanted = config.model.scan_layers
    return jax.default_backend() != "cpu" if wanted == "auto" else wanted == "yes"


def _check_layers(wanted, count):
    if wanted.isdecimal() and int(wanted) > count:
        raise UserError(
            f"config.audio.layers is {wanted}, but the audio encoder has {count} layers. Expected "
            f"0, what enters the first, to {count}, last, weighted or all."
        )


def _encoder_config(config, modality, vocab_size=None):
    """Hugging Face's config of an encoder, of the pretrained one or from scratch.

    Raises:
      UserError: a pretrained encoder that can't be had or is not in the registry.
    """
    options = config[modality]
    if not options.pretrained:
        return ENCODERS[options.family].cls.scratch(options.family, options, vocab_size)
    hf = pretrained.load_config(options.pretrained, options.get("adapter", ""))
    if hf.model_type not in names(modality):
        raise UserError(
            f"config.{modality}.pretrained={options.pretrained!r} is a {hf.model_type} model; the "
            f"{modality} encoders are: {', '.join(names(modality))}."
        )
    return hf


def preprocessor(config, tokenizer, model: MMER | None = None,
                 alphabet: Alphabet = ENGLISH) -> Preprocessor:  # fmt: skip
    """What makes a model's inputs.

    Args:
      config: the whole config.
      tokenizer: None for a model of speech alone.
      model: a trained one: audio is cut where its positions end, too, and one that uses none gets
        none. None: before training, which refuses positions that don't suffice, see `check_limits`.
      alphabet: of the CTC head.

    Raises:
      UserError: see `normalizes`.
    """
    if model is not None and model.audio_encoder is None:
        return Preprocessor(tokenizer, 0, False, alphabet)
    longest = round(config.data.max_seconds * SAMPLE_RATE)
    longest = min(longest, _longest_audio(model) or longest)
    return Preprocessor(tokenizer, longest, normalizes(config, model), alphabet)


def normalizes(config, model: MMER | None = None) -> bool:
    """Whether waveforms get zero mean and unit variance.

    With `auto` as the pretrained checkpoint's preprocessor_config.json says; from scratch wav2vec2
    does, and Whisper does not: loudness tells emotions apart.

    Args:
      config: the whole config.
      model: of the config and with an audio encoder, where it is built: its pretrained folder
        need not be there any more.

    Raises:
      UserError: with `auto`, what the checkpoint says can't be had.
    """
    if config.data.normalize != "auto":
        return config.data.normalize == "utterance"
    hf = model.audio_encoder.config if model else _encoder_config(config, "audio")
    name = config.audio.pretrained
    if not model and name and not hasattr(hf, "do_normalize"):
        raise UserError(
            f"config.data.normalize=auto follows the preprocessor_config.json of {name}, and there "
            "is no network to look for it. Say how its waveforms are prepared: "
            "--config.data.normalize=utterance (zero mean and unit variance, as for most wav2vec2 "
            "and HuBERT checkpoints) or --config.data.normalize=none (as for Whisper)."
        )
    return getattr(hf, "do_normalize", ENCODERS[hf.model_type].normalizes)


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
        normalized = ENCODERS[_encoder_config(config, "audio").model_type].normalizes
    config.data.normalize = "utterance" if normalized else "none"
    return config


def _longest_audio(model):
    """Samples that the audio encoder has positions for; None: no limit, or no such encoder."""
    encoder = model and model.audio_encoder
    return encoder and encoder.longest(encoder.config)


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
        _check_tokens(model.text_encoder, config, tokenizer)
    longest = _longest_audio(model)
    if samples and longest and samples > longest:
        raise UserError(
            f"config.data.max_seconds is {config.data.max_seconds:g} and the longest utterances "
            f"take {samples / SAMPLE_RATE:g} s, but the audio encoder has positions for "
            f"{longest / SAMPLE_RATE:g} s. Set config.data.max_seconds={longest / SAMPLE_RATE:g}: "
            "what is longer is cut there."
        )


def _check_tokens(encoder, config, tokenizer):
    text, longest = encoder.config, encoder.longest(encoder.config)
    if tokenizer.vocab_size > text.vocab_size:
        raise UserError(
            f"The tokenizer ({config.text.tokenizer or config.text.pretrained}) gives ids up to "
            f"{tokenizer.vocab_size - 1}, but the text encoder has embeddings for "
            f"{text.vocab_size} tokens. Use the encoder's own tokenizer, or resize the encoder's "
            "embeddings where tokens were added."
        )
    if longest is not None and tokenizer.max_tokens > longest:
        raise UserError(
            f"config.text.max_tokens is {tokenizer.max_tokens}, but the text encoder has positions "
            f"for {longest} tokens. Set config.text.max_tokens={longest} or less."
        )


def init_params(model: MMER, config, seed: int, alphabet: Alphabet = ENGLISH) -> dict:
    """Fresh parameters, pretrained where the config names a checkpoint.

    Every number depends on the seed and the config alone.

    Args:
      model: the Flax module.
      config: the whole config.
      seed: of what is not pretrained.
      alphabet: of the CTC head.
    """
    shapes, plain = param_shapes(model), as_evaluated(model)
    init = shared(lambda: jax.jit(plain.init), "init", plain)
    params = init(jax.random.key(seed), example_batch())["params"]
    for modality, name in _pretrained_parts(model, config).items():
        part = f"{modality}_encoder"
        adapter = config[modality].get("adapter", "")
        params[part] |= pretrained.load_params(name, shapes[part], adapter)
    if config.audio.ctc_head and model.audio_encoder is not None:
        blank = getattr(model.audio_encoder.config, "pad_token_id", 0) or 0
        head = ctc_head.load(config.audio.pretrained, params["ctc"]["linear"], alphabet, blank)
        params["ctc"] = {"linear": head}
    return params


def as_evaluated(model: MMER) -> MMER:
    """The model without what acts in training alone: most variants of an ablation have the same."""
    model, encoder = model.clone(frozen=()), model.audio_encoder
    if hasattr(encoder, "frozen"):
        model = model.clone(audio_encoder=encoder.clone(frozen=()))
    return model


_SHARED = {}  # what the jitted functions of this process are made of -> the functions


def shared(make: Callable, *made_of):
    """`make()`, or what it gave before for equal parts, with the programs compiled since.

    Args:
      make: returns a jitted function.
      *made_of: all that the function depends on. They are compared by their `repr`: neither
        modules nor Hugging Face's configs can be hashed.
    """
    key = repr(made_of)
    if key not in _SHARED:
        _SHARED[key] = make()
    return _SHARED[key]


def provenance(model: MMER, config) -> dict:
    """`audio` and `text` -> which weights its encoder began with, see `weight_files.provenance`.

    Those of a language's adapters are under `adapter`.
    """
    parts = _pretrained_parts(model, config)
    found = {k: weight_files.provenance(name) for k, name in parts.items()}
    adapter = config.audio.adapter
    if "audio" in found and adapter not in ("", pretrained.NO_ADAPTER):
        names = pretrained.adapter_files(adapter)
        found["audio"]["adapter"] = weight_files.provenance(parts["audio"], names)
    return found


def _pretrained_parts(model, config):
    parts = {
        "audio": (model.audio_encoder, config.audio.pretrained),
        "text": (model.text_encoder, config.text.pretrained),
    }
    return {k: name for k, (encoder, name) in parts.items() if encoder is not None and name}


def fit_masked(model: MMER, params: dict, seed: int) -> dict:
    """Parameters with the vector of masked frames if the model has one, and without it if not.

    It depends on an option of training, `config.audio.mask_time_prob`, in which a model may differ
    from the one that its training starts from.

    Args:
      model: that is trained.
      params: of a model like it.
      seed: of a vector that `params` lack.
    """
    shapes, name = param_shapes(model).get("audio_encoder", {}), pretrained.MASKED
    audio = params.get("audio_encoder", {})
    if (name in audio) == (name in shapes):
        return params
    audio = {k: x for k, x in audio.items() if k != name}
    if name in shapes:
        drawn = jax.random.uniform(jax.random.key(seed), shapes[name].shape)
        audio[name] = np.asarray(drawn)
    return params | {"audio_encoder": audio}


def check_params(model: MMER, params: dict, source: str) -> None:
    """Raises UserError where `params`, read from `source`, are not this model's."""

    def kinds_of(tree):
        """Shapes, with the dtype where it is not float32."""
        return {
            jax.tree_util.keystr(k): x.shape if x.dtype == np.float32 else f"{x.dtype} {x.shape}"
            for k, x in jax.tree.leaves_with_path(tree)
        }

    expected, found = kinds_of(param_shapes(model)), kinds_of(params)
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
    return jax.eval_shape(lambda: model.init(jax.random.key(0), example_batch())["params"])


def example_batch() -> dict:
    """The smallest batch, for shapes: no parameter depends on a batch's size."""
    return {
        "audio": np.zeros((1, 8_000), np.float32),
        "audio_length": np.array([8_000], np.int32),
        "text_ids": np.zeros((1, 4), np.int32),
        "text_mask": np.ones((1, 4), np.int32),
    }
