"""What a checkpoint's preprocessor_config.json says of its input, read as data."""

import json
import os

from mmer_jax.data.preprocessing import SAMPLE_RATE
from mmer_jax.errors import UserError

FILE = "preprocessor_config.json"
# Whether the extractor of a kind of model normalises where its config does not say.
NORMALIZED = {"wav2vec2": True, "hubert": True, "whisper": False}
# What our log-mel is made with; a file that lacks them means these.
_WHISPER = {"n_fft": 400, "hop_length": 160}


class _NotCached(Exception):
    """There may be such a file on the hub, and no network to look."""


def normalizes(source: str, config) -> bool | None:
    """Whether the checkpoint's waveforms have zero mean and unit variance; None: nobody knows.

    That is for a name on the hub, without a network, where the file was never looked for.

    Args:
      source: hub name or folder.
      config: HF's, of a kind in `NORMALIZED`.

    Raises:
      UserError: the file is damaged, or the input is not what we make.
    """
    options = _read(source)
    if options is None:
        return None
    expected = {"sampling_rate": SAMPLE_RATE}
    if config.model_type == "whisper":
        expected |= _WHISPER | {"feature_size": config.num_mel_bins}
    for name, value in expected.items():
        if options.get(name, value) != value:
            raise UserError(
                f"{source}: its {FILE} has {name}={options[name]!r}; this program feeds encoders "
                f"with {name}={value}. Take a checkpoint that was trained so."
            )
    value = options.get("do_normalize", NORMALIZED[config.model_type])
    if not isinstance(value, bool):
        raise UserError(f"{source}: its {FILE} has do_normalize={value!r}; expected true or false.")
    return value


def _read(source):
    """The file's content; {} where there is none, None where that can't be seen."""
    try:
        path = _find(source)
    except _NotCached:
        return None
    if not path:
        return {}
    try:
        with open(path, encoding="utf-8") as f:
            options = json.load(f)
        if not isinstance(options, dict):
            raise ValueError("no table of options")
    except (OSError, ValueError) as e:
        raise UserError(f"{path} can't be read ({e}). Download the checkpoint again.") from e
    return options


def _find(source):
    folder = os.path.expanduser(source)
    if os.path.isdir(folder):
        path = os.path.join(folder, FILE)
        return path if os.path.isfile(path) else None
    from huggingface_hub import _CACHED_NO_EXIST, hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return hf_hub_download(source, FILE)
    except LocalEntryNotFoundError as e:  # config.json was had: it is cached and we are offline
        if try_to_load_from_cache(source, FILE) is _CACHED_NO_EXIST:
            return None
        raise _NotCached from e
    except EntryNotFoundError:
        return None
    except Exception as e:  # the hub's or the network's
        raise UserError(
            f"{source}: whether it has a {FILE} can't be seen ({str(e).strip().splitlines()[0]})."
        ) from e
