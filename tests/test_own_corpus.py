"""docs/own_corpus.md: from a folder of wavs and a CSV to a cross-validated table."""

import csv
import json
import pathlib
import subprocess
import sys

import pytest
import soundfile

from mmer_jax import runs
from mmer_jax.data.corpus import Corpus
from tests import harness

ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def own(prepared, tmp_path_factory):
    """A folder with 40 recordings of the demo's voices, all that a table may say of them, built."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "wav").mkdir()
    corpus = Corpus(str(prepared / "tfds"))
    some = [u for u in corpus.utterances if u.session in "135"][:40]
    with open(folder / "table.csv", "w", newline="") as f:
        table = csv.writer(f)
        table.writerow(["audio", "label", "text", "speaker"])
        for k, u in enumerate(some):
            soundfile.write(folder / f"wav/{k}.wav", corpus.recordings(u)[0], 16_000)
            label = corpus.label_names[u.label]
            table.writerow([f"wav/{k}.wav", label, u.transcript, u.speaker[3:]])
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tensorflow_datasets.scripts.cli.main", "build"),
            *("--config=table", f"--manual_dir={folder}", f"--data_dir={folder / 'tfds'}"),
        ],
        cwd=ROOT / "datasets" / "speech_emotion", capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def test_both_builders_have_the_same_features(own, prepared):
    """IEMOCAP's has some of its own besides."""
    features = [
        json.loads(path.read_text())["featuresDict"]["features"]
        for folder in (own, prepared)
        for path in (folder / "tfds").rglob("features.json")
    ]
    table, iemocap = features
    assert {name: iemocap.get(name) for name in table} == table
    assert iemocap.keys() - table.keys() == {
        "valence", "activation", "dominance", "gender", "style", "start", "end",
    }  # fmt: skip


def small(own, prepared):
    """Options that make encoders of seconds."""
    sizes = [
        f"--config.{part}.size.{name}={size}"
        for part in ("audio", "text")
        for name, size in (("width", 16), ("layers", 1), ("heads", 2), ("ffn", 16))
    ]
    return [
        "--config=configs/corpus.py:table", f"--config.data.dir={own / 'tfds'}",
        "--config.audio.pretrained=", "--config.audio.family=whisper", "--config.text.pretrained=",
        "--config.text.family=bert", f"--config.text.tokenizer={prepared / 'corpus' / 'tokenizer'}",
        *sizes, "--config.model.width=16", "--config.model.heads=2", "--config.model.ffn=16",
        "--config.data.buckets=1", "--config.train.epochs=1", "--config.optimizer.frozen=()",
    ]  # fmt: skip


def command(module, *arguments):
    done = harness.command(module, *arguments, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_from_a_folder_of_wavs_to_a_table(own, prepared, tmp_path):
    options, run = small(own, prepared), tmp_path / "run"
    table = command("main", *options, f"--workdir={run}")
    assert "| test speaker |" in table and "on held-out speakers" in table
    finished = runs.read(str(run))
    tested = [p.utterance for f in finished.folds for p in f.result.predictions]
    assert len(tested) == len(set(tested)) == 40 and not finished.missing
    for fold in finished.folds:
        assert fold.result.shared_speakers == [] and fold.result.protocol == "speaker"
    command("analyze", run)
    assert (run / "analysis" / "report.html").exists()
    assert "0.wav" in command("predict", run / "fold1", own / "wav" / "0.wav")


@pytest.mark.slow
def test_two_variants_beside_the_full_model_in_one_go(own, prepared, tmp_path):
    variants = ("--variants=audio_only,text_only", "--config.folds=(1,)", "--config.seeds=(0,)")
    command("ablate", *small(own, prepared), *variants, f"--workdir={tmp_path}")
    ablation = json.loads((tmp_path / "ablation.json").read_text())
    assert set(ablation["systems"]) == {"full", "audio_only", "text_only"}
    for system in ablation["systems"].values():
        assert 0 <= system["ua"]["mean"] <= 1
