"""The notebooks, run in small on two forced CPU devices; their outputs are stripped."""

import importlib.util
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
from unittest.mock import Mock

import pytest

from mmer_jax import configuration, main
from mmer_jax.training import checkpoint

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

ROOT = pathlib.Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NAMES = [path.stem for path in NOTEBOOKS]


def execute(name, monkeypatch, **parameters):
    """The executed notebook; the parameters go through the environment, as it says itself."""
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", 4)
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=2"
    monkeypatch.setenv("XLA_FLAGS", flags)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("MPLBACKEND", "agg")
    for key, value in parameters.items():
        monkeypatch.setenv(f"MMER_{key}", str(value))
    where = {"metadata": {"path": str(ROOT / "notebooks")}}
    return nbclient.NotebookClient(notebook, timeout=600, resources=where).execute()


def printed(notebook):
    """What it printed and wrote as Markdown, and the number of its pictures."""
    outputs = [o for cell in notebook.cells for o in cell.get("outputs", ())]
    data = [o.get("data", {}) for o in outputs]
    texts = [o.get("text", "") for o in outputs] + [d.get("text/markdown", "") for d in data]
    return "".join(texts), sum("image/png" in d for d in data)


@pytest.mark.parametrize("name", NAMES)
def test_its_imports_exist(name):
    code = (ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8")
    for module, names in re.findall(r"from (mmer_jax[\w.]*) import ([\w, ]+)", code):
        for imported in names.split(", "):
            package = importlib.import_module(module)
            assert hasattr(package, imported) or importlib.util.find_spec(f"{module}.{imported}")


@pytest.fixture(scope="module")
def run(prepared, tmp_path_factory):
    """Workdir that `quickstart.ipynb` has trained, and the executed notebook."""
    workdir = tmp_path_factory.mktemp("quickstart")
    with pytest.MonkeyPatch.context() as patch:
        notebook = execute("quickstart", patch, FOLDER=prepared, WORKDIR=workdir, VARIANT="smoke")
    return workdir, notebook


@pytest.mark.slow
def test_quickstart_trains_and_predicts(run):
    workdir, notebook = run
    text, pictures = printed(notebook)
    assert (workdir / "results.md").read_text() in text
    assert re.search(r"^(ang|hap|neu|sad) \(\d+ %\): ", text, re.MULTILINE)
    assert pictures == 4  # and the two curves
    assert (workdir / "fold5" / "result.json").exists()


@pytest.mark.slow
def test_inspect_shows_the_run(run, monkeypatch):
    text, pictures = printed(execute("inspect", monkeypatch, WORKDIR=run[0]))
    assert "left out" not in text
    assert "embeddings (16, " in text
    assert pictures >= 6
    assert (run[0] / "analysis" / "report.html").exists()


@pytest.mark.slow
def test_train_tpu_shares_the_rows_and_resumes(prepared, tmp_path, monkeypatch):
    parameters = dict(
        DATA=prepared / "tfds", WORKDIR=tmp_path, CONFIG="demo", VARIANT="smoke",
        TOKENIZER=prepared / "corpus" / "tokenizer", DTYPE="float32", ROWS="8",
    )  # fmt: skip
    text, _ = printed(execute("train_tpu", monkeypatch, **parameters))
    assert "2 x cpu" in text
    assert json.loads((tmp_path / "config.json").read_text())["data"]["batch_size"] == 16
    assert text.count("is there") == 3
    # A disconnect before the fold was tested: its checkpoint is there and its result is not.
    config = configuration.from_json(json.loads((tmp_path / "config.json").read_text()))
    again = tmp_path / "again"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(checkpoint, "write_params", Mock(side_effect=KeyboardInterrupt))
        main.run(config, str(again))
    trained = (again / "fold5" / "metrics.jsonl").read_text()
    text, _ = printed(execute("train_tpu", monkeypatch, **parameters | {"WORKDIR": again}))
    assert "goes on after epoch 1 of 1" in text and (again / "results.md").exists()
    assert (again / "fold5" / "metrics.jsonl").read_text() == trained


@pytest.mark.slow
def test_the_python_of_the_pages_runs(run, prepared, tmp_path, monkeypatch, capsys):
    """docs/predict.md on that run's fold and a recording of the corpus."""
    page = (ROOT / "docs" / "predict.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "demo").symlink_to(run[0])
    recording = next((prepared / "corpus" / "augmented").rglob("*.wav"))
    shutil.copy(recording, tmp_path / "recording.wav")
    monkeypatch.chdir(tmp_path)
    exec("\n".join(blocks), {})
    said = capsys.readouterr().out
    assert len(blocks) == 2 and "0 Prediction(" in said and "1 There is no file missing.wav" in said


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_stripped(name):
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", 4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert not cell.outputs and cell.execution_count is None


@pytest.mark.parametrize("name", NAMES)
def test_the_first_cell_says_what_it_needs(name):
    first = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", 4).cells[0]
    assert first.cell_type == "markdown"
    for word in ("Hardware:", "Time:", "Data:", f"/blob/main/notebooks/{name}.ipynb"):
        assert word in first.source


def test_all_name_the_same_account():
    text = "".join(path.read_text() for path in NOTEBOOKS)
    owners = re.findall(r"github(?:\.com)?/([\w-]+)/mmer_jax", text)
    assert len(owners) == 2 * len(NOTEBOOKS) and len(set(owners)) == 1


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_installed_where_it_is_there(name):
    """Shell and pip lines stand below an `if`."""
    for cell in nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", 4).cells:
        for line in cell.source.splitlines():
            if cell.cell_type == "code" and re.match(r"\s*[!%]", line):
                assert line.startswith("    ")
                assert "if ON_COLAB" in cell.source or "find_spec" in cell.source


@pytest.mark.slow
def test_outside_a_clone_it_asks_for_the_repository(monkeypatch, tmp_path):
    """Neither installed nor named: one message. Named, it is cloned and installed."""
    cells = nbformat.read(ROOT / "notebooks" / "quickstart.ipynb", 4).cells
    setup = next(c.source for c in cells if "REPOSITORY =" in c.source)
    shell = re.findall(r"^    [!%](.*)$", setup, re.MULTILINE)
    python = re.sub(r"^    [!%].*$", "    pass", setup, flags=re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr("sys.path", [*sys.path])
    names = {"os": os, "Path": pathlib.Path}
    with pytest.raises(SystemExit, match="REPOSITORY"):
        exec(python, dict(names))
    monkeypatch.setenv("MMER_REPOSITORY", str(ROOT))
    exec(python, dict(names))
    cloned = shell[0].format(REPOSITORY=f"file://{ROOT}")
    assert subprocess.run(cloned, shell=True, capture_output=True).returncode == 0
    for path in re.findall(r"mmer_jax_clone/[\w.]+", shell[1]):
        assert (tmp_path / path).exists()
