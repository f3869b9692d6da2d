"""Hugging Face checkpoints: configs that our encoders can compute, and every one of the weights."""

import json
import os
import pkgutil
import re

import numpy as np
from absl import logging
from flax import traverse_util
from huggingface_hub.errors import LocalEntryNotFoundError

from mmer_jax.data.preprocessing import SAMPLE_RATE
from mmer_jax.errors import UserError
from mmer_jax.models.encoders import ENCODERS, completed, weight_files
from mmer_jax.models.encoders.weight_files import fetch, listed, not_found
from mmer_jax.plain import is_kind

PREPROCESSOR = "preprocessor_config.json"
# Part of an option's name in Hugging Face's configs -> the largest size that is computed with.
_MOST = {"layers": 1000, "mel_bins": 1024, "source_positions": 2**16}
NO_ADAPTER = "none"  # a value of config.audio.adapter
MASKED = "masked_spec_embed"  # the vector that stands in the place of masked frames
_ADAPTER = "adapter_layer."  # in the names of its weights, in each layer
# Under which name a checkpoint may keep the encoder.
PREFIXES = (
    "",
    *(f"{name.replace('-', '_')}." for name in ENCODERS),  # others have one of these, or none
    "encoder.",
    "model.encoder.",
)
# Arrays that no encoder's states depend on, by their names below the model that holds the encoder.
HARMLESS = re.compile(
    r"(.*\.)?(position_ids|token_type_ids|masked_spec_embed|num_batches_tracked)"
    r"|(pooler|decoder|cls|lm_head|qa_outputs|classifier|projector|proj_out|quantizer|project_q"
    r"|project_hid|layer_weights|tdnn|objective|score|seq_relationship)(\..*)?"
)


def load_config(source: str, adapter: str = ""):
    """Hugging Face's config of a hub name or a folder, with `do_normalize` of an audio encoder.

    `do_normalize`, whether waveforms get zero mean and unit variance, is what the checkpoint's
    preprocessor_config.json says, or the registry's where that says nothing. Saved with the config,
    it goes where the config goes. It is missing where a hub name's file can't be looked for.

    Args:
      source: hub name or folder.
      adapter: `config.audio.adapter`, see `load_params`.

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
        raise UserError(not_found(source, "config.json", e)) from e
    if config.model_type not in ENCODERS:
        return config  # the factory refuses it by its kind
    check_config(config, source)
    _choose_adapter(config, adapter, source)
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
    _check_sizes(config, source)
    heads = getattr(config, "num_attention_heads", 1)
    if config.hidden_size % heads:
        raise UserError(
            f"{source}: its config.json has {heads} attention heads for a width of "
            f"{config.hidden_size}, which they do not divide."
        )


def _check_sizes(config, source):
    """Raises UserError for sizes that no encoder has: they would fill the memory, or never end."""
    usual = type(config)().to_dict()
    for name, value in config.to_dict().items():
        if type(usual.get(name)) is not int or value is None:
            continue
        least = 1 if re.search("heads|hidden_size|d_model|layers", name) else -(2**20)
        most = next((most for part, most in _MOST.items() if part in name), 2**20)
        if not is_kind(value, int) or not least <= value <= most:
            raise UserError(
                f"{source}: its config.json has {name}={value!r:.60}; expected a whole number up "
                f"to {most}. Download the checkpoint again, or copy the model again, as a whole."
            )


def _choose_adapter(config, adapter, source):
    """Leaves adapters out of the config where that is asked for; refuses what can't be meant."""
    width = getattr(completed(config), "adapter_attn_dim", None)
    if adapter == NO_ADAPTER:
        config.adapter_attn_dim = None
    elif adapter and width is None:
        raise UserError(
            f"config.audio.adapter is {adapter!r}, and {source} has no adapters (adapter_attn_dim "
            "in its config.json). Leave the option empty, or take a checkpoint such as "
            "facebook/mms-1b-all."
        )
    elif width is not None and not adapter:
        raise UserError(
            f"{source} has adapters of single languages (adapter_attn_dim={width} in its "
            "config.json), and none is chosen. Name the language, as in "
            "--config.audio.adapter=eng for its adapter.eng.safetensors; or "
            f"--config.audio.adapter={NO_ADAPTER} for the encoder without adapters."
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
        path = fetch(source, PREPROCESSOR)
    except LocalEntryNotFoundError:
        return None
    except Exception as e:  # the hub's or the network's
        raise UserError(not_found(source, PREPROCESSOR, e)) from e
    if path is None:
        return {}
    try:
        with open(path, encoding="utf-8") as f:
            options = json.load(f)
        if not isinstance(options, dict):
            raise ValueError("no table of options")
    except (OSError, ValueError, RecursionError) as e:
        raise UserError(f"{path} can't be read ({e}). Download the checkpoint again.") from e
    return options


def load_params(source: str, shapes: dict, adapter: str = "") -> dict:
    """The encoder's parameters from a checkpoint.

    Args:
      source: hub name or folder.
      shapes: nested dict of the encoder's parameters, each with a `.shape`.
      adapter: language of adapters that the checkpoint has files of, as in MMS; `none`: leaves out
        those that its weights hold.

    Returns:
      The same nested dict of float32 arrays. `MASKED` is missing where the checkpoint, trained
      without masking, lacks it.

    Raises:
      UserError: no checkpoint, a file that can't be read, a weight missing or of another shape.
    """
    path = weight_files.find(source)
    state = weight_files.read(path)
    if adapter:
        state = {name: x for name, x in state.items() if _ADAPTER not in name}
    if adapter not in ("", NO_ADAPTER):
        file = weight_files.find(source, adapter_files(adapter))
        prefix = next((p for p in PREFIXES if f"{p}encoder.layer_norm.weight" in state), "")
        state |= {  # beside the adapters, such a file has a head of the language's letters
            prefix + name[name.index("encoder.") :]: x
            for name, x in weight_files.read(file).items()
            if _ADAPTER in name
        }
        path = f"{path} with {os.path.basename(file)}"
    return from_state(state, shapes, path)


def adapter_files(adapter: str) -> tuple[str, ...]:
    """Names that the file of a language's adapters may have."""
    return f"adapter.{adapter}.safetensors", f"adapter.{adapter}.bin"


def from_state(state: dict, shapes: dict, path: str) -> dict:
    """As `load_params`, from a flat dict of arrays already read from `path`."""
    expected = traverse_util.flatten_dict(shapes)
    names = _flax_keys if ".msgpack" in os.path.basename(path) else torch_keys

    def found_under(prefix):
        """Parameter -> the name of its array in the file."""
        pairs = ((k, name) for k in expected for name in names(prefix, k)[::-1] if name in state)
        return dict(pairs)  # the first of a parameter's names

    prefix = max(PREFIXES, key=lambda p: len(found_under(p)))
    found = found_under(prefix)
    missing = sorted("/".join(key) for key in expected.keys() - found.keys() - {(MASKED,)})
    if missing:
        raise UserError(
            f"{path} lacks {len(missing)} of the {len(expected)} weights that its config.json "
            f"asks for: {listed(missing)}. Nothing was initialised at random in their place; "
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
        if key in params and params[key].shape != tuple(leaf.shape)
    ]
    if wrong:
        raise UserError(
            f"{path} has weights of other shapes than its config.json says: "
            f"{listed(sorted(wrong))}. Config and weights must come from the same checkpoint."
        )
    unused = sorted(state.keys() - {name for key in expected for name in names(prefix, key)})
    check_unused(unused, prefix, path)
    logging.info("%s: all %d arrays that the encoder needs were read.", path, len(found))
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
            f"ask for: {listed(inside)}. Without them the encoder would compute something else; "
            "take a checkpoint without adapters, quantisation or further layers, and its own "
            "config.json."
        )


def torch_keys(prefix: str, key: tuple[str, ...]) -> list[str]:
    """The names under which a PyTorch checkpoint may have our parameter `key`."""
    names = _TORCH_NAMES.get(key[-1], key[-1:])
    return [prefix + ".".join((*key[:-1], name)) for name in names]


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
