"""Files of a Hugging Face checkpoint, in a folder or on the hub, and the arrays in them.

Nothing in them is executed: safetensors and Flax msgpack are read as data, and PyTorch files only
through `torch.load(weights_only=True)`.
"""

import functools
import hashlib
import json
import os

import huggingface_hub
import numpy as np
import safetensors.numpy
from flax import serialization, traverse_util
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

from mmer_jax import files
from mmer_jax.errors import UserError, first_line

INDEX = ".index.json"  # ends the name of a table of the files that hold a model's arrays
# In the order in which they are looked for; of one format, in one file or in several.
FILES = tuple(
    name + ending
    for name in ("model.safetensors", "pytorch_model.bin", "flax_model.msgpack")
    for ending in ("", INDEX)
)


def fetch(source: str, name: str) -> str | None:
    """Path of a file of a folder, or of a hub name (downloaded); None where it has none.

    Raises:
      LocalEntryNotFoundError, or another of the hub's errors: no one can know.
    """
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


def find(source: str, names=FILES) -> str:
    """Path of the first of these files that a hub name (downloaded) or a folder has.

    Of an index, all the files that it names are there, too.

    Raises:
      UserError: it has none of them, or can't be had.
    """
    try:
        path = next(filter(None, (fetch(source, name) for name in names)), None)
        missing = [name for name in _shards(path) if not fetch(source, name)] if path else []
    except UserError:
        raise
    except Exception as e:  # no network, no such repository, a private one, offline mode
        raise UserError(not_found(source, "weights", e)) from e
    if path is None:
        folder = os.path.expanduser(source)
        content = f" holds {listed(sorted(os.listdir(folder)))}" if os.path.isdir(folder) else ""
        raise UserError(
            f"No weights in {source}: it{content or ' has other files'}; expected one of "
            f"{', '.join(names)}."
        )
    if missing:
        raise UserError(
            f"{path} names files that {source} lacks: {listed(missing)}. Download the checkpoint "
            "again, as a whole."
        )
    return path


def _shards(path):
    """Names of the files that an index lists, sorted; of any other file none."""
    if not path.endswith(INDEX):
        return []
    try:
        with open(path, encoding="utf-8") as f:
            names = sorted(set(json.load(f)["weight_map"].values()))
        if not names or any(os.path.basename(name) != name for name in names):
            raise ValueError("no table of files beside it")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as e:
        raise UserError(
            f"{path} can't be read ({first_line(e)}). Download the checkpoint again."
        ) from e
    return names


def _parts(path):
    """Paths of the files that hold the arrays: those that an index lists, or the file itself."""
    return [os.path.join(os.path.dirname(path), name) for name in _shards(path)] or [path]


def provenance(source: str, names=FILES) -> dict:
    """Which weights a hub name or a folder stands for.

    Returns:
      `source`; `file`, the weights file's name; `revision`, the hub's commit, or None for a folder;
      `sha256` of the weights file; of several that of their digests, one after the other.

    Raises:
      UserError: see `find`.
    """
    path = find(source, names)
    # The hub's cache: .../snapshots/<commit>/<file>.
    above, commit = os.path.split(os.path.dirname(os.path.abspath(path)))
    of_hub = os.path.basename(above) == "snapshots"
    digests = [_sha256(part) for part in _parts(path)]
    one = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    return {
        "source": source,
        "file": os.path.basename(path),
        "revision": commit if of_hub else None,
        "sha256": one,
    }


def _sha256(path):
    stat = os.stat(path)
    return _file_digest(os.path.realpath(path), stat.st_size, stat.st_mtime_ns)


@functools.lru_cache
def _file_digest(path, size, changed):
    """Once per file as it is: a run of several seeds asks again."""
    return files.sha256(path)


def read(path: str) -> dict[str, np.ndarray]:
    """A flat dict of the arrays that `find` found; keys as the files have them, msgpack's with `/`.

    Raises:
      UserError: truncated, not of that format, or holding objects that are not tensors.
    """
    state = {}
    for part in _parts(path):
        state |= _read(part)
    return state


def _read(path):
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


def listed(names, most=8) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def not_found(source: str, what: str, error) -> str:
    """The message of something of a checkpoint that can't be had."""
    return (
        f"No {what} could be had for {source!r} ({first_line(error)}). Expected a folder in "
        "Hugging Face format or, with a network, the name of a model on the hub such as "
        "facebook/wav2vec2-base. Without a network: download it elsewhere "
        "(`hf download NAME --local-dir FOLDER`) and name the folder."
    )
