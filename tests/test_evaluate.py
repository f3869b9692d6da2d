"""A finished run tested with other words than the transcripts."""

import json

import numpy as np
import pytest

from mmer_jax import configuration, evaluate, main
from mmer_jax.evaluation import finished, text_sources


@pytest.fixture(scope="module")
def run(prepared, tiny_config, tmp_path_factory):
    """Workdir of a finished run."""
    folder = tmp_path_factory.mktemp("run")
    config = tiny_config(prepared)
    config.train.text_dropout = 0.3
    main.run(config, str(folder))
    return folder


def logits(results):
    return np.array([p["logits"] for p in results[0]["predictions"]])


def test_the_transcripts_give_what_was_stored_and_others_do_not(run):
    found = finished.read(str(run))
    stored = logits([found.folds[0].result])
    gold, none = (text_sources.evaluate(found, source) for source in ("gold", "none"))
    np.testing.assert_allclose(logits(gold), stored, atol=1e-5)
    assert np.abs(logits(none) - stored).max() > 1e-3
    assert {p["text"] for p in none[0]["predictions"]} == {""}
    ctc = text_sources.evaluate(found, "ctc")[0]["predictions"]
    assert [p["text"] for p in ctc] == [p["recognized"].lower() for p in ctc]


def test_the_command_writes_what_it_read_beside_the_figures(run, capsys):
    before = (run / "results.json").read_bytes()
    assert evaluate.main([str(run), "--text_source=none"]) == 0
    assert "no words at all" in (run / "text_none" / "results.md").read_text()
    summary = json.loads((run / "text_none" / "results.json").read_text())
    assert summary["text_source"] == "none" and sum(map(sum, summary["pooled"]["confusion"])) == 16
    assert (run / "results.json").read_bytes() == before
    assert "text_none" in capsys.readouterr().out


def test_what_cannot_be_tested_so_is_one_message(run, prepared, tiny_config, tmp_path, capsys):
    assert evaluate.main([str(run), "--text_source=asr"]) == 1
    assert "the choices are: gold, ctc, none" in capsys.readouterr().err
    assert evaluate.main([str(tmp_path / "nowhere")]) == 1
    config = tiny_config(prepared)
    configuration.text_only(config)
    config.train.epochs = 1
    main.run(config, str(tmp_path))
    assert evaluate.main([str(tmp_path)]) == 1
    assert "no CTC head" in capsys.readouterr().err
