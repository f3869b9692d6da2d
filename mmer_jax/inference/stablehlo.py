"""The model's function as StableHLO files, written and run; running them needs no model code.

That takes jax, flatbuffers (which jax.export asks for), numpy and safetensors; neither flax nor
transformers. `stablehlo/README.md` of such a folder shows the same in a few lines, without padding
and without this module.
"""

import dataclasses
import json
import os
from pathlib import Path

import jax
import numpy as np
from jax import export as jax_export

from mmer_jax import files, plain
from mmer_jax.data.bucketing import SHORTEST
from mmer_jax.data.preprocessing import SAMPLE_RATE
from mmer_jax.errors import UserError, first_line
from mmer_jax.metrics import classification, reliability

FORMAT = 1
FOLDER, INDEX = "stablehlo", "index.json"  # below a model folder
PARAMS, CONFIG = "model.safetensors", "config.json"
README = Path(__file__).parent / "templates" / "stablehlo.md.j2"
PLATFORMS = ("cpu", "cuda", "tpu")
AGAIN = (
    "Expected a folder that `python -m mmer_jax.export ... --stablehlo` wrote; copy it again as a "
    "whole."
)
# Kinds of values in the index, and of each program in it.
_KINDS = {
    "programs": list[dict], "label_names": list[str], "sample_rate": int | None,
    "normalized": bool | None, "symbols": list[str], "temperature": float | None,
}  # fmt: skip
_PROGRAM = {"file": str, "platforms": list[str], "inputs": list[dict]}
_INPUT = {"name": str, "shape": list[int], "dtype": str}
SECONDS = (2.0, 4.0, 8.0)  # of the buckets below the longest utterance, where none are named


@dataclasses.dataclass(frozen=True)
class Bucket:
    """Static shapes of one program: `rows` b, `samples` n and `tokens` s; 0 where it has none."""

    rows: int
    samples: int
    tokens: int

    @property
    def name(self) -> str:
        """For its file."""
        parts = {"b": self.rows, "n": self.samples, "s": self.tokens}
        return "_".join(f"{letter}{size}" for letter, size in parts.items() if size)

    @property
    def inputs(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes of the program's arguments behind the parameters, in their order."""
        audio = {"audio": ((self.samples,), np.float32), "audio_length": ((), np.int32)}
        text = dict.fromkeys(("text_ids", "text_mask"), ((self.tokens,), np.int32))
        shapes = (audio if self.samples else {}) | (text if self.tokens else {})
        return {k: jax.ShapeDtypeStruct((self.rows, *s), t) for k, (s, t) in shapes.items()}


def buckets_of(model, seconds=(), rows: int = 1) -> tuple[Bucket, ...]:
    """The shapes to export: one per length of audio, each with room for the longest text.

    Args:
      model: a LoadedModel.
      seconds: lengths of audio; (): 2, 4, 8 and the longest that the model was trained on. A
        model of text alone has none.
      rows: b of each.

    Raises:
      UserError: a length that the model can't take, or no rows.
    """
    if rows < 1:
        raise UserError(f"{rows} rows per batch: expected 1 or more.")
    tokens = model.config.text.max_tokens if model.model.text_encoder is not None else 0
    if model.model.audio_encoder is None:
        return (Bucket(rows, 0, tokens),)
    shortest = SHORTEST / SAMPLE_RATE
    longest = model.preprocessor.max_samples / SAMPLE_RATE
    seconds = seconds or (*(s for s in SECONDS if s < longest), longest)
    wrong = [s for s in seconds if not shortest <= s <= longest]
    if wrong:
        raise UserError(
            f"{wrong[0]:g} seconds of audio: expected {shortest:g} to {longest:g}, the longest "
            "that this model takes at once."
        )
    lengths = sorted({round(s * SAMPLE_RATE) for s in seconds})
    return tuple(Bucket(rows, n, tokens) for n in lengths)


def export(model, folder: str, buckets) -> None:
    """Adds `stablehlo/` to a model folder: whole, or nothing.

    Each program is a function (params, inputs ...) -> outputs: params the flat dict of
    model.safetensors; the inputs those of audio float32 [b, n], audio_length int32 [b], text_ids
    and text_mask int32 [b, s] that the model uses; the outputs `logits` float32 [b, c] and, with
    audio, `ctc_logits` float32 [b, t, v] and `frames` int32 [b], how many of the t are no padding.

    Args:
      model: a LoadedModel, the one that was written to `folder`.
      folder: that model folder.
      buckets: see `buckets_of`.

    Raises:
      UserError: not a model folder, or it has `stablehlo/` already.
    """
    # Imported here: who only runs programs needs neither flax nor the models.
    from mmer_jax.training import checkpoint_io

    if not checkpoint_io.is_model_folder(folder):
        raise UserError(f"{folder} is no model folder; write it first.")
    with files.new_folder(os.path.join(folder, FOLDER)) as made:
        programs = [_write_program(model, bucket, made) for bucket in buckets]
        index = _index(model, programs) | {"params_sha256": files.sha256(Path(folder, PARAMS))}
        index = json.dumps(index, indent=2, allow_nan=False) + "\n"
        Path(made, INDEX).write_text(index, encoding="utf-8")
        Path(made, "README.md").write_text(readme(model), encoding="utf-8")


def readme(model) -> str:
    """How to run the programs, with what this model takes and answers."""
    import jinja2

    template = README.read_text(encoding="utf-8")
    return jinja2.Template(template, trim_blocks=True, keep_trailing_newline=True).render(
        model=model
    )


def _write_program(model, bucket, folder):
    """Exports one bucket; returns its entry in the index."""
    program = exported(model.model, model.params, bucket)
    name = f"{bucket.name}.bin"
    Path(folder, name).write_bytes(program.serialize())
    outputs = jax.tree.unflatten(program.out_tree, program.out_avals)
    return {
        "file": name,
        "sha256": files.sha256(Path(folder, name)),
        "platforms": list(program.platforms),
        "calling_convention": program.calling_convention_version,
        "inputs": [{"name": k} | _described(x) for k, x in bucket.inputs.items()],
        "outputs": {k: _described(x) for k, x in outputs.items()},
    }


def exported(model, params, bucket: Bucket) -> jax_export.Exported:
    """The program of one bucket: for all platforms, for CPUs alone where jax can't.

    Args:
      model: the Flax module.
      params: nested dict, each with a `.shape`.
      bucket: its static shapes.
    """
    from flax import traverse_util

    from mmer_jax import ops
    from mmer_jax.models.mmer import make_forward

    # A program pads its inputs, and padding must not change an answer.
    forward = make_forward(model, ("logits", "ctc_logits", "frames"), standard_padding=True)

    @jax.jit
    def predict(params, *arrays):
        params = traverse_util.unflatten_dict(params, sep="/")
        with ops.portable():
            return forward(params, dict(zip(bucket.inputs, arrays)))

    flat = traverse_util.flatten_dict(params, sep="/")
    shapes = {name: jax.ShapeDtypeStruct(x.shape, np.float32) for name, x in flat.items()}
    try:
        return jax_export.export(predict, platforms=PLATFORMS)(shapes, *bucket.inputs.values())
    except Exception as e:  # whatever the lowering of another platform raised
        print(f"not for {', '.join(PLATFORMS[1:])}, for CPUs alone: {first_line(e)}", flush=True)
        return jax_export.export(predict, platforms=("cpu",))(shapes, *bucket.inputs.values())


def _described(x):
    return {"shape": list(x.shape), "dtype": str(x.dtype)}


def _index(model, programs):
    return {
        "format_version": FORMAT,
        "jax": jax.__version__,
        "params": PARAMS,
        "label_names": list(model.label_names),
        # The transcripts' alone: what older versions read.
        "temperature": model.text_sources.get("gold", {}).get("temperature"),
        "text_sources": model.measured,
        "sample_rate": SAMPLE_RATE if model.uses_audio else None,
        "symbols": [] if model.lacks_ctc else list(model.alphabet.symbols),
        "normalized": model.preprocessor.normalized if model.uses_audio else None,
        "programs": programs,
    }


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

        self._folder = Path(folder).expanduser().absolute()
        path = self._folder / FOLDER / INDEX
        self.index = _read(path, _json)
        version = self.index.get("format_version") if isinstance(self.index, dict) else None
        if version != FORMAT:
            raise UserError(
                f"{path} is of format {version!r}; this version of "
                f"mmer_jax reads {FORMAT}. Export the model again."
            )
        wrong = plain.faults(self.index, _KINDS)
        for program in self.index["programs"] if "programs" not in wrong else ():
            faults = plain.faults(program, _PROGRAM)
            wrong += faults or [f for x in program["inputs"] for f in plain.faults(x, _INPUT)]
        if not reliability.are_text_sources(self.index.get("text_sources") or {}):
            wrong.append("text_sources")
        if wrong or not self.index["programs"]:
            raise UserError(f"{path} is damaged ({', '.join(wrong)}). {AGAIN}")
        self._params = jax.device_put(self._checked(PARAMS, load_file, "params_sha256", self.index))
        self._calls = {}

    def _checked(self, name, reader, key, entry):
        """What a reader makes of a file whose digest, if it was written down, is the file's."""
        path = self._folder / name
        if entry.get(key) not in (None, _read(path, files.sha256)):
            raise UserError(f"{path} can't be read: it is not as it was exported. {AGAIN}")
        return _read(path, reader)

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
        outputs = self._call(program)(self._params, *padded)
        return {name: np.asarray(x)[:rows] for name, x in outputs.items()}

    def probabilities(self, logits: np.ndarray, text_source: str) -> np.ndarray:
        """softmax(logits / T) [b, c] with the temperature of the text; T = 1 where it has none.

        Args:
          logits: [b, c] of a call.
          text_source: `gold`, a transcript; `ctc`, what `ctc_logits` spell; or `none`.
        """
        uses_text = any(i["name"] == "text_ids" for i in self.index["programs"][0]["inputs"])
        sources = self.index.get("text_sources")
        if sources is None:  # an older version's folder
            temperature = self.index.get("temperature")
            sources = reliability.of_old_run(temperature, self._refitted(), uses_text)
        held_out = reliability.held_out(sources, text_source, uses_text)
        return classification.softmax(
            np.asarray(logits, np.float64) / (held_out.get("temperature") or 1.0)
        )

    def _refitted(self):
        """Whether the run trained anew after the temperature was fitted; True if nobody knows."""
        try:
            return bool(_json(self._folder / CONFIG)["config"].get("refit", False))
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
            here = {"gpu": "cuda"}.get(jax.default_backend(), jax.default_backend())
            if here not in program["platforms"]:
                raise UserError(
                    f"{name} runs on {', '.join(program['platforms'])}, not on {here}. Set "
                    "JAX_PLATFORMS=cpu, or export the model again."
                )
            exported = self._checked(os.path.join(FOLDER, name), _program, "sha256", program)
            self._calls[name] = jax.jit(exported.call)
        return self._calls[name]


def _read(path, reader):
    files.check_regular(str(path))
    try:
        return reader(path)
    except Exception as e:  # OSError, JSON's, safetensors' or flatbuffers'
        raise UserError(f"{path} can't be read ({first_line(e)}). {AGAIN}") from e


def _json(path):
    return plain.parse(path.read_text(encoding="utf-8"))


def _program(path):
    return jax_export.deserialize(bytearray(path.read_bytes()))


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
