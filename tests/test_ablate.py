"""The ablation command: its table, what it runs again, and that a kill loses nothing."""

import csv
import json
import shutil
import signal

import pytest

from mmer_jax import ablate
from mmer_jax.errors import UserError
from mmer_jax.reporting import ablation_report
from tests import harness

VARIANTS = ("text_only", "no_ctc")


def small(config):
    """Seconds per run; text alone is quick."""
    config.seeds = (0, 1)
    return config


@pytest.fixture(scope="module")
def finished(prepared, tiny_config, tmp_path_factory):
    """Folder of a finished ablation."""
    folder = tmp_path_factory.mktemp("ablation")
    ablate.run(small(tiny_config(prepared)), str(folder), VARIANTS)
    return folder


def test_the_tables_agree_with_the_runs(finished):
    summary = json.loads((finished / "ablation.json").read_text())
    assert list(summary["systems"]) == ["full", "no_ctc", "text_only"]
    rows = {r["name"]: r for r in csv.DictReader((finished / "ablation.csv").open())}
    for name, system in summary["systems"].items():
        results = json.loads((finished / system["results"]).read_text())
        assert results["fingerprint"] == system["config"]
        runs = [f["ua"] for f in results["folds"]]
        assert system["ua"]["values"] == pytest.approx(runs) and len(runs) == 2
        assert float(rows[name]["ua_mean"]) == pytest.approx(sum(runs) / 2)
        assert (system["difference"] is None) == (name == "full")
    difference = summary["systems"]["text_only"]["difference"]
    assert difference["p"] is difference["interval"] is None  # one fold of two speakers
    assert not difference["primary"] and summary["systems"]["no_ctc"]["difference"]["primary"]
    table = (finished / "ablation.md").read_text()
    assert "without CTC" in table and summary["systems"]["no_ctc"]["config"] in table
    tex = (finished / "ablation.tex").read_text()
    assert tex.count(r"\\") == 4 and "UA, deviation over seeds" in tex
    assert "±" not in table + tex and "No interval and no p" in table and "| seed 0 |" in table
    assert (finished / "ablation.png").read_bytes()[:4] == b"\x89PNG"


def test_what_exists_is_not_run_again_and_a_changed_config_is(
    finished, prepared, tiny_config, capsys
):
    before = (finished / "ablation.json").read_bytes()
    config = small(tiny_config(prepared))
    results = finished / json.loads(before)["systems"]["full"]["results"]
    then = results.read_bytes()
    ablate.run(config, str(finished), VARIANTS)
    assert capsys.readouterr().out.count("finished before") == 6
    assert (finished / "ablation.json").read_bytes() == before
    assert results.read_bytes() == then  # its times and versions are those of the real run
    config.seeds, config.train.epochs = (0,), 1
    ablate.run(config, str(finished), ("text_only",))
    assert "finished before" not in capsys.readouterr().out
    assert results.exists()  # the older config's runs stay


def test_a_part_asked_for_again_leaves_the_whole_table(finished, prepared, tiny_config, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "w")
    config = small(tiny_config(prepared))
    tables = [name for name in ablation_report.FILES if not name.endswith(".png")]
    ablate.run(config, str(folder), VARIANTS)  # another test has left another config's tables there
    whole = {name: (folder / name).read_bytes() for name in tables}
    config.seeds = (1,)
    ablate.run(config, str(folder), ("text_only",))
    assert {name: (folder / name).read_bytes() for name in tables} == whole


def command(prepared, folder, **options):
    return harness.command(
        "ablate", "--config=configs/demo.py:smoke", f"--config.data.dir={prepared}/tfds",
        f"--config.text.tokenizer={prepared}/corpus/tokenizer", "--config.seeds=(0, 1)",
        "--config.train.epochs=2", "--variants=no_scl", f"--workdir={folder}", **options,
    )  # fmt: skip


@pytest.mark.parametrize(
    "kill",
    [
        ("mmer_jax.training.checkpoint", "Checkpoints.save", 2),
        ("mmer_jax.training.cross_validation", "run_fold", 2),
    ],
)
def test_a_killed_ablation_ends_with_the_same_table(prepared, tmp_path, kill, uninterrupted):
    assert command(prepared, tmp_path / "w", kill=kill).returncode == -signal.SIGKILL
    assert not (tmp_path / "w" / "ablation.md").exists()
    done = command(prepared, tmp_path / "w")
    assert done.returncode == 0, done.stderr
    for name in ("ablation.md", "ablation.json", "ablation.csv"):
        assert (tmp_path / "w" / name).read_text() == (uninterrupted / name).read_text()


@pytest.fixture(scope="module")
def uninterrupted(prepared, tmp_path_factory):
    """Folder of the same ablation, never killed."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    done = command(prepared, folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_an_unknown_variant_names_the_choices(tiny_config, tmp_path):
    with pytest.raises(UserError, match="no_gate"):
        ablate.run(tiny_config(tmp_path), str(tmp_path / "w"), ("no_gates",))
    assert not (tmp_path / "w").exists()
