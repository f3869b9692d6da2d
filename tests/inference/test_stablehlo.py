"""StableHLO programs: the model's own answers, from files, without its code."""

import ast
import dataclasses
import json
import re
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

from mmer_jax.errors import UserError
from mmer_jax.inference import stablehlo
from mmer_jax.training import checkpoint_io
from mmer_jax.training.checkpoint_io import build
from tests.inference.tiny_models import batch, made

BUCKETS = (stablehlo.Bucket(2, 8_000, 8), stablehlo.Bucket(3, 16_000, 8))
INPUTS = {
    "both": ("audio", "audio_length", "text_ids", "text_mask"),
    "audio": ("audio", "audio_length"),
    "text": ("text_ids", "text_mask"),
}
CHECK = """
import sys
assert not {"flax", "transformers", "orbax", "mmer_jax.models"} & set(sys.modules), "imported"
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("stablehlo")


def written(place, name, model, buckets=BUCKETS):
    checkpoint_io.write(model, str(place / name))
    stablehlo.export(model, str(place / name), buckets)
    return place / name


@pytest.fixture(scope="module")
def model(place):
    return made(place)


@pytest.fixture(scope="module")
def folder(place, model):
    return written(place, "both", model)


@pytest.fixture
def copy(folder, tmp_path):
    """One that a test may spoil."""
    return shutil.copytree(folder, tmp_path / "copy")


def given(modality, rows=2, samples=8_000, tokens=6):
    return {k: v for k, v in batch(rows, samples, tokens).items() if k in INPUTS[modality]}


def expected(model, inputs):
    """`model.apply` on just these rows, unpadded."""
    return jax.jit(model.model.apply)({"params": model.params}, inputs)


def check(model, found, inputs):
    logits, out = expected(model, inputs)
    np.testing.assert_allclose(found["logits"], logits, atol=1e-5)
    if "ctc_logits" in out:
        np.testing.assert_array_equal(found["frames"], out["audio_mask"].sum(-1))
        for row, count in enumerate(found["frames"]):
            a, b = found["ctc_logits"][row, :count], out["ctc_logits"][row, :count]
            np.testing.assert_allclose(a, b, atol=1e-5)


def test_answers_are_the_models(folder, model):
    programs = stablehlo.Programs(str(folder))
    for shape in ((2, 8_000, 8), (1, 7_000, 5), (3, 9_000, 8)):  # exact, padded, the larger one
        inputs = given("both", *shape)
        check(model, programs(**inputs), inputs)
    assert set(programs.index) >= {"label_names", "temperature", "normalized", "params"}
    assert [p["file"] for p in programs.index["programs"]] == [
        "b2_n8000_s8.bin", "b3_n16000_s8.bin",
    ]  # fmt: skip


def test_all_platforms_are_in_each_file(folder):
    index = json.loads((folder / "stablehlo" / "index.json").read_text())
    assert all(p["platforms"] == ["cpu", "cuda", "tpu"] for p in index["programs"])
    assert index["programs"][0]["outputs"] == {
        "ctc_logits": {"shape": [2, 25, 32], "dtype": "float32"},
        "frames": {"shape": [2], "dtype": "int32"},
        "logits": {"shape": [2, 4], "dtype": "float32"},
    }


@pytest.mark.parametrize(
    "options",
    [("audio",), ("text",), ("both", "wav2vec2", "roberta")],
    ids=["audio", "text", "wav2vec2"],
)
def test_other_models(place, tmp_path, options):
    model = made(place, *options)
    bucket = stablehlo.Bucket(2, 8_000 * (options[0] != "text"), 8 * (options[0] != "audio"))
    folder = written(tmp_path, "out", model, (bucket,))
    assert checkpoint_io.read(str(folder)).label_names == model.label_names
    inputs = given(options[0], 1, 6_400, 6)
    check(model, stablehlo.Programs(str(folder))(**inputs), inputs)


def test_published_padding_is_kept_out(place, tmp_path):
    """As in other predictions: the answer is that of the recording alone."""
    model = made(place, "audio", "wav2vec2")
    model.config.model.padding = "original"
    model = dataclasses.replace(model, model=build(model.config, 4, None))
    folder = written(tmp_path, "out", model, (stablehlo.Bucket(2, 9_600, 0),))
    inputs = given("audio", 1, 8_000)
    check(model, stablehlo.Programs(str(folder))(**inputs), inputs)


def test_the_readme_names_what_the_model_has(place, model):
    readme = stablehlo.readme
    assert "`ctc` for what `ctc_logits` spell" in readme(model) and "`gold`" in readme(model)
    untrained = model.config.copy_and_resolve_references()
    untrained.losses.ctc.weight = 0.0
    untrained = dataclasses.replace(model, config=untrained)
    assert "`ctc`" not in readme(untrained) and "mean nothing" in readme(untrained)
    text = readme(made(place, "text"))
    assert "ctc_logits" not in text and "16 kHz" not in text and "`gold`" in text
    assert "text_ids" not in readme(made(place, "audio"))


def run_python(code, folder):
    command = [sys.executable, "-c", code + CHECK]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


def test_the_readme_runs_without_the_package(folder, model):
    readme = (folder / "stablehlo" / "README.md").read_text()
    code = re.search(r"```python\n(.*?)```", readme, re.S)[1]
    done = run_python(code + "\nimport sys; assert 'mmer_jax' not in sys.modules\n", folder)
    assert done.returncode == 0, done.stderr
    shape = {"audio": (2, 8_000), "text_ids": (2, 8), "text_mask": (2, 8)}
    ones = {k: np.ones(s, np.float32 if k == "audio" else np.int32) for k, s in shape.items()}
    logits, _ = expected(model, ones | {"audio_length": np.ones(2, np.int32)})
    said = ast.literal_eval(done.stdout)
    np.testing.assert_allclose([said[n] for n in model.label_names], logits[0], atol=1e-5)


def test_the_module_runs_without_the_models_code(folder, model, tmp_path):
    inputs = given("both", 2, 7_000, 7)
    np.savez(tmp_path / "in.npz", **inputs)
    code = f"""
import numpy as np
from mmer_jax.inference import stablehlo
found = stablehlo.Programs({str(folder)!r})(**np.load("in.npz"))
np.savez("out.npz", **found)
"""
    done = run_python(code, tmp_path)
    assert done.returncode == 0, done.stderr
    check(model, np.load(tmp_path / "out.npz"), inputs)


def test_cpus_alone_where_other_platforms_cannot(place, tmp_path, monkeypatch, capsys):
    model = made(place, "text")
    original = stablehlo.jax_export.export

    def export(function, platforms):
        if "tpu" in platforms:
            raise NotImplementedError("no rule for tpu\nand a long story")
        return original(function, platforms=platforms)

    monkeypatch.setattr(stablehlo.jax_export, "export", export)
    folder = written(tmp_path, "out", model, (stablehlo.Bucket(2, 0, 8),))
    assert "for CPUs alone: no rule for tpu" in capsys.readouterr().out
    inputs = given("text")
    check(model, stablehlo.Programs(str(folder))(**inputs), inputs)
    monkeypatch.setattr(stablehlo.jax, "default_backend", lambda: "tpu")
    with pytest.raises(UserError, match="runs on cpu, not on tpu"):
        stablehlo.Programs(str(folder))(**inputs)


def test_nothing_is_left_of_an_export_that_failed(model, tmp_path, monkeypatch):
    checkpoint_io.write(model, str(tmp_path / "out"))
    before = sorted(tmp_path.rglob("*"))

    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(stablehlo, "_index", fail)
    with pytest.raises(KeyboardInterrupt):
        stablehlo.export(model, str(tmp_path / "out"), BUCKETS[:1])
    assert sorted(tmp_path.rglob("*")) == before


def test_where_it_cannot_be_written(model, folder, tmp_path):
    with pytest.raises(UserError, match="is no model folder"):
        stablehlo.export(model, str(tmp_path), BUCKETS)
    with pytest.raises(UserError, match="exists and is not empty"):
        stablehlo.export(model, str(folder), BUCKETS)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"audio": np.ones((1, 16_001), np.float32)}, "No program holds inputs"),
        ({"text_ids": np.ones((1, 9), np.int32)}, r"audio \[3, 16000\]"),
        ({"audio": np.ones(8_000, np.float32)}, "No program holds inputs"),
        ({"wave": np.ones((1, 4), np.float32)}, "expected audio, audio_length, text_ids"),
    ],
)
def test_inputs_that_fit_nowhere(folder, change, words):
    with pytest.raises(UserError, match=words):
        stablehlo.Programs(str(folder))(**(given("both", 1) | change))


@pytest.mark.parametrize(
    "spoil, words",
    [
        (lambda f: shutil.rmtree(f / "stablehlo"), "index.json can't be read"),
        (lambda f: (f / "stablehlo/index.json").write_text("{"), "index.json can't be read"),
        (lambda f: (f / "stablehlo/index.json").write_text("{}"), "is of format None"),
        (lambda f: (f / "stablehlo/b2_n8000_s8.bin").write_bytes(b"x" * 9), "s8.bin can't be read"),
        (lambda f: (f / "stablehlo/b2_n8000_s8.bin").unlink(), "s8.bin can't be read"),
        (lambda f: (f / "model.safetensors").write_bytes(b"x"), "safetensors can't be read"),
    ],
)
def test_a_spoilt_folder_is_one_message(copy, spoil, words):
    spoil(copy)
    with pytest.raises(UserError, match=words):
        stablehlo.Programs(str(copy))(**given("both"))


@pytest.mark.parametrize("refit, temperature", [(False, 2.0), (True, 1.0), (None, 1.0)])
def test_an_old_temperature_is_not_that_of_a_refitted_model(copy, refit, temperature):
    """None: nothing says whether there was a refit."""
    path = copy / "stablehlo" / "index.json"
    index = json.loads(path.read_text()) | {"temperature": 2.0}
    del index["text_sources"]
    path.write_text(json.dumps(index))
    config = json.loads((copy / "config.json").read_text())
    config["config"]["refit"] = refit
    (copy / "config.json").write_text(json.dumps(config))
    if refit is None:
        (copy / "config.json").unlink()
    found = stablehlo.Programs(str(copy)).probabilities(np.array([[0.0, 2.0]]), "given")
    np.testing.assert_allclose(found[0, 1], 1 / (1 + np.exp(-2.0 / temperature)))


def test_buckets(model, place):
    buckets_of = stablehlo.buckets_of
    assert buckets_of(model) == tuple(
        stablehlo.Bucket(1, n, 32) for n in (32_000, 64_000, 128_000, 210_000)
    )
    config = model.config.copy_and_resolve_references()
    short = dataclasses.replace(model, config=config)
    config.data.max_seconds = 60.0
    assert [b.samples for b in buckets_of(short)][-1] == 480_000  # Whisper's positions end
    config.data.max_seconds = 4.0
    assert [b.samples for b in buckets_of(short, (), 2)] == [32_000, 64_000]
    assert [b.samples for b in buckets_of(short, (4, 1.5, 4))] == [24_000, 64_000]
    for seconds, rows, words in (((0.1,), 1, "0.1 seconds"), ((5,), 1, "to 4"), ((), 0, "0 rows")):
        with pytest.raises(UserError, match=words):
            buckets_of(short, seconds, rows)
    assert buckets_of(made(place, "text"), (2, 4)) == (stablehlo.Bucket(1, 0, 32),)
    assert stablehlo.Bucket(1, 0, 32).name == "b1_s32"
