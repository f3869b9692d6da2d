"""The wheel, in an environment of its own: it trains and predicts where no repository is."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile

import pytest

import mmer_jax

ROOT = pathlib.Path(__file__).resolve().parents[1]
INFO = f"mmer_jax-{mmer_jax.__version__}.dist-info"
SOURCES = ("mmer_jax", "configs", "datasets", "setup.py", "pyproject.toml", "README.md",
           "CITATION.cff", "LICENSE")  # fmt: skip


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Path of the wheel, built from a copy."""
    folder = tmp_path_factory.mktemp("wheel")
    ignore = shutil.ignore_patterns("__pycache__", "dummy_data")
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name, **{"ignore": ignore} if (ROOT / name).is_dir() else {})
    words = "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", folder, folder
    subprocess.run([sys.executable, *words], check=True)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Its environment: this one's packages, this package from the wheel, another's `datasets`."""
    place = tmp_path_factory.mktemp("installed") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True)
    (site,) = place.glob("lib/python*/site-packages")
    (site / "outer.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (site / "datasets").mkdir()
    (site / "datasets" / "__init__.py").write_text("HUGGING_FACE = True\n")
    pip = sys.executable, "-m", "pip", "--python", place / "bin" / "python"
    subprocess.run([*pip, "install", "--no-deps", "-q", wheel], check=True)
    return place / "bin"


def run(program, *words, cwd):
    """What the program said, in an environment that does not know the repository."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    words = [str(program), *map(str, words)]
    done = subprocess.run(words, cwd=cwd, env=env, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_its_files_are_all_in_the_package(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {n.partition("/")[0] for n in names} == {"mmer_jax", INFO}
    assert not [n for n in names if n.endswith("_test.py") or "conftest" in n or "dummy" in n]
    text = zipfile.ZipFile(wheel).read(f"{INFO}/METADATA").decode()
    assert "](docs" not in text and "\nAuthor: " in text


@pytest.mark.slow
def test_it_prepares_trains_and_predicts_from_any_folder(installed, prepared, tmp_path):
    where = run(installed / "python", "-c", "import mmer_jax, datasets; assert "
                "datasets.HUGGING_FACE; print(mmer_jax.__file__)", cwd=tmp_path)  # fmt: skip
    assert where.startswith(str(installed.parent))
    assert f"mmer_jax {mmer_jax.__version__}" in run(installed / "mmer", "--version", cwd=tmp_path)
    corpus = prepared / "corpus"
    data = "data", "iemocap", f"--manual_dir={corpus}", "--data_dir=tfds"
    run(installed / "mmer", *data, cwd=tmp_path)
    train = "train", "--config=demo:smoke", "--config.data.dir=tfds", "--workdir=run"
    tokenizer = f"--config.text.tokenizer={corpus}/tokenizer"
    table = run(installed / "mmer", *train, tokenizer, cwd=tmp_path)
    assert re.search(r"\| UA +\|", table) and (tmp_path / "run" / "results.md").exists()
    (elsewhere := tmp_path / "elsewhere").mkdir()
    recording = next(corpus.glob("augmented/**/*.wav"))
    said = run(installed / "mmer", "predict", "../run/fold5", recording, cwd=elsewhere)
    assert recording.name in said
