"""A finished run tested with other words than the transcripts."""

import json

import numpy as np
import pytest

from mmer_jax import configuration, evaluate, main, runs
from mmer_jax.data import folds
from mmer_jax.metrics import asr, calibration, classification
from mmer_jax.reporting import embeddings, report
from mmer_jax.results import FoldResult
from mmer_jax.training import evaluation
from tests.made_results import fold_result, row


@pytest.fixture(scope="module")
def run(prepared, tiny_config, tmp_path_factory):
    """Workdir of a finished run."""
    folder = tmp_path_factory.mktemp("run")
    config = tiny_config(prepared)
    config.train.text_dropout = 0.3
    main.run(config, str(folder))
    return folder


def logits(results):
    return np.array([p.logits for p in results[0].predictions])


def test_the_transcripts_give_what_was_stored_and_others_do_not(run):
    found = runs.read(str(run))
    stored = logits([found.folds[0].result])
    gold, none = (evaluate.test(found, source) for source in ("gold", "none"))
    np.testing.assert_allclose(logits(gold), stored, atol=1e-5)
    assert np.abs(logits(none) - stored).max() > 1e-3
    trainer, state, utterances = embeddings.open_fold(found.folds[0])
    texts = {p.utterance: p.recognized.lower() for p in found.folds[0].result.predictions}
    expected = evaluation.predict(trainer, state, utterances, texts)["logits"]
    np.testing.assert_allclose(logits(evaluate.test(found, "ctc")), expected, atol=1e-5)


def test_each_source_has_the_figures_of_its_own_texts_on_held_out_dialogs(run):
    fold = runs.read(str(run)).folds[0]
    stored = fold.result.text_sources
    assert list(stored) == ["gold", "ctc", "none"]
    trainer, state, _ = embeddings.open_fold(fold)
    (fold5,) = folds.selected(trainer.corpus.utterances, trainer.config)
    held = trainer.split(fold5).validation
    label = np.array([u.label for u in held])
    written = evaluation.predict(trainer, state, held)["recognized"]
    texts = {
        "gold": {},
        "ctc": {u.id: w.lower() for u, w in zip(held, written)},
        "none": {u.id: "" for u in held},
    }
    for source, given in texts.items():
        logits = evaluation.predict(trainer, state, held, given)["logits"]
        rates = classification.rates(classification.confusion(label, logits.argmax(-1), 4))
        found = stored[source]
        assert found["ua"] == pytest.approx(rates["ua"]) and found["utterances"] == len(held)
        assert found["ua_low"] < found["ua"]
        fitted = calibration.fit_temperature(logits, label)
        assert found["temperature"] == pytest.approx(fitted, rel=1e-3)
    transcripts = [u.transcript for u in held]
    assert stored["ctc"]["wer"] == asr.error_rates(transcripts, written)["wer"]
    assert stored["gold"]["wer"] is None is stored["none"]["wer"]
    assert fold.result.temperature == stored["gold"]["temperature"]
    assert stored["none"]["temperature"] != stored["gold"]["temperature"]


def test_calibrated_figures_use_the_temperature_of_the_text_that_was_read(run):
    found = runs.read(str(run))
    for source in ("gold", "ctc", "none"):
        results = evaluate.test(found, source)
        expected = found.folds[0].result.text_sources[source]["temperature"]
        assert results[0].temperature == expected
        summary = report.summarize(found.config, results).calibration
        p = classification.softmax(logits(results) / expected)
        scaled = calibration.expected_calibration_error(p, results[0].labels)
        assert summary["ece_scaled"] == pytest.approx(scaled)


def test_a_result_of_an_earlier_version_is_scaled_only_where_it_was_fitted():
    config = configuration.default()
    before = fold_result(["ang", "hap"], [row("ang", "ang")], temperature=1.5).to_json()
    for name in ("text_sources", "dataset_version", "normalized", "pretrained"):
        del before[name]
    del before["predictions"][0]["seen"]
    assert FoldResult.from_json(before, config).text_sources == {"gold": {"temperature": 1.5}}
    configuration.audio_only(config)
    assert FoldResult.from_json(before, config).text_sources == {"none": {"temperature": 1.5}}
    config.refit = True
    after = FoldResult.from_json(before, config)
    assert after.text_sources == {} and after.temperature is None and after.normalized is None


def test_the_command_writes_what_it_read_beside_the_figures(run, capsys):
    before = (run / "results.json").read_bytes()
    assert evaluate.main([str(run), "--text_source=none"]) == 0
    assert "no words at all" in (run / "text_none" / "results.md").read_text()
    summary = json.loads((run / "text_none" / "results.json").read_text())
    assert summary["text_source"] == "none" and sum(map(sum, summary["pooled"]["confusion"])) == 16
    assert (run / "results.json").read_bytes() == before
    assert "text_none" in capsys.readouterr().out


def test_what_cannot_be_tested_so_is_one_message(run, unimodal_run, tmp_path, capsys):
    assert evaluate.main([str(run), "--text_source=given"]) == 1
    assert "the choices are: gold, asr, ctc, none" in capsys.readouterr().err
    assert evaluate.main([str(run), "--text_source=asr"]) == 1
    assert "python -m mmer_jax.transcribe iemocap/emotions4" in capsys.readouterr().err
    assert evaluate.main([str(run), "--transcripts=x"]) == 1
    assert "--text_source=asr" in capsys.readouterr().err
    assert evaluate.main([str(tmp_path / "nowhere")]) == 1
    assert evaluate.main([str(unimodal_run("text"))]) == 1
    assert "no CTC head" in capsys.readouterr().err
