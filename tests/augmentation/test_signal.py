"""Another voice: pitch, formants and time each move, and nothing else does."""

import numpy as np
import pytest
from scipy import linalg
from scipy import signal as dsp

from mmer_jax.augmentation import signal

RATE = 16_000


def pitch(wave):
    """Hz, by the autocorrelation of the middle."""
    middle = wave[len(wave) // 2 :][:2048]
    correlation = np.correlate(middle, middle, "full")[len(middle) - 1 :]
    return RATE / (40 + correlation[40:250].argmax())


@pytest.fixture
def voice():
    """A pulse train of 125 Hz through two formants, float32 [n]."""
    pulses = np.zeros(RATE, np.float32)
    pulses[::128] = 1.0
    for hertz in (700, 1800):
        pole = 0.97 * np.exp(2j * np.pi * hertz / RATE)
        pulses = dsp.lfilter([1.0], [1.0, -2 * pole.real, abs(pole) ** 2], pulses)
    return (0.3 * pulses / np.abs(pulses).max()).astype(np.float32)


def test_stretching_changes_the_time_and_not_the_pitch(voice):
    for factor in (0.7, 1.0, 1.3):
        longer = signal.stretch(voice, factor)
        assert len(longer) == np.ceil(len(voice) * factor)
        assert pitch(longer) == pytest.approx(125, abs=2)


def test_warping_moves_the_formants_and_not_the_pitch(voice):
    def formants(wave):
        """Hz of the two narrowest resonances, by linear prediction."""
        part = dsp.lfilter([1, -0.97], [1], wave[4000:6048]) * np.hanning(2048)
        r = np.correlate(part, part, "full")[len(part) - 1 :][:11]
        roots = np.roots([1, *-linalg.solve_toeplitz(r[:-1], r[1:])])
        roots = sorted((x for x in roots if x.imag > 0.1), key=abs)[-2:]
        return np.sort(np.angle(roots)) * RATE / 2 / np.pi

    for factor in (0.85, 1.15):
        moved = signal._warped(voice, factor)
        assert len(moved) == len(voice) and pitch(moved) == pytest.approx(125, abs=2)
        ratios = formants(moved) / formants(voice)
        assert ((ratios < 0.95) if factor < 1 else (ratios > 1.05)).all()
        assert ratios[1] == pytest.approx(factor, abs=0.07)


def test_a_view_is_another_voice_of_the_same_loudness(voice):
    ratios = set()
    for seed in range(6):
        view = signal.another_voice(voice, seed)
        assert view.dtype == np.float32 and np.abs(view).max() <= 1.0
        low, high = (1 / f for f in signal.SPEED[::-1])
        assert low <= len(view) / len(voice) <= high + 0.001
        ratio = pitch(view) / 125
        assert 1.05 < max(ratio, 1 / ratio) < 1.4
        ratios.add(ratio > 1)
        loudness = np.sqrt(np.mean(view**2)) / np.sqrt(np.mean(voice**2))
        assert loudness == pytest.approx(1.0, abs=0.1)
    assert ratios == {True, False}  # up and down
    np.testing.assert_array_equal(view, signal.another_voice(voice, 5))


@pytest.mark.parametrize("samples", [400, 1000])
def test_the_shortest_recordings_go_through(samples):
    noise = np.random.default_rng(0).standard_normal(samples).astype(np.float32) * 0.1
    assert np.isfinite(signal.another_voice(noise, 0)).all()
