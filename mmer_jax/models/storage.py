"""A trained model's files: parameters in safetensors, encoders' configs, tokenizer; no pickle."""

import contextlib
import copy
import hashlib
import json
import os
import pathlib
import shutil
import tempfile

import jax
import ml_collections
import numpy as np
from etils import epath
from flax import traverse_util
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from mmer_jax import files, plain
from mmer_jax.data.text import TOKENIZER_FILE, Tokenizer
from mmer_jax.errors import UserError, first_line
from mmer_jax.models.encoders import ENCODERS
from mmer_jax.models.mmer import MMER

AUDIO, TEXT, TOKENIZER = "audio_encoder", "text_encoder", "tokenizer"
AGAIN = "Export it again: python -m mmer_jax.export WORKDIR OUT; or copy it again, as a whole."


def write_params(path: str, params: dict, metadata: dict[str, str]) -> None:
    """Writes a file that is whole or not there.

    Args:
      path: on a disk or in a bucket.
      params: nested dict of arrays, which are stored as float32.
      metadata: at most one entry: safetensors writes several in any order, and the same model
        should give the same file.

    Raises:
      OSError: it can't be written.
    """
    flat = traverse_util.flatten_dict(params, sep="/")
    arrays = {name: np.asarray(x, np.float32, order="C") for name, x in flat.items()}
    with files.replacing(path) as temporary:
        # save_file writes to a file of another name each time first, which it leaves when it is
        # killed: in a folder, for the next one to find (where files can be locked).
        folder = pathlib.Path(f"{temporary}.folder")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            # Without arrays, an empty table of metadata would make a file that can't be read.
            save_file(arrays, folder / "params", metadata or None)
            os.replace(folder / "params", temporary)
        except SafetensorError as e:  # what the system said is in it
            raise OSError(str(e)) from e
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def read_params(path: str, advice: str) -> tuple[dict, dict[str, str]]:
    """(flat dict of arrays, metadata).

    Args:
      path: on a disk or in a bucket.
      advice: ends the message of a file that can't be read.

    Raises:
      UserError: it can't be read.
    """
    return _open(path, advice, lambda f: {name: f.get_tensor(name) for name in f.keys()})


def read_metadata(path: str, advice: str) -> dict[str, str]:
    """As `read_params`, without the arrays; a truncated file on a disk is no less an error."""
    if not files.is_remote(path):
        return _open(path, advice, lambda f: None)[1]
    with epath.Path(path).open("rb") as f:  # not all of it has to come over the network
        size = int.from_bytes(f.read(8), "little")
        return json.loads(f.read(size)).get("__metadata__", {})


def _open(path, advice, get):
    try:
        with _local(path) as local, safe_open(local, framework="numpy") as f:
            return get(f), f.metadata() or {}
    except Exception as e:  # OSError, safetensors' own, or a dtype that numpy lacks
        raise UserError(
            f"{path} can't be read ({first_line(e)}). It is truncated or damaged. {advice}"
        ) from e


@contextlib.contextmanager
def _local(path):
    """The path of a local file with the content of one that may be in a bucket."""
    if not files.is_remote(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        local = pathlib.Path(folder, "copy.safetensors")
        local.write_bytes(epath.Path(path).read_bytes())
        yield str(local)


def add_params(digest, params: dict) -> None:
    """Feeds names, types, shapes and values of a nested dict of arrays to a hash of hashlib's."""
    for keys, value in jax.tree_util.tree_leaves_with_path(params):
        value = np.ascontiguousarray(value)
        digest.update(f"{jax.tree_util.keystr(keys)} {value.dtype} {value.shape}".encode())
        digest.update(value.tobytes())


def params_digest(params: dict) -> str:
    """16 hex digits that change with any parameter."""
    digest = hashlib.sha256()
    add_params(digest, params)
    return digest.hexdigest()[:16]


def parts_digests(folder: str, modalities) -> dict[str, str]:
    """Path below a model's folder -> digest, of `part_files` that `write_parts` wrote into it.

    Of their content: neither line breaks nor indents count.
    """
    digests = {}
    for name in part_files(modalities):
        content = json.dumps(plain.read(os.path.join(folder, name), AGAIN), sort_keys=True)
        digests[name] = hashlib.sha256(content.encode()).hexdigest()[:16]
    return digests


def write_parts(model: MMER, tokenizer: Tokenizer | None, folder: str) -> None:
    """Writes encoders' configs and tokenizer.

    Args:
      model: the Flax module.
      tokenizer: None for a model of speech alone.
      folder: on a disk.
    """
    for name in (AUDIO, TEXT):
        encoder = getattr(model, name)
        if encoder is not None:
            config = copy.deepcopy(encoder.config)
            # One from scratch does not say it; read again, it would.
            if name == AUDIO:
                usual = ENCODERS[config.model_type].normalizes
                config.do_normalize = getattr(config, "do_normalize", usual)
            config.save_pretrained(os.path.join(folder, name))
    if tokenizer:
        tokenizer.save(os.path.join(folder, TOKENIZER))


def use_parts(config: ml_collections.ConfigDict, folder: str) -> None:
    """Makes a config name the encoders and the tokenizer that `write_parts` wrote into `folder`.

    Raises:
      UserError: some of them are missing.
    """
    modalities = config.model.modalities
    missing = [n for n in part_files(modalities) if not files.exists(os.path.join(folder, n))]
    if missing:
        raise UserError(f"{folder} lacks {', '.join(missing)}. {AGAIN}")
    for name, part in (("audio", config.audio), ("text", config.text)):
        encoder = os.path.join(folder, f"{name}_encoder")
        part.pretrained = files.local_copy(encoder) if name in modalities else ""
    config.text.tokenizer = ""
    if "text" in modalities:
        tokenizer = files.local_copy(os.path.join(folder, TOKENIZER))
        config.text.tokenizer = os.path.join(tokenizer, TOKENIZER_FILE)


def part_files(modalities) -> list[str]:
    """Files that `write_parts` wrote for a model of these modalities, one of each folder."""
    needed = [f"{name}_encoder/config.json" for name in modalities]
    return needed + ([f"{TOKENIZER}/{TOKENIZER_FILE}"] if "text" in modalities else [])
