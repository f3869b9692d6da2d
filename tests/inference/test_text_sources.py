"""What a probability promises hangs on the text that was read: measured with that text or not."""

import csv
import json
import pathlib
import shutil

import numpy as np
import pytest

import mmer_jax
from mmer_jax import export, predict
from mmer_jax.inference import model_card, stablehlo
from mmer_jax.training import checkpoint_io
from tests.inference import odd_recordings as odd
from tests.inference.tiny_models import FIGURES, made, written

RATE = 16_000
TEXTS = {"gold": "it was you", "ctc": None, "none": ""}
GUESSING = {"temperature": 4.0, "ua": 0.31, "ua_low": 0.28, "utterances": 60, "wer": 0.99}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model folder, hearing at most a second at once."""
    path = written(tmp_path_factory.mktemp("model"), seconds=1.0)
    stablehlo.export(checkpoint_io.read(path), path, (stablehlo.Bucket(1, 8_000, 32),))
    return pathlib.Path(path)


@pytest.fixture
def copy(folder, tmp_path):
    """One that a test may change."""
    return shutil.copytree(folder, tmp_path / "copy")


def change(path, edit):
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def answers(folder, **options):
    predictor = mmer_jax.load(str(folder), **options)
    return {k: predictor.predict(odd.voice(0.5), text, RATE) for k, text in TEXTS.items()}


def check(found, temperature):
    p = np.exp(found.logits / (temperature or 1.0) - np.max(found.logits / (temperature or 1.0)))
    np.testing.assert_allclose(list(found.probabilities.values()), p / p.sum(), rtol=1e-5)
    assert found.calibrated is (temperature is not None)


def test_each_text_has_its_own_temperature(folder):
    for source, found in answers(folder).items():
        check(found, FIGURES[source]["temperature"])
        assert found.held_out == FIGURES[source] and found.warning == ""


def test_a_given_text_without_a_word_is_none(folder):
    predictor = mmer_jax.load(str(folder))
    nothing = predictor.predict(odd.voice(0.5), "", RATE)
    for keep_brackets, text in ((True, "[LAUGHTER]"), (True, " [SIGH]\n"), (False, "(...) [x]")):
        predictor.model.tokenizer.keep_brackets = keep_brackets
        found = predictor.predict(odd.voice(0.5), text, RATE)
        assert (found.text, found.text_source) == ("", "none")
        check(found, FIGURES["none"]["temperature"])
        np.testing.assert_array_equal(found.logits, nothing.logits)
    predictor.model.tokenizer.keep_brackets = True
    assert predictor.predict(odd.voice(0.5), "(...)", RATE).text_source == "gold"


def test_a_folder_of_an_older_version_is_calibrated_for_transcripts_alone(copy):
    change(copy / "config.json", lambda c: c.pop("text_sources"))
    for source, found in answers(copy).items():
        check(found, 1.7 if source == "gold" else None)
    change(copy / "config.json", lambda c: c["config"].update(refit=True))
    assert not any(found.calibrated for found in answers(copy).values())


def test_a_source_without_a_temperature_is_not_calibrated(copy):
    change(copy / "config.json", lambda c: c["text_sources"]["gold"].update(temperature=None))
    change(copy / "config.json", lambda c: c["text_sources"].pop("none"))
    found = answers(copy)
    check(found["gold"], None)
    check(found["none"], None)
    check(found["ctc"], 2.5)
    assert found["gold"].held_out["ua"] == 0.76 and found["none"].held_out == {}


def test_a_mean_of_windows_is_not_calibrated(folder):
    predictor = mmer_jax.load(str(folder))
    found = predictor.predict(odd.voice(2.3), "it was you", RATE)
    assert len(found.timeline) > 1 and not found.calibrated


def test_models_of_one_modality(tmp_path):
    for modality, source in (("audio", "none"), ("text", "gold")):
        predictor = mmer_jax.load(written(tmp_path, modality))
        found = predictor.predict(odd.voice(0.5), "it was you", RATE)
        check(found, FIGURES[source]["temperature"])
    older = tmp_path / "audio_model"
    change(older / "config.json", lambda c: c.update(temperature=1.2) or c.pop("text_sources"))
    assert checkpoint_io.read(str(older)).text_sources == {"none": {"temperature": 1.2}}


def test_a_runs_fold_says_what_its_result_says(tiny_run, prepared, tmp_path):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    result = run / "fold5" / "result.json"
    change(result, lambda r: r.update(text_sources=FIGURES))
    for source, found in answers(run / "fold5").items():
        check(found, FIGURES[source]["temperature"])
    out = tmp_path / "out"
    assert export.main([str(run), str(out), "--fold=5"]) == 0
    assert {k: f.held_out for k, f in answers(out).items()} == FIGURES
    change(result, lambda r: r.pop("text_sources"))
    assert [f.calibrated for f in answers(run / "fold5").values()] == [True, False, False]


def test_the_programs_say_the_same(folder):
    programs = stablehlo.Programs(str(folder))
    for found in answers(folder).values():
        p = programs.probabilities(found.logits[None], found.text_source)[0]
        np.testing.assert_allclose(p, list(found.probabilities.values()), rtol=1e-5)


def test_near_chance_the_command_warns_instead_of_naming_a_class(copy, tmp_path, capsys):
    change(copy / "config.json", lambda c: c["text_sources"].update(ctc=GUESSING))
    (tmp_path / "a.wav").write_bytes(odd.encoded(odd.voice(0.5)))
    assert predict.main([str(copy), str(tmp_path / "a.wav")]) == 0
    printed = capsys.readouterr()
    row = printed.out.splitlines()[1].split()
    assert row[0] == "unsure" and "%" not in printed.out
    assert "warning: " in printed.err and "31 %" in printed.err
    assert predict.main([str(copy), str(tmp_path / "a.wav"), "--text=it was you"]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines()[1].split()[0] in ("ang", "hap", "neu", "sad")
    assert "warning" not in printed.err and "76 %" in printed.err
    assert predict.main([str(copy), str(tmp_path / "a.wav"), "--format=csv"]) == 0
    (row,) = csv.DictReader(capsys.readouterr().out.splitlines())
    assert row["emotion"] and row["calibrated"] == "1" and row["held_out_ua"] == "0.3100"
    assert "31 %" in row["warning"] and row["speech"] == "1"


def test_near_chance_is_judged_by_the_lower_bound(copy):
    for low, ua, warns in ((0.30, 0.5, True), (0.31, 0.5, False), (None, 0.29, True)):
        figures = GUESSING | {"ua": ua, "ua_low": low}
        change(copy / "config.json", lambda c: c["text_sources"].update(gold=figures))  # noqa: B023
        assert bool(answers(copy)["gold"].warning) is warns


def test_the_card_names_the_rates_of_each_text(copy):
    change(copy / "config.json", lambda c: c["text_sources"].update(ctc=GUESSING))
    card = model_card.markdown(checkpoint_io.read(str(copy)))
    rows = [line for line in card.splitlines() if line.startswith("| ")]
    (own,) = [r for r in rows if "31.0" in r]
    assert "guessing" in own and "99.0" in own and "| 4 |" in own
    assert any("76.0" in r and "1.7" in r for r in rows)


def test_the_card_leaves_out_a_ctc_head_that_was_not_trained(tmp_path):
    for weight, rows in ((0.1, 1), (0.0, 0)):
        model = made(tmp_path)
        model.config.losses.ctc.weight = weight
        card = model_card.markdown(model)
        assert card.count("its own (CTC)") == rows and "the transcript" in card


@pytest.mark.parametrize(
    "sources", [[], {"ctc": 3}, {"ctc": {"temperature": 0}}, {"ctc": {"ua": "x"}}]
)
def test_damaged_figures_are_one_message(copy, sources, capsys):
    change(copy / "config.json", lambda c: c.update(text_sources=sources))
    assert predict.main([str(copy), "a.wav"]) == 1
    said = capsys.readouterr().err.splitlines()
    assert "text_sources=" in said[-1] and said[-1].startswith("error: ")
