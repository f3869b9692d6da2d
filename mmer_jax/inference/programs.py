"""Runs the StableHLO programs of a model folder, without any of the model's code.

That takes jax, flatbuffers (which jax.export asks for), numpy and safetensors; neither flax nor
transformers. `stablehlo/README.md` of such a folder shows the same in a few lines, without padding
and without this module.
"""

import json
import os

import jax
import numpy as np
from jax import export as jax_export

from mmer_jax.errors import UserError
from mmer_jax.metrics import classification, reliability

FORMAT = 1
FOLDER, INDEX = "stablehlo", "index.json"  # below a model folder
PARAMS, CONFIG = "model.safetensors", "config.json"


class Programs:
    """The programs of a model folder, each read and compiled when it is first needed.

    Args:
      folder: a model folder with `stablehlo/` in it.

    Attributes:
      index: the content of index.json.

    Raises:
      UserError: no such folder, or a damaged one.
    """

    def __init__(self, folder: str):
        from safetensors.numpy import load_file

        self._folder = os.path.join(os.path.abspath(os.path.expanduser(folder)), FOLDER)
        path = os.path.join(self._folder, INDEX)
        self.index = _read(path, _read_json)
        if self.index.get("format_version") != FORMAT:
            raise UserError(
                f"{path} is of format {self.index.get('format_version')!r}; this version of "
                f"mmer_jax reads {FORMAT}. Export the model again."
            )
        params = _read(os.path.join(os.path.dirname(self._folder), PARAMS), load_file)
        self._params = jax.device_put(params)
        self._calls = {}

    def __call__(self, **inputs) -> dict[str, np.ndarray]:
        """Pads the inputs to the smallest program that holds them, and runs it.

        Args:
          **inputs: audio float32 [b, n] at 16 kHz, zero mean and unit variance where the index
            says `normalized`, audio_length [b], text_ids [b, s], text_mask [b, s]; those that
            the model uses.

        Returns:
          logits [b, c]; with audio also ctc_logits [b, t, v], t of the program, and frames [b].

        Raises:
          UserError: an input that is missing, or too large for every program.
        """
        program = self._smallest(inputs)
        rows = len(next(iter(inputs.values())))
        padded = [_pad(inputs[i["name"]], i) for i in program["inputs"]]
        found = self._call(program)(self._params, *padded)
        return {name: np.asarray(x)[:rows] for name, x in found.items()}

    def probabilities(self, logits: np.ndarray, text_source: str) -> np.ndarray:
        """softmax(logits / T) [b, c] with the temperature of the text; T = 1 where it has none.

        Args:
          logits: [b, c] of a call.
          text_source: `given`, a transcript; `ctc`, what `ctc_logits` spell; or `none`.
        """
        uses_text = any(i["name"] == "text_ids" for i in self.index["programs"][0]["inputs"])
        sources = self.index.get("text_sources")
        if sources is None:  # an older version's folder
            sources = reliability.of_old_run(self.index["temperature"], self._refitted(), uses_text)
        held_out = reliability.held_out(sources, text_source, uses_text)
        return classification.softmax(
            np.asarray(logits, np.float64) / (held_out.get("temperature") or 1.0)
        )

    def _refitted(self):
        """Whether the run trained anew after the temperature was fitted; True if nobody knows."""
        path = os.path.join(os.path.dirname(self._folder), CONFIG)
        try:
            return bool(_read_json(path)["config"].get("refit", False))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return True

    def _smallest(self, inputs):
        programs = self.index["programs"]
        names = [i["name"] for i in programs[0]["inputs"]]
        if sorted(names) != sorted(inputs):
            raise UserError(f"Found the inputs {', '.join(inputs)}; expected {', '.join(names)}.")
        fitting = [p for p in programs if all(_fits(inputs[i["name"]], i) for i in p["inputs"])]
        if not fitting:
            asked = {name: np.shape(x) for name, x in inputs.items()}
            there = ["; ".join(f"{i['name']} {i['shape']}" for i in p["inputs"]) for p in programs]
            raise UserError(
                f"No program holds inputs of the shapes {asked}. There are: {' | '.join(there)}. "
                "Export the model again with other --seconds or --batch, or feed less at once."
            )
        return min(fitting, key=lambda p: [np.prod(i["shape"]) for i in p["inputs"]])

    def _call(self, program):
        name = os.path.basename(program["file"])
        if name not in self._calls:
            _check_platform(program)
            exported = _read(os.path.join(self._folder, name), _read_program)
            self._calls[name] = jax.jit(exported.call)
        return self._calls[name]


def run(folder: str, **inputs) -> dict[str, np.ndarray]:
    """`Programs(folder)(**inputs)`: for one call; keep a `Programs` for several."""
    return Programs(folder)(**inputs)


def _read(path, reader):
    try:
        return reader(path)
    except Exception as e:  # OSError, JSON's, safetensors' or flatbuffers'
        raise UserError(
            f"{path} can't be read ({str(e).strip().split(chr(10))[0][:200]}). Expected a folder "
            "that `python -m mmer_jax.export ... --stablehlo` wrote; copy it again as a whole."
        ) from e


def _read_json(path):
    with open(path, encoding="utf-8") as f:
        return json.load(f)


def _read_program(path):
    with open(path, "rb") as f:
        return jax_export.deserialize(bytearray(f.read()))


def _check_platform(program):
    here = {"gpu": "cuda"}.get(jax.default_backend(), jax.default_backend())
    if here not in program["platforms"]:
        raise UserError(
            f"{program['file']} runs on {', '.join(program['platforms'])}, not on {here}. Set "
            "JAX_PLATFORMS=cpu, or export the model again."
        )


def _fits(x, description):
    shape = np.shape(x)
    return len(shape) == len(description["shape"]) and all(
        0 < size <= most for size, most in zip(shape, description["shape"])
    )


def _pad(x, description):
    """Zeros behind each row; rows too few are filled with the last one, which nobody reads."""
    x, shape = np.asarray(x, description["dtype"]), description["shape"]
    x = np.pad(x, [(0, 0)] + [(0, most - size) for size, most in zip(x.shape[1:], shape[1:])])
    return np.concatenate([x, np.repeat(x[-1:], shape[0] - len(x), axis=0)])
