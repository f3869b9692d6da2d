"""A trained model as a folder that travels: parameters, config, tokenizer, card; no pickle."""

import json
import os
from importlib import metadata

import ml_collections
import numpy as np
from flax import traverse_util

from mmer_jax import configuration, files
from mmer_jax.data.text import read_tokenizer
from mmer_jax.errors import UserError
from mmer_jax.metrics import reliability
from mmer_jax.models import factory, params_file, parts
from mmer_jax.models.parts import AGAIN
from mmer_jax.training.loaded_model import LoadedModel

FORMAT = 1  # of the folder; raised when an older version could not read it
PARAMS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
KEYS = ("config", "label_names", "temperature", "card", "sizes")  # of config.json


def is_model_folder(folder: str) -> bool:
    """Whether `folder` holds model.safetensors and config.json."""
    folder = files.resolve(folder)
    return all(files.exists(os.path.join(folder, name)) for name in (PARAMS, CONFIG))


def write(model: LoadedModel, folder: str, card: str = "") -> None:
    """Writes the folder: whole, or nothing.

    Args:
      model: from wherever.
      card: its README.md; "" for none.
      folder: must not exist, or be empty.

    Raises:
      UserError: the folder is taken or can't be written, the tokenizer can't be read any more, or
        the parts of the model don't fit each other.
    """
    flat = traverse_util.flatten_dict(model.params, sep="/")
    _check_params(model.model, flat, f"The model read from {model.source}")
    _check_sizes(model, f"The model read from {model.source}")
    with files.new_folder(folder) as made:
        parts.write(model.model, model.tokenizer_folder, made)
        content = json.dumps(_description(model), indent=2, allow_nan=False) + "\n"
        files.replace_file(os.path.join(made, CONFIG), content)
        if card:
            files.replace_file(os.path.join(made, CARD), card)
        params_file.write(os.path.join(made, PARAMS), model.params, {"format_version": str(FORMAT)})


def portable(config: ml_collections.ConfigDict, audio: bool, text: bool):
    """A run's config with nothing of the machine it ran on: paths are those in the folder.

    Args:
      config: of the run.
      audio, text: which modalities the model has.
    """
    config = config.copy_and_resolve_references()
    config.data.dir = configuration.default().data.dir
    config.init_from = ""
    config.audio.pretrained = parts.AUDIO if audio else ""
    config.text.pretrained = parts.TEXT if text else ""
    config.text.tokenizer = parts.TOKENIZER if text else ""
    return config


def _description(model):
    """The content of config.json."""
    m = model.model
    config = portable(model.config, m.audio_encoder is not None, m.text_encoder is not None)
    return {
        "format_version": FORMAT,
        "mmer_jax": metadata.version("mmer_jax"),
        "config": configuration.to_json(config),
        "label_names": list(model.label_names),
        # The transcripts' alone: what older versions read.
        "temperature": model.text_sources.get("gold", {}).get("temperature"),
        "text_sources": model.text_sources,
        "card": model.card,
        "sizes": {
            "classes": m.classes,
            "symbols": m.symbols,
            "vocab_size": m.text_encoder.config.vocab_size if m.text_encoder is not None else 0,
        },
    }


def read(folder: str) -> LoadedModel:
    """The model of a folder that `write` made; no network is needed, and no code of it is run.

    Raises:
      UserError: no such folder, one that isn't whole or is damaged, or of a newer version.
    """
    folder = files.resolve(folder)
    stored = _stored(folder)
    config = configuration.from_json(stored["config"])
    parts.use(config, folder)
    tokenizer, tokenizer_folder = read_tokenizer(config)
    sizes = stored["sizes"]
    model = factory.build_model(config, sizes["classes"], sizes["symbols"], sizes["vocab_size"])
    flat = _read_params(os.path.join(folder, PARAMS))
    _check_params(model, flat, os.path.join(folder, PARAMS))
    loaded = LoadedModel(
        source=folder,
        config=config,
        model=model,
        params=traverse_util.unflatten_dict(flat, sep="/"),
        label_names=tuple(stored["label_names"]),
        text_sources=_text_sources(stored, config),
        tokenizer=tokenizer,
        tokenizer_folder=tokenizer_folder,
        card=stored["card"],
    )
    _check_sizes(loaded, os.path.join(folder, CONFIG))
    return loaded


def _stored(folder):
    """The content of config.json, of a version that can be read."""
    if not is_model_folder(folder):
        raise UserError(
            f"{folder} is no model folder: it must hold {PARAMS} and {CONFIG}; found: "
            f"{_content(folder)}. {AGAIN}"
        )
    path = os.path.join(folder, CONFIG)
    try:
        stored = json.loads(files.read_text(path))
    except ValueError as e:
        raise UserError(f"{path} is not JSON ({e}). {AGAIN}") from e
    version = stored.get("format_version") if isinstance(stored, dict) else None
    if not isinstance(version, int):
        raise UserError(
            f"{path} has no format_version: this is another program's model. Expected a folder "
            "that `python -m mmer_jax.export` wrote."
        )
    if version > FORMAT:
        raise UserError(
            f"{path} is of format {version}, written by mmer_jax {stored.get('mmer_jax')}; this "
            f"version ({metadata.version('mmer_jax')}) reads formats up to {FORMAT}. Update it."
        )
    return _checked(stored, path)


def _text_sources(stored, config):
    if "text_sources" in stored:
        return stored["text_sources"]
    reads = "text" in config.model.modalities
    return reliability.of_old_run(stored["temperature"], config.refit, reads)


def _content(folder):
    if not os.path.isdir(folder):
        return "no such folder"
    return _some(os.listdir(folder)) or "an empty folder"


def _checked(stored, path):
    """`stored` if every entry is there and of its kind."""
    lacking = [key for key in KEYS if key not in stored]
    if lacking:
        raise UserError(f"{path} lacks {', '.join(lacking)}. {AGAIN}")
    sizes, names, temperature = (stored[key] for key in ("sizes", "label_names", "temperature"))
    right = {
        "config": isinstance(stored["config"], dict),
        "card": isinstance(stored["card"], dict),
        "label_names": isinstance(names, list) and all(isinstance(n, str) for n in names),
        "temperature": temperature is None or _is_positive(temperature),
        "text_sources": _are_text_sources(stored.get("text_sources", {})),
        "sizes": isinstance(sizes, dict)
        and all(isinstance(sizes.get(k), int) for k in ("classes", "symbols", "vocab_size")),
    }
    wrong = [f"{key}={stored.get(key)!r}" for key, fine in right.items() if not fine]
    if wrong:
        raise UserError(f"{path} has {'; '.join(wrong)[:200]}, which can't be. {AGAIN}")
    return stored


def _is_positive(x):
    return isinstance(x, (int, float)) and x > 0


def _are_text_sources(sources):
    """Whether it is names -> figures, each a number or None, the temperatures positive."""
    if not isinstance(sources, dict) or not all(isinstance(x, dict) for x in sources.values()):
        return False
    figures = [(k, x.get(k)) for x in sources.values() for k in reliability.NUMBERS]
    return all(
        x is None or (_is_positive(x) if k == "temperature" else isinstance(x, (int, float)))
        for k, x in figures
    )


def _read_params(path):
    flat, metadata = params_file.read(path, AGAIN)
    version = metadata.get("format_version")
    if version != str(FORMAT):
        raise UserError(
            f"{path} has format_version {version!r} in its metadata, not {str(FORMAT)!r}: it was "
            f"not written together with {CONFIG}. {AGAIN}"
        )
    return flat


def _check_params(model, flat, source):
    """Raises UserError, with names, where flat parameters are not the model's."""
    expected = traverse_util.flatten_dict(factory.param_shapes(model), sep="/")
    missing, extra = expected.keys() - flat.keys(), flat.keys() - expected.keys()
    wrong = [
        f"{name} is {flat[name].dtype} {flat[name].shape}, not float32 {expected[name].shape}"
        for name in expected.keys() & flat.keys()
        if (flat[name].shape, flat[name].dtype) != (expected[name].shape, np.float32)
    ]
    found = {"missing": missing, "too many": extra, "of another kind": wrong}
    faults = [f"{len(names)} {what}: {_some(names)}" for what, names in found.items() if names]
    if faults:
        raise UserError(
            f"{source} has other parameters than its config describes. {'. '.join(faults)}. "
            "Parameters and config must come from the same run."
        )


def _check_sizes(model, source):
    classes, names = model.model.classes, model.label_names
    if len(names) != classes:
        raise UserError(f"{source} names {len(names)} classes, but its model has {classes}.")
    if model.tokenizer is None:
        return
    try:
        factory.check_limits(model.model, model.config, model.tokenizer)
    except UserError as e:
        raise UserError(f"{source}: {e} {AGAIN}") from e


def _some(names, most=5):
    return ", ".join(sorted(names)[:most]) + (", ..." if len(names) > most else "")
