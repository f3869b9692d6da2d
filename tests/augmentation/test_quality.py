"""Silence, copies and wrong lengths never pass; what another speaker says does."""

import types

import numpy as np
import pytest

from mmer_jax.augmentation import quality
from mmer_jax.data.corpus import Utterance

LIMITS = quality.Limits(0.2)
RNG = np.random.default_rng(0)


def noise(seconds, seed):
    rng = np.random.default_rng(seed)
    return (0.1 * rng.standard_normal(int(16_000 * seconds))).astype(np.float32)


def request(reference=None):
    return types.SimpleNamespace(wave=noise(2, 0), reference_wave=reference)


def test_silence_is_silence():
    for wave in (np.zeros(16_000), np.full(16_000, 1e-4), noise(0.02, 1), np.zeros(10)):
        assert quality.is_silent(wave.astype(np.float32), noise(1, 0))
        assert quality.is_silent(wave.astype(np.float32) / 10, wave.astype(np.float32))
    assert not quality.is_silent(noise(0.2, 1), noise(1, 0))
    half = np.concatenate([np.zeros(32_000, np.float32), noise(0.1, 1)])
    assert not quality.is_silent(half, noise(1, 0))


def test_a_quiet_recording_has_quiet_views():
    quiet = 0.01 * noise(1, 0)  # -60 dB
    assert not quality.is_silent(0.5 * noise(1, 1) * 0.01, quiet)
    assert quality.is_silent(0.05 * quiet, quiet)
    assert quality.is_silent(quiet, noise(1, 0))  # beside an original that is not so


def test_a_copy_is_one_however_loud_or_late():
    wave = request().wave
    for copy in (wave, 0.3 * wave, -wave, np.pad(wave, (4000, 0)), wave[3000:]):
        assert quality.fault(copy, request(), LIMITS) == quality.COPY
    other = noise(2, 7)
    assert quality.fault(other, request(), LIMITS) == ""
    assert quality.fault(0.5 * other, request(reference=other), LIMITS) == quality.CLONED


def test_a_length_beyond_the_limit_is_refused():
    assert quality.fault(noise(6.2, 1), request(), LIMITS) == quality.LENGTH
    assert quality.fault(noise(0.6, 1), request(), LIMITS) == quality.LENGTH
    assert quality.fault(noise(5.8, 1), request(), LIMITS) == ""


def test_the_summary_counts_what_each_fold_keeps():
    """Two sessions of two speakers: a voice of the other session is lost where that is tested."""
    utterances = [
        Utterance(i, f"u{i}", 0, 16_000, "Hi.", speaker=f"s{i}", session=str(i // 2))
        for i in range(4)
    ]
    corpus = types.SimpleNamespace(utterances=utterances, label_names=("ang",))

    def row(u, voice, rejected=""):
        return {"id": f"u{u}", "voice": voice, "rejected": rejected, "ratio": 1.0, "text": "Hi."}

    rows = [row(0, "s1"), row(1, "s2"), row(2, "s3"), row(3, "espeak"), row(3, "s0", "silence")]
    found = quality.summary(corpus, {}, rows, 1, {"speech": 24.0})
    assert (found["recordings"], found["with_recording"], found["recordings_failed"]) == (4, 4, 1)
    assert found["recordings_rejected"] == {"silence": 1} and found["of_speakers"] == 3
    assert found["by_label"] == {"ang": 1.0} and found["own_words"] == 4
    # Session 1 tested: u0 keeps its own, u1 loses that of s2. s1 tested: u0, of u0, u2 and u3.
    assert found["left_in_folds"] == {"session": 0.5, "speaker": pytest.approx(2 / 3, abs=1e-4)}
    assert found["minutes_per_1000"] == {"speech": 100.0} and found["wer"] is None
