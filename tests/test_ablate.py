"""The ablation command: its table, and what it runs again."""

import csv
import json
import shutil

import pytest

from mmer_jax import ablate
from mmer_jax.errors import UserError
from mmer_jax.reporting import ablation_report

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


@pytest.fixture
def copy(finished, tmp_path):
    """One that a test may add to."""
    return shutil.copytree(finished, tmp_path / "copy")


def tables(folder):
    names = (name for name in ablation_report.FILES if not name.endswith(".png"))
    return {name: (folder / name).read_bytes() for name in names}


def test_what_exists_is_not_run_again_and_a_changed_config_is(copy, prepared, tiny_config, capsys):
    before = tables(copy)
    config = small(tiny_config(prepared))
    results = copy / json.loads(before["ablation.json"])["systems"]["full"]["results"]
    then = results.read_bytes()
    ablate.run(config, str(copy), VARIANTS)
    assert capsys.readouterr().out.count("finished before") == 6
    assert tables(copy) == before
    assert results.read_bytes() == then  # its times and versions are those of the real run
    config.seeds, config.train.epochs = (0,), 1
    ablate.run(config, str(copy), ("text_only",))
    assert "finished before" not in capsys.readouterr().out
    assert results.exists()  # the older config's runs stay


def test_a_part_asked_for_again_leaves_the_whole_table(finished, copy, prepared, tiny_config):
    config = small(tiny_config(prepared))
    config.seeds = (1,)
    ablate.run(config, str(copy), ("text_only",))
    assert tables(copy) == tables(finished)


def test_an_unknown_variant_names_the_choices(tiny_config, tmp_path):
    with pytest.raises(UserError, match="no_gate"):
        ablate.run(tiny_config(tmp_path), str(tmp_path / "w"), ("no_gates",))
    assert not (tmp_path / "w").exists()
