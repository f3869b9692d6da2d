"""The model's function as StableHLO files, which `programs.py` runs without the model's code."""

import dataclasses
import json
import os

import jax
import numpy as np
from jax import export as jax_export

from mmer_jax import files
from mmer_jax.data.bucketing import SHORTEST
from mmer_jax.data.preprocessing import SAMPLE_RATE
from mmer_jax.errors import UserError, first_line
from mmer_jax.inference.programs import FOLDER, FORMAT, INDEX, PARAMS, Programs, run

__all__ = ["Bucket", "Programs", "buckets_of", "export", "run"]

PLATFORMS = ("cpu", "cuda", "tpu")
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
    from mmer_jax.training import checkpoint_io

    if not checkpoint_io.is_model_folder(folder):
        raise UserError(f"{folder} is no model folder; write it first.")
    with files.new_folder(os.path.join(folder, FOLDER)) as made:
        programs = [_write_program(model, bucket, made) for bucket in buckets]
        index = json.dumps(_index(model, programs), indent=2, allow_nan=False) + "\n"
        for name, content in ((INDEX, index), ("README.md", _readme(model))):
            with open(os.path.join(made, name), "w", encoding="utf-8") as f:
                f.write(content)


def _write_program(model, bucket, folder):
    """Exports one bucket; returns its entry in the index."""
    inputs = _inputs(bucket)
    program = exported(model.model, model.params, bucket)
    name = f"{bucket.name}.bin"
    with open(os.path.join(folder, name), "wb") as f:
        f.write(program.serialize())
    rows = jax.tree.unflatten(program.out_tree, program.out_avals)
    return {
        "file": name,
        "platforms": list(program.platforms),
        "calling_convention": program.calling_convention_version,
        "inputs": [{"name": k} | _described(x) for k, x in inputs.items()],
        "outputs": {k: _described(x) for k, x in rows.items()},
    }


def exported(model, params, bucket: Bucket) -> jax_export.Exported:
    """The program of one bucket.

    Args:
      model: the Flax module.
      params: nested dict, each with a `.shape`.
      bucket: its static shapes.
    """
    # Imported here: who only runs programs needs neither flax nor the models.
    from flax import traverse_util

    from mmer_jax.models.forward import make_forward

    inputs = _inputs(bucket)
    # A program pads its inputs, and padding must not change an answer.
    forward = make_forward(model, ("logits", "ctc_logits", "frames"), standard_padding=True)

    def predict(params, *arrays):
        return forward(traverse_util.unflatten_dict(params, sep="/"), dict(zip(inputs, arrays)))

    flat = traverse_util.flatten_dict(params, sep="/")
    shapes = {name: jax.ShapeDtypeStruct(x.shape, np.float32) for name, x in flat.items()}
    return _lowered(jax.jit(predict), (shapes, *inputs.values()))


def _inputs(bucket):
    """Shapes of a program's arguments behind the parameters, in their order."""
    b, n, s = bucket.rows, bucket.samples, bucket.tokens
    found = {}
    if n:
        found["audio"] = jax.ShapeDtypeStruct((b, n), np.float32)
        found["audio_length"] = jax.ShapeDtypeStruct((b,), np.int32)
    if s:
        found["text_ids"] = jax.ShapeDtypeStruct((b, s), np.int32)
        found["text_mask"] = jax.ShapeDtypeStruct((b, s), np.int32)
    return found


def _lowered(function, arguments):
    """For all platforms in one file; for CPUs alone where jax can't."""
    try:
        return jax_export.export(function, platforms=PLATFORMS)(*arguments)
    except Exception as e:  # whatever the lowering of another platform raised
        print(f"not for {', '.join(PLATFORMS[1:])}, for CPUs alone: {first_line(e)}", flush=True)
        return jax_export.export(function, platforms=("cpu",))(*arguments)


def _described(x):
    return {"shape": list(x.shape), "dtype": str(x.dtype)}


def _index(model, programs):
    audio = "audio" in model.config.model.modalities
    return {
        "format_version": FORMAT,
        "jax": jax.__version__,
        "params": PARAMS,
        "label_names": list(model.label_names),
        # The transcripts' alone: what older versions read.
        "temperature": model.text_sources.get("gold", {}).get("temperature"),
        "text_sources": model.measured,
        "sample_rate": SAMPLE_RATE if audio else None,
        "normalized": model.preprocessor.normalized if audio else None,
        "programs": programs,
    }


_README = """# StableHLO programs

Each `.bin` is the model as one function of static shapes, serialised by `jax.export`;
`index.json` lists their shapes, the classes and the temperatures. The parameters are arguments,
read from `../model.safetensors`. From the folder above, with jax, flatbuffers, numpy and
safetensors:

```python
import json

import jax
import numpy as np
from jax import export
from safetensors.numpy import load_file

with open("stablehlo/index.json") as f:
    index = json.load(f)
program = index["programs"][0]
with open("stablehlo/" + program["file"], "rb") as f:
    call = jax.jit(export.deserialize(bytearray(f.read())).call)
params = jax.device_put(load_file("model.safetensors"))
# Replace these: rows zero-padded to the program's shapes, real lengths in audio_length, 1 for each
# real token in text_mask.
inputs = [np.ones(x["shape"], x["dtype"]) for x in program["inputs"]]
outputs = call(params, *inputs)
print(dict(zip(index["label_names"], np.asarray(outputs["logits"])[0].tolist())))
```
"""
_AUDIO = """
`audio` is 16 kHz mono in [-1, 1); where the index says `normalized`, each utterance x is brought to
(x - mean(x)) / sqrt(var(x) + 1e-7) before it is padded. Nothing here looks whether there is speech
at all. The first `frames` of each row of the outputs over time are no padding.
"""
_TEXT = """
`text_ids` come from `../tokenizer`.
"""
_CTC = """
`ctc_logits` are those of characters: their best path is what the model recognises.
"""
_NO_CTC = """
`ctc_logits` mean nothing: this model {reason}.
"""
_PROBABILITIES = """
Class probabilities are softmax(logits / temperature), with the temperature of the text that was
given, under `text_sources` in the index: {sources}. Beside it stands how often the model is right
with it (`ua`). Without a temperature there, softmax(logits) is not calibrated.

With mmer_jax installed, `mmer_jax.inference.programs.Programs` does the padding and the
probabilities; it imports neither flax nor transformers.

jax promises to run such files for six months after the version that wrote them; export again after.
"""
_SOURCES = {
    "gold": "for a transcript", "ctc": "for what `ctc_logits` spell", "none": "for an empty text"
}  # fmt: skip


def _readme(model):
    """How to run the programs, with what this model takes and answers."""
    parts = [_README]
    if model.uses_audio:
        parts.append(_AUDIO)
        reason = model.lacks_ctc
        parts.append(_NO_CTC.format(reason=reason) if reason else _CTC)
    if model.uses_text:
        parts.append(_TEXT)
    sources = (f"`{k}` {_SOURCES[k]}" for k in model.measured)
    parts.append(_PROBABILITIES.format(sources=", ".join(sources) or "none was measured"))
    return "".join(parts)
