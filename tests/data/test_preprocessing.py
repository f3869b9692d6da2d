"""From samples to padded float rows."""

import numpy as np

from mmer_jax.data import preprocessing
from mmer_jax.data.bucketing import Bucket
from mmer_jax.data.preprocessing import Preprocessor


def test_normalize_gives_zero_mean_and_unit_variance():
    wave = preprocessing.normalize(np.random.default_rng(0).normal(3, 7, 5000).astype(np.float32))
    assert abs(wave.mean()) < 1e-5
    assert abs(wave.std() - 1) < 1e-4


def test_silence_stays_finite():
    assert np.isfinite(preprocessing.normalize(np.zeros(100, np.float32))).all()


def test_statistics_never_see_what_is_cut_off():
    quiet = np.random.default_rng(0).integers(-100, 100, 1000).astype(np.int16)
    loud_end = np.concatenate([quiet, np.full(1000, 30000, np.int16)])
    p = Preprocessor(None, 1000, normalized=True)
    np.testing.assert_array_equal(p.audio(loud_end), p.audio(quiet))


def test_scale_of_int16():
    wave = Preprocessor(None, 10, normalized=False).audio(np.array([-32768, 16384], np.int16))
    np.testing.assert_array_equal(wave, np.array([-1.0, 0.5], np.float32))


def test_a_batch_is_padded_and_filled():
    p = Preprocessor(None, 3, normalized=False)
    waves = np.array([1, 2], np.float32), np.array([3, 4, 5, 6], np.float32)
    examples = [p.example(wave, "", words) for wave, words in zip(waves, ("ET", "TEE"))]
    batch = p.collate([*examples, None], Bucket(4, 2, 3))
    np.testing.assert_array_equal(batch["audio"], [[1, 2, 0, 0], [3, 4, 5, 0], [1, 2, 0, 0]])
    np.testing.assert_array_equal(batch["audio_length"], [2, 3, 2])
    np.testing.assert_array_equal(batch["text_mask"], [[1, 0]] * 3)
    np.testing.assert_array_equal(batch["transcript"], [[5, 6, 0], [6, 5, 5], [5, 6, 0]])
    np.testing.assert_array_equal(batch["transcript_length"], [2, 3, 2])
    np.testing.assert_array_equal(batch["valid"], [True, True, False])
    np.testing.assert_array_equal(batch["ctc_valid"], [True, False, False])  # the second is cut
    filled = p.collate([None], Bucket(4, 2, 3), fill=examples[1])
    np.testing.assert_array_equal(filled["audio"], batch["audio"][1:2])
