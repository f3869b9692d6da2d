"""Prosody differs by emotion and speech is reproducible."""

import re
import subprocess
import sys
import wave
from collections import defaultdict

import numpy as np
import pytest

from mmer_jax.demo import speech
from mmer_jax.errors import UserError


def job(arousal=0.0, speaker="1F", text="I saw Tom at the station."):
    return speech.espeak_job(text, speaker, speech.Prosody(arousal, 0.0, 0.0, 0.0, 0.0), seed=5)


def read(path):
    with wave.open(str(path)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(float)


def test_same_job_gives_same_samples_whatever_was_said_before():
    wanted = job(speaker="5F")
    other = job(arousal=1.0, speaker="4M", text="Something else, and at length.")
    first, _, again, once_more = speech.say([wanted, other, wanted, wanted])[0]
    (alone,) = speech.say([wanted])[0]
    assert all(np.array_equal(first, x) for x in (again, once_more, alone))


def test_seed_decides_the_noise():
    prosody = speech.Prosody(0.0, 0.0, 0.0, 0.0, 0.0)
    samples = np.arange(4000, dtype=np.int16)
    one, same, other = (speech.colour(samples, 22050, prosody, seed) for seed in (1, 1, 2))
    assert np.array_equal(one, same) and not np.array_equal(one, other)


def test_arousal_makes_speech_faster_louder_and_brighter():
    def said(arousal):
        prosody = speech.Prosody(arousal, 0.0, arousal / 2, 0.0, 0.0)
        (samples,), rate, _ = speech.say([job(arousal)])
        return speech.colour(samples, rate, prosody, seed=1).astype(float)

    calm, angry = said(-1.0), said(1.0)
    assert len(angry) < 0.9 * len(calm)
    assert angry.std() > 1.5 * calm.std()
    brightness = [np.abs(np.diff(audio)).mean() / audio.std() for audio in (calm, angry)]
    assert brightness[1] > 1.2 * brightness[0]


def test_voices_differ():
    names = [*speech.VOICES, *speech.AUGMENTED_VOICES]
    said, _, _ = speech.say([job(speaker=name) for name in names])
    assert len({samples.tobytes() for samples in said}) == len(names) == 20


def test_emotions_of_a_corpus_differ_in_loudness(plain):
    loudness = defaultdict(list)
    release = plain / "IEMOCAP_full_release"
    for path in release.glob("Session*/dialog/EmoEvaluation/Ses*.txt"):
        for name, label in re.findall(r"^\[.*\]\t(\S+)\t(\w{3})\t", path.read_text(), re.M):
            wav = path.parents[2] / "sentences" / "wav" / path.stem / f"{name}.wav"
            loudness[label].append(np.log(read(wav).std()))
    mean = {label: np.mean(values) for label, values in loudness.items()}
    assert mean["ang"] > mean["neu"] > mean["sad"]
    assert mean["ang"] - mean["sad"] > 0.3


def test_length_is_whole_milliseconds_and_can_be_cut():
    prosody = speech.Prosody(0.0, 0.0, 0.0, 0.0, 0.0)
    samples = np.ones(30001, np.int16)
    assert len(speech.colour(samples, 22050, prosody, 0)) % 16 == 0
    assert len(speech.colour(samples, 22050, prosody, 0, max_seconds=0.56)) == 0.56 * 16000


def test_this_process_never_loads_the_library(tmp_path):
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from mmer_jax.demo import corpus\n"
        f"corpus.build({str(tmp_path / 'c')!r}, per_speaker_class=1)\n"
        "assert 'espeakng_loader' not in sys.modules\n"
        "maps = Path('/proc/self/maps')\n"
        "assert not maps.exists() or 'espeak' not in maps.read_text()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_voice_is_a_user_error():
    with pytest.raises(UserError, match="voice"):
        speech.say([job() | {"voice": "nobody"}])


def test_missing_loader_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "espeakng_loader.py").write_text("raise ImportError('not here')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(UserError, match=r'pip install "mmer_jax\[demo\]"'):
        speech.say([job()])


def test_worker_that_dies_is_a_user_error(tmp_path, monkeypatch):
    worker = tmp_path / "worker.py"
    worker.write_text(
        'import os; print(\'{"version": "1", "sample_rate": 2}\', flush=True); os._exit(1)\n'
    )
    monkeypatch.setattr(speech, "WORKER", worker)
    with pytest.raises(UserError, match="stopped"):
        speech.say([job()])
