"""The command that exports a fold: from a finished run to a folder that answers the same."""

import json
import os
import pathlib
import shutil
import stat
import subprocess
import sys

import jax
import numpy as np
import pytest

import mmer_jax
from mmer_jax import configuration, export
from mmer_jax.errors import UserError
from mmer_jax.inference import stablehlo
from mmer_jax.training import checkpoint_io
from tests.inference import odd_recordings as odd


@pytest.fixture(scope="module")
def exported(tiny_run, tmp_path_factory):
    """Fold 5 of it as a folder, with a program."""
    out = tmp_path_factory.mktemp("exported") / "models" / "tiny"
    arguments = ["--fold=5", "--stablehlo", "--seconds=1,0.5", "--batch=2"]
    assert export.main([str(tiny_run), str(out), *arguments]) == 0
    return out


def test_the_folder_holds_the_tested_model(tiny_run, exported):
    before = checkpoint_io.read_fold(str(tiny_run / "fold5"))
    after = checkpoint_io.read(str(exported))
    jax.tree.map(np.testing.assert_array_equal, before.params, after.params)
    result = json.loads((tiny_run / "fold5" / "result.json").read_text())
    assert after.card["fold"] == 5 and after.text_sources == before.text_sources
    assert after.text_sources["gold"]["temperature"] == result["temperature"]
    stored = json.loads((tiny_run / "config.json").read_text())
    expected = configuration.fingerprint(configuration.from_json(stored))
    assert after.card["fingerprint"] == before.card["fingerprint"] == expected
    texts = [p for p in exported.rglob("*") if p.suffix in (".json", ".md", ".txt")]
    assert len(texts) > 6
    assert not any(str(pathlib.Path.home()) in p.read_text() or "/tmp" in p.read_text()
                   for p in texts)  # fmt: skip


def test_everybody_may_read_it(exported):
    before = os.umask(0o022)
    os.umask(before)
    paths = [exported, *exported.rglob("*")]
    assert before == 0o022 and len(paths) > 8
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in paths}
    assert {m for p, m in modes.items() if p.is_file()} == {0o644}, modes
    assert {m for p, m in modes.items() if p.is_dir()} == {0o755}


def test_it_is_loaded_by_its_name(tiny_run, exported):
    wave = odd.voice(0.5)
    answers = [
        mmer_jax.load(str(folder)).predict((wave, 16_000), text="I told you.")
        for folder in (tiny_run / "fold5", exported)
    ]
    np.testing.assert_allclose(answers[0].logits, answers[1].logits, atol=1e-6)
    assert answers[0].probabilities.keys() == answers[1].probabilities.keys()
    assert answers[1].calibrated


def test_its_programs_are_as_asked(exported):
    index = json.loads((exported / "stablehlo" / "index.json").read_text())
    shapes = [p["inputs"][0]["shape"] for p in index["programs"]]
    assert shapes == [[2, 8_000], [2, 16_000]]
    inputs = {
        "audio": np.ones((1, 8_000), np.float32),
        "audio_length": np.array([8_000], np.int32),
        "text_ids": np.array([[2, 9, 3]], np.int32),
        "text_mask": np.ones((1, 3), np.int32),
    }
    model = checkpoint_io.read(str(exported))
    logits, _ = jax.jit(model.model.apply)({"params": model.params}, inputs)
    found = stablehlo.Programs(str(exported))(**inputs)
    np.testing.assert_allclose(found["logits"], logits, atol=1e-5)


def test_a_fold_folder_is_exported_and_sizes_are_printed(tiny_run, tmp_path, capsys):
    out = tmp_path / "out"
    assert export.main([str(tiny_run / "fold4"), str(out)]) == 0
    said = capsys.readouterr().out
    assert "kB  model.safetensors" in said and f"Written to {out}" in said
    assert checkpoint_io.read(str(out)).card["fold"] == 4
    assert not (out / "stablehlo").exists()


@pytest.fixture
def copy(tiny_run, tmp_path):
    """A workdir that a test may change."""
    return shutil.copytree(tiny_run, tmp_path / "copy")


def test_the_only_fold_needs_no_choice(copy):
    shutil.rmtree(copy / "fold4")
    assert export.fold_folder(str(copy)) == str(copy / "fold5")


def test_seeds_are_told_apart(copy, tmp_path):
    """Two seeds, the second a copy of the first in all but its number."""
    both = tmp_path / "both"
    for seed in (0, 1):
        shutil.copytree(copy, both / f"seed{seed}")
        for path in (both / f"seed{seed}").glob("fold*/result.json"):
            path.write_text(json.dumps(json.loads(path.read_text()) | {"seed": seed}))
    shutil.copy(copy / "config.json", both)
    assert export.fold_folder(str(both), 4, 1) == str(both / "seed1" / "fold4")
    with pytest.raises(
        UserError, match=r"2 finished folds of fold 4 .*--fold=4\|5 and --seed=0\|1"
    ):
        export.fold_folder(str(both), 4)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["{run}", "{out}"], "2 finished folds are in"),
        (["{run}", "{out}"], "--fold=4|5"),
        (["{run}", "{out}", "--fold=3"], "No finished fold is fold 3"),
        (["{run}", "{out}", "--fold=4", "--seed=8"], "fold 4 and seed 8"),
        (["{run}/fold4", "{out}", "--fold=4"], "is one fold already"),
        (["{run}/nowhere", "{out}"], "There is no folder"),
        (["{run}/fold4", "{run}"], "exists and is not empty"),
        (["{run}/fold4", "{run}/config.json/out"], "can't be written"),
        (["{run}/fold4", "gs://bucket/out"], "no local folder"),
        (["{run}/fold4", "{out}", "--stablehlo", "--seconds=99"], "99 seconds of audio"),
        (["{run}/fold4", "{out}", "--stablehlo", "--batch=0"], "0 rows"),
        (["{run}/fold4", "{out}", "--seconds=2"], "options of --stablehlo"),
        (["{run}/fold4", "{out}", "--stablehlo", "--seconds=long"], "--seconds"),
        (["{run}/fold4"], "OUT"),
    ],
)
def test_a_mistake_is_one_message(tiny_run, tmp_path, arguments, words, capsys):
    names = {"run": tiny_run, "out": tmp_path / "out"}
    try:
        code = export.main([a.format(**names) for a in arguments])
    except SystemExit as e:
        code = e.code
    said = capsys.readouterr().err
    assert code == 1 and words in said and len(said.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_nothing_is_left_where_programs_cannot_be_made(tiny_run, tmp_path, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(stablehlo, "export", fail)
    out = tmp_path / "out"
    assert export.main([str(tiny_run / "fold4"), str(out), "--stablehlo"]) == 130
    assert not list(tmp_path.iterdir())


def test_help_imports_nothing_heavy():
    code = "import sys; from mmer_jax import export; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
