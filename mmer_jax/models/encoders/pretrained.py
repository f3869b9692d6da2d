"""Hugging Face checkpoints -> our parameters: every weight found, of the right shape, or an error.

No pickle is executed: safetensors and Flax msgpack are read as data, and PyTorch files only
through `torch.load(weights_only=True)`.
"""

import functools
import hashlib
import os

import numpy as np
from absl import logging
from flax import traverse_util

from mmer_jax.errors import UserError
from mmer_jax.models.encoders import compatibility, preprocessing

FILES = ("model.safetensors", "pytorch_model.bin", "flax_model.msgpack")
# Under which name a checkpoint may keep the encoder.
PREFIXES = ("", "wav2vec2.", "hubert.", "bert.", "roberta.", "encoder.", "model.encoder.")


def load_config(source: str):
    """HF's config object of a hub name or a folder; its code, if it has any, is not run.

    It has `do_normalize` beside HF's options: whether waveforms get zero mean and unit variance,
    from the checkpoint's preprocessor_config.json, and True where that says nothing for wav2vec2
    and HuBERT. Saved with the config, it goes where the config goes. It is not there for a hub
    name whose file can't be looked for.

    Raises:
      UserError: nothing there, no network to look, or a model that computes what ours does not.
    """
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(os.path.expanduser(source), trust_remote_code=False)
    except Exception as e:  # OSError, ValueError, JSON errors or the hub's own
        raise UserError(_not_found(source, "config.json", e)) from e
    compatibility.check_config(config, source)
    if config.model_type in preprocessing.NORMALIZED and not hasattr(config, "do_normalize"):
        normalizes = preprocessing.normalizes(source, config)
        if normalizes is not None:
            config.do_normalize = normalizes
    return config


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
    state = read_state(path)
    return from_state(state, shapes, path)


def from_state(state: dict, shapes: dict, path: str) -> dict:
    """As `load_params`, from a flat dict of arrays already read from `path`."""
    expected = traverse_util.flatten_dict(shapes)
    read = _flax_leaf if path.endswith(".msgpack") else _torch_leaf
    prefix = max(PREFIXES, key=lambda p: sum(read(state, p, k) is not None for k in expected))
    found = {key: read(state, prefix, key) for key in expected}
    missing = sorted("/".join(key) for key, value in found.items() if value is None)
    if missing:
        raise UserError(
            f"{path} lacks {len(missing)} of the {len(expected)} weights that its config.json "
            f"asks for: {_some(missing)}. Nothing was initialised at random in their place; "
            "download the checkpoint again or check that it is of this kind of encoder."
        )
    wrong = [
        f"{'/'.join(key)} {found[key].shape} instead of {tuple(leaf.shape)}"
        for key, leaf in expected.items()
        if found[key].shape != tuple(leaf.shape)
    ]
    if wrong:
        raise UserError(
            f"{path} has weights of other shapes than its config.json says: {_some(sorted(wrong))}."
            " Config and weights must come from the same checkpoint."
        )
    unused = _unused(state, expected, prefix, path)
    compatibility.check_unused(unused, prefix, path)
    logging.info("%s: all %d arrays that the encoder needs were read.", path, len(expected))
    logging.info("%s: %d arrays not needed: %s.", path, len(unused), ", ".join(unused) or "none")
    return traverse_util.unflatten_dict({k: np.asarray(v, np.float32) for k, v in found.items()})


def _unused(state, expected, prefix, path):
    names = _flax_keys if path.endswith(".msgpack") else torch_keys
    used = {name for key in expected for name in names(prefix, key)}
    return sorted(state.keys() - used)


def find_checkpoint(source: str) -> str:
    """Path of the weights file of a hub name (downloaded) or a folder."""
    folder = os.path.expanduser(source)
    if os.path.isdir(folder):
        present = [f for f in FILES if os.path.isfile(os.path.join(folder, f))]
        if not present:
            raise UserError(
                f"No weights in {folder}: it holds {_some(sorted(os.listdir(folder)))}; expected "
                f"one of {', '.join(FILES)}."
            )
        return os.path.join(folder, present[0])
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        for name in FILES:
            try:
                return hf_hub_download(source, name)
            except LocalEntryNotFoundError:
                raise
            except EntryNotFoundError:
                continue
    except Exception as e:  # no network, no such repository, a private one, offline mode
        raise UserError(_not_found(source, "weights", e)) from e
    raise UserError(
        f"{source} on the hub has none of {', '.join(FILES)} (sharded files are not read)."
    )


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
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        while block := f.read(1 << 20):  # Python 3.10 has no hashlib.file_digest
            digest.update(block)
    return digest.hexdigest()


def read_state(path: str) -> dict[str, np.ndarray]:
    """A flat dict of the arrays in a weights file; keys as the file has them, msgpack's with `/`.

    Raises:
      UserError: truncated, not of that format, or holding objects that are not tensors.
    """
    try:
        if path.endswith(".safetensors"):
            return _read_safetensors(path)
        if path.endswith(".msgpack"):
            return _read_msgpack(path)
    except Exception as e:
        raise UserError(
            f"{path} can't be read ({_first_line(e)}). It is truncated or not of that format: "
            "download it again."
        ) from e
    return _read_torch(path)


def _read_safetensors(path):
    from safetensors.numpy import load_file

    return load_file(path)


def _read_msgpack(path):
    from flax.serialization import msgpack_restore

    with open(path, "rb") as f:
        tree = msgpack_restore(f.read())
    return traverse_util.flatten_dict(tree, sep="/")


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
            f"{path} can't be read as plain weights ({_first_line(e)}). It is damaged, or it holds "
            "pickled objects, which are never executed here. Save it again as safetensors."
        ) from e
    state = state.get("state_dict", state) if isinstance(state, dict) else None
    if not isinstance(state, dict):
        raise UserError(f"{path} holds no table of weights; expected a PyTorch state dict.")
    return {k: v.float().numpy() for k, v in state.items() if hasattr(v, "numpy")}


def _torch_leaf(state, prefix, key):
    """The array for our parameter `key` in PyTorch's spelling and layout, or None."""
    for name in torch_keys(prefix, key):
        value = state.get(name)
        if value is not None:
            return _to_flax_layout(value) if key[-1] == "kernel" else value
    return None


def torch_keys(prefix: str, key: tuple[str, ...]) -> list[str]:
    """The names under which a PyTorch checkpoint may have our parameter `key`."""
    module = prefix + ".".join(key[:-1])
    return [f"{module}.{name}" for name in _torch_names(key[-1])]


def _torch_names(leaf):
    return {
        "kernel": ("weight",),
        "embedding": ("weight",),
        "scale": ("weight", "gamma"),  # gamma, beta: checkpoints converted from TensorFlow
        "bias": ("bias", "beta"),
        "weight_g": ("weight_g", "parametrizations.weight.original0"),
        "weight_v": ("weight_v", "parametrizations.weight.original1"),
    }[leaf]


def _to_flax_layout(weight):
    """Linear [out, in] -> [in, out]; Conv1d [out, in, k] -> [k, in, out]."""
    return np.transpose(weight)


def _flax_leaf(state, prefix, key):
    return state.get(_flax_keys(prefix, key)[0])


def _flax_keys(prefix, key):
    return [prefix.replace(".", "/") + "/".join(key)]


def _some(names, most=8):
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _first_line(error):
    return (str(error).strip() or type(error).__name__).split("\n")[0][:200]


def _not_found(source, what, error):
    return (
        f"No {what} could be had for {source!r} ({_first_line(error)}). Expected a folder in "
        "Hugging Face format or, with a network, the name of a model on the hub such as "
        "facebook/wav2vec2-base. Without a network: download it elsewhere "
        "(`hf download NAME --local-dir FOLDER`) and name the folder."
    )
