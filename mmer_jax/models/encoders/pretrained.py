"""Hugging Face checkpoints: a config that our encoders can compute, and every one of its weights.

Nothing of a checkpoint is executed: safetensors and Flax msgpack are read as data, and PyTorch
files only through `torch.load(weights_only=True)`.
"""

import functools
import json
import os
import pkgutil
import re

import huggingface_hub
import numpy as np
import safetensors.numpy
from absl import logging
from flax import serialization, traverse_util
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from huggingface_hub.utils.sha import sha_fileobj

from mmer_jax.data.preprocessing import SAMPLE_RATE
from mmer_jax.errors import UserError, first_line
from mmer_jax.models.encoders import ENCODERS

FILES = ("model.safetensors", "pytorch_model.bin", "flax_model.msgpack")
PREPROCESSOR = "preprocessor_config.json"
# Under which name a checkpoint may keep the encoder.
PREFIXES = ("", *(f"{name}." for name in ENCODERS), "encoder.", "model.encoder.")
# Arrays that no encoder's states depend on, by their names below the model that holds the encoder.
HARMLESS = re.compile(
    r"(.*\.)?(position_ids|token_type_ids|masked_spec_embed|num_batches_tracked)"
    r"|(pooler|decoder|cls|lm_head|qa_outputs|classifier|projector|proj_out|quantizer|project_q"
    r"|project_hid|layer_weights|tdnn|objective|score|seq_relationship)(\..*)?"
)


def load_config(source: str):
    """Hugging Face's config of a hub name or a folder, with `do_normalize` of an audio encoder.

    `do_normalize`, whether waveforms get zero mean and unit variance, is what the checkpoint's
    preprocessor_config.json says, or the registry's where that says nothing. Saved with the config,
    it goes where the config goes. It is missing where a hub name's file can't be looked for.

    Raises:
      UserError: nothing there, no network to look, or a model that computes what ours does not.
    """
    from transformers import CONFIG_MAPPING, AutoConfig

    for name, encoder in ENCODERS.items():
        if name not in CONFIG_MAPPING:
            _ = encoder.cls  # its module registers its config
    try:
        config = AutoConfig.from_pretrained(os.path.expanduser(source), trust_remote_code=False)
    except Exception as e:  # OSError, ValueError, JSON errors or the hub's own
        raise UserError(_not_found(source, "config.json", e)) from e
    if config.model_type not in ENCODERS:
        return config  # the factory refuses it by its kind
    check_config(config, source)
    audio = ENCODERS[config.model_type].modality == "audio"
    if audio and not hasattr(config, "do_normalize"):
        options = _preprocessor(source)
        if options is not None:
            config.do_normalize = _do_normalize(options, config, source)
    return config


def check_config(config, source: str) -> None:
    """Raises UserError where a config of `source` asks for what our module does not compute."""
    for name, values in ENCODERS[config.model_type].supported.items():
        values = tuple(pkgutil.resolve_name(values)) if isinstance(values, str) else values
        value = getattr(config, name, values[0])
        if not any(value == v and type(value) is type(v) for v in values):
            raise UserError(
                f"{source}: its config.json has {name}={value!r}, with which a {config.model_type} "
                "model computes something that this encoder does not. Supported: "
                f"{', '.join(map(repr, values))}. Take another checkpoint; changing the value "
                "alone would make another model of this one."
            )
    heads = getattr(config, "num_attention_heads", 1)
    if config.hidden_size % heads:
        raise UserError(
            f"{source}: its config.json has {heads} attention heads for a width of "
            f"{config.hidden_size}, which they do not divide."
        )


def _do_normalize(options, config, source):
    encoder = ENCODERS[config.model_type]
    for name, value in {"sampling_rate": SAMPLE_RATE, **encoder.preprocessor}.items():
        value = getattr(config, value) if isinstance(value, str) else value
        if options.get(name, value) != value:
            raise UserError(
                f"{source}: its {PREPROCESSOR} has {name}={options[name]!r}; this program feeds "
                f"encoders with {name}={value}. Take a checkpoint that was trained so."
            )
    value = options.get("do_normalize", encoder.normalizes)
    if not isinstance(value, bool):
        raise UserError(
            f"{source}: its {PREPROCESSOR} has do_normalize={value!r}; expected true or false."
        )
    return value


def _preprocessor(source):
    """Options of preprocessor_config.json; {} where there is none, None where no one can know."""
    try:
        path = _fetch(source, PREPROCESSOR)
    except LocalEntryNotFoundError:
        return None
    except Exception as e:  # the hub's or the network's
        raise UserError(_not_found(source, PREPROCESSOR, e)) from e
    if path is None:
        return {}
    try:
        with open(path, encoding="utf-8") as f:
            options = json.load(f)
        if not isinstance(options, dict):
            raise ValueError("no table of options")
    except (OSError, ValueError) as e:
        raise UserError(f"{path} can't be read ({e}). Download the checkpoint again.") from e
    return options


def _fetch(source, name):
    """Path of a file of a folder, or of a hub name (downloaded); None where it has none."""
    folder = os.path.expanduser(source)
    if os.path.isdir(folder):
        path = os.path.join(folder, name)
        return path if os.path.isfile(path) else None
    try:
        return huggingface_hub.hf_hub_download(source, name)
    except LocalEntryNotFoundError:  # not cached, and no network to look
        cached = huggingface_hub.try_to_load_from_cache(source, name)
        if cached is huggingface_hub._CACHED_NO_EXIST:  # it was looked for when there was one
            return None
        raise
    except EntryNotFoundError:
        return None


def load_params(source: str, shapes: dict) -> dict:
    """The encoder's parameters from a checkpoint.

    Args:
      source: hub name or folder.
      shapes: nested dict of the encoder's parameters, each with a `.shape`.

    Returns:
      The same nested dict of float32 arrays.

    Raises:
      UserError: no checkpoint, a file that can't be read, a weight missing or of another shape.
    """
    path = find_checkpoint(source)
    return from_state(read_state(path), shapes, path)


def from_state(state: dict, shapes: dict, path: str) -> dict:
    """As `load_params`, from a flat dict of arrays already read from `path`."""
    expected = traverse_util.flatten_dict(shapes)
    names = _flax_keys if path.endswith(".msgpack") else torch_keys

    def found_under(prefix):
        """Parameter -> the name of its array in the file."""
        pairs = ((k, name) for k in expected for name in names(prefix, k)[::-1] if name in state)
        return dict(pairs)  # the first of a parameter's names

    prefix = max(PREFIXES, key=lambda p: len(found_under(p)))
    found = found_under(prefix)
    missing = sorted("/".join(key) for key in expected.keys() - found.keys())
    if missing:
        raise UserError(
            f"{path} lacks {len(missing)} of the {len(expected)} weights that its config.json "
            f"asks for: {_some(missing)}. Nothing was initialised at random in their place; "
            "download the checkpoint again or check that it is of this kind of encoder."
        )
    # PyTorch's Linear [out, in] -> [in, out]; Conv1d [out, in, k] -> [k, in, out].
    turned = names is torch_keys
    params = {
        key: state[name].T if turned and key[-1] == "kernel" else state[name]
        for key, name in found.items()
    }
    wrong = [
        f"{'/'.join(key)} {params[key].shape} instead of {tuple(leaf.shape)}"
        for key, leaf in expected.items()
        if params[key].shape != tuple(leaf.shape)
    ]
    if wrong:
        raise UserError(
            f"{path} has weights of other shapes than its config.json says: {_some(sorted(wrong))}."
            " Config and weights must come from the same checkpoint."
        )
    unused = sorted(state.keys() - {name for key in expected for name in names(prefix, key)})
    check_unused(unused, prefix, path)
    logging.info("%s: all %d arrays that the encoder needs were read.", path, len(expected))
    logging.info("%s: %d arrays not needed: %s.", path, len(unused), ", ".join(unused) or "none")
    return traverse_util.unflatten_dict({k: np.asarray(v, np.float32) for k, v in params.items()})


def check_unused(names, prefix: str, path: str) -> None:
    """Raises UserError where weights inside the encoder are among those that it does not read.

    Args:
      names: of the arrays in the file `path` that the encoder does not read.
      prefix: under which the file keeps the model that holds the encoder; "" for all of it.
    """

    def is_inside(name):
        name = name.replace("/", ".")
        return name.startswith(prefix) and not HARMLESS.fullmatch(name.removeprefix(prefix))

    inside = sorted(filter(is_inside, names))
    if inside:
        raise UserError(
            f"{path} has {len(inside)} weights inside the encoder that its config.json does not "
            f"ask for: {_some(inside)}. Without them the encoder would compute something else; "
            "take a checkpoint without adapters, quantisation or further layers, and its own "
            "config.json."
        )


def find_checkpoint(source: str) -> str:
    """Path of the weights file of a hub name (downloaded) or a folder."""
    try:
        path = next(filter(None, (_fetch(source, name) for name in FILES)), None)
    except Exception as e:  # no network, no such repository, a private one, offline mode
        raise UserError(_not_found(source, "weights", e)) from e
    if path is None:
        folder = os.path.expanduser(source)
        content = f" holds {_some(sorted(os.listdir(folder)))}" if os.path.isdir(folder) else ""
        raise UserError(
            f"No weights in {source}: it{content or ' has other files'}; expected one of "
            f"{', '.join(FILES)} (sharded files are not read)."
        )
    return path


def provenance(source: str) -> dict:
    """Which weights a hub name or a folder stands for.

    Returns:
      `source`; `file`, the weights file's name; `revision`, the hub's commit, or None for a folder;
      `sha256` of the weights file.

    Raises:
      UserError: see `find_checkpoint`.
    """
    path = find_checkpoint(source)
    # The hub's cache: .../snapshots/<commit>/<file>.
    above, commit = os.path.split(os.path.dirname(os.path.abspath(path)))
    of_hub = os.path.basename(above) == "snapshots"
    stat = os.stat(path)
    return {
        "source": source,
        "file": os.path.basename(path),
        "revision": commit if of_hub else None,
        "sha256": _sha256(os.path.realpath(path), stat.st_size, stat.st_mtime_ns),
    }


@functools.lru_cache
def _sha256(path, size, changed):
    """Once per file as it is: a run of several seeds asks again."""
    with open(path, "rb") as f:
        return sha_fileobj(f).hex()


def read_state(path: str) -> dict[str, np.ndarray]:
    """A flat dict of the arrays in a weights file; keys as the file has them, msgpack's with `/`.

    Raises:
      UserError: truncated, not of that format, or holding objects that are not tensors.
    """
    try:
        if path.endswith(".safetensors"):
            return safetensors.numpy.load_file(path)
        if path.endswith(".msgpack"):
            with open(path, "rb") as f:
                return traverse_util.flatten_dict(serialization.msgpack_restore(f.read()), sep="/")
    except Exception as e:
        raise UserError(
            f"{path} can't be read ({first_line(e)}). It is truncated or not of that format: "
            "download it again."
        ) from e
    return _read_torch(path)


def _read_torch(path):
    try:
        import torch
    except ImportError as e:
        raise UserError(
            f"{path} is a PyTorch file, and reading one needs PyTorch: "
            'pip install "mmer_jax[convert]". Or use a checkpoint with model.safetensors.'
        ) from e
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as e:
        raise UserError(
            f"{path} can't be read as plain weights ({first_line(e)}). It is damaged, or it holds "
            "pickled objects, which are never executed here. Save it again as safetensors."
        ) from e
    state = state.get("state_dict", state) if isinstance(state, dict) else None
    if not isinstance(state, dict):
        raise UserError(f"{path} holds no table of weights; expected a PyTorch state dict.")
    return {k: v.float().numpy() for k, v in state.items() if hasattr(v, "numpy")}


def torch_keys(prefix: str, key: tuple[str, ...]) -> list[str]:
    """The names under which a PyTorch checkpoint may have our parameter `key`."""
    module = prefix + ".".join(key[:-1])
    return [f"{module}.{name}" for name in _TORCH_NAMES[key[-1]]]


_TORCH_NAMES = {
    "kernel": ("weight",),
    "embedding": ("weight",),
    "scale": ("weight", "gamma"),  # gamma, beta: checkpoints converted from TensorFlow
    "bias": ("bias", "beta"),
    "weight_g": ("weight_g", "parametrizations.weight.original0"),
    "weight_v": ("weight_v", "parametrizations.weight.original1"),
}


def _flax_keys(prefix, key):
    return [prefix.replace(".", "/") + "/".join(key)]


def _some(names, most=8):
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _not_found(source, what, error):
    return (
        f"No {what} could be had for {source!r} ({first_line(error)}). Expected a folder in "
        "Hugging Face format or, with a network, the name of a model on the hub such as "
        "facebook/wav2vec2-base. Without a network: download it elsewhere "
        "(`hf download NAME --local-dir FOLDER`) and name the folder."
    )
