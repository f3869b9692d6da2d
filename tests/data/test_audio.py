"""From samples to padded float rows."""

import numpy as np

from mmer_jax.data import audio


def test_normalize_gives_zero_mean_and_unit_variance():
    wave = audio.normalize(np.random.default_rng(0).normal(3, 7, 5000).astype(np.float32))
    assert abs(wave.mean()) < 1e-5
    assert abs(wave.std() - 1) < 1e-4


def test_silence_stays_finite():
    assert np.isfinite(audio.normalize(np.zeros(100, np.float32))).all()


def test_statistics_never_see_what_is_cut_off():
    quiet = np.random.default_rng(0).integers(-100, 100, 1000).astype(np.int16)
    loud_end = np.concatenate([quiet, np.full(1000, 30000, np.int16)])
    cut = audio.prepare(loud_end, 1000, normalized=True)
    np.testing.assert_array_equal(cut, audio.prepare(quiet, 1000, normalized=True))


def test_scale_of_int16():
    wave = audio.prepare(np.array([-32768, 16384], np.int16), 10, normalized=False)
    np.testing.assert_array_equal(wave, np.array([-1.0, 0.5], np.float32))


def test_pad():
    rows, lengths = audio.pad([np.ones(2, np.float32), np.ones(3, np.float32)], 4)
    np.testing.assert_array_equal(rows, [[1, 1, 0, 0], [1, 1, 1, 0]])
    np.testing.assert_array_equal(lengths, [2, 3])
