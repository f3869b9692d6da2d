"""Recordings without speech are said to be that, and recordings of speech are not."""

import csv
import os
import pathlib

import numpy as np
import pytest
import soundfile

import mmer_jax
from benchmarks import speech as benchmark
from benchmarks.speech import LEVELS, at_level, signals
from mmer_jax import predict
from mmer_jax.inference import audio_io
from tests.inference import odd_recordings as odd
from tests.inference.tiny_models import written

RATE = 16_000
RAVDESS = os.environ.get("RAVDESS", pathlib.Path(__file__).parents[3] / "shared" / "ravdess")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model folder, hearing at most two seconds at once."""
    return written(tmp_path_factory.mktemp("model"), seconds=2.0)


@pytest.fixture(scope="module")
def predictor(model):
    return mmer_jax.load(model)


def rows(path):
    with open(path, newline="") as f:
        return list(csv.DictReader(f))


def test_no_emotion_is_named_without_speech(model, tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "zeros.wav").write_bytes(odd.encoded(np.zeros(2 * RATE)))
    for i, signal in enumerate(signals(1.5).values()):
        for level in LEVELS:
            wave = at_level(signal, level)
            (folder / f"{i}{level}.wav").write_bytes(odd.encoded(wave, subtype="FLOAT"))
    out = tmp_path / "out.csv"
    assert predict.main([model, str(folder), "--text=it was you", f"--out={out}"]) == 0
    found = rows(out)
    assert len(found) == 1 + len(signals(0.1)) * len(LEVELS)
    for row in found:
        assert (row["emotion"], row["p_neu"], row["speech"], row["calibrated"]) == (
            "",
            "",
            "0",
            "0",
        )
        assert row["warning"] == "no speech found", row["file"]
    capsys.readouterr()
    assert predict.main([model, str(folder / "zeros.wav")]) == 0
    assert "no speech " in capsys.readouterr().out
    assert predict.main([model, str(folder / "zeros.wav"), "--assume-speech", "--format=csv"]) == 0
    (row,) = csv.DictReader(capsys.readouterr().out.splitlines())
    assert row["emotion"] in ("ang", "hap", "neu", "sad") and row["speech"] == row["warning"] == ""


def test_zeros_have_neither_label_nor_probabilities(predictor):
    found = predictor.predict(np.zeros(60 * RATE, np.int16), rate=RATE)
    assert (found.label, found.probabilities, found.speech) == (None, {}, False)
    assert not found.calibrated and np.isfinite(found.logits).all()
    assert (found.text, found.text_source, found.warning) == ("", "ctc", "no speech found")
    assert all(w.label is None and w.speech is False for w in found.timeline)


def test_windows_without_speech_weigh_nothing(predictor):
    """Five seconds of it before and after speech change nothing but the windows' places."""
    wave = odd.voice(2.0)[:, 0]
    alone = predictor.predict(wave, rate=RATE, text="it was you")
    silence = np.zeros(5 * RATE)
    found = predictor.predict(
        np.concatenate([silence, wave, silence]), rate=RATE, text="it was you"
    )
    speech = [w.speech for w in found.timeline]
    assert speech[0] is speech[-1] is False and 1 < sum(speech) < len(speech) - 4
    assert all((w.label is None) is (not w.speech) for w in found.timeline)
    (whole,) = [w for w in found.timeline if (w.start, w.end) == (5.0, 7.0)]
    assert whole.probabilities == pytest.approx(alone.probabilities, abs=1e-4)
    assert found.speech and found.label is not None and not found.calibrated
    logs = {
        n: np.log(list(w.probabilities.values())) for n, w in enumerate(found.timeline) if w.speech
    }
    weight = {n: weights(found)[n] for n in logs}
    mean = sum(weight[n] * logs[n] for n in logs) / sum(weight.values())
    p = np.exp(mean) / np.exp(mean).sum()
    np.testing.assert_allclose(list(found.probabilities.values()), p, rtol=1e-4)


def test_windows_without_speech_show_no_words_of_the_models_own(predictor, monkeypatch):
    monkeypatch.setattr("mmer_jax.inference.predictor.transcribe", lambda *_: "you")
    wave = np.concatenate([np.zeros(5 * RATE), odd.voice(2.0)[:, 0]])
    found = predictor.predict(wave, rate=RATE)
    assert {(w.speech, w.text) for w in found.timeline} == {(False, ""), (True, "you")}
    given = predictor.predict(wave, rate=RATE, text="it was you")
    assert {w.text for w in given.timeline} == {"it was you"}


def weights(found):
    """Seconds that each window answers for: neighbours meet halfway."""
    line = found.timeline
    edges = [0, *((a.end + b.start) / 2 for a, b in zip(line, line[1:])), found.seconds]
    return np.diff(edges)


def test_a_word_on_the_border_of_two_windows_is_heard(predictor):
    for at in np.arange(1.1, 2.3, 0.1):  # the windows' own parts meet at 1.5 and 2.25 s
        wave = np.zeros(4 * RATE)
        wave[round(at * RATE) :][: round(0.3 * RATE)] = odd.voice(0.3, 1)[:, 0]
        assert predictor.predict(wave, rate=RATE).speech


def test_speech_is_found(prepared, predictor):
    paths = sorted((prepared / "corpus").glob("IEMOCAP*/**/sentences/**/[!.]*.wav"))[::5][:20]
    assert len(paths) == 20
    assert all(p.speech and p.label for p in predictor.predict([str(p) for p in paths]))


def test_acted_speech_is_found(predictor):
    """A sample; of all 1440 `python -m benchmarks.speech` misses 1, 0.07 % (docs/predict.md)."""
    files = sorted(pathlib.Path(RAVDESS).glob("flac/*.flac"))
    if not files:
        pytest.skip(f"RAVDESS is not in {RAVDESS}; name its folder by RAVDESS=")
    sample = np.random.default_rng(0).choice(len(files), 100, replace=False)
    missed = [files[i].name for i in sample if not predictor._detector(audio_io.read(files[i]))]
    assert len(missed) <= 1, missed


def test_samples_beyond_full_scale_are_still_speech(predictor):
    assert predictor.predict(50 * odd.voice(1.0), rate=RATE).speech


def test_a_model_of_text_looks_for_none(tmp_path):
    found = mmer_jax.load(written(tmp_path, "text")).predict(None, text="it was you")
    assert found.speech is None and found.label and found.warning == ""


def test_a_file_on_disk_and_its_samples_agree(predictor, tmp_path):
    soundfile.write(tmp_path / "a.wav", odd.voice(0.6), RATE)
    assert predictor.predict(str(tmp_path / "a.wav")).speech is True


def test_the_benchmark_counts_what_is_taken_for_no_speech(tmp_path, capsys):
    soundfile.write(tmp_path / "speech.wav", odd.voice(0.6), RATE)
    soundfile.write(tmp_path / "zeros.wav", np.zeros(RATE), RATE)
    benchmark.main([str(tmp_path)])
    said = capsys.readouterr().out
    assert "SPEECH" not in said and "1 of 2 taken for no speech (50.00 %)" in said
    assert said.rstrip().endswith("zeros.wav")
