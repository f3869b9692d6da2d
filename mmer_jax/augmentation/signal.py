"""Speech as another speaker in another room might have said it, by signal processing alone."""

import numpy as np
import soxr
from scipy import signal

from mmer_jax.data.preprocessing import SAMPLE_RATE

# Factors of the pitch and of the formants; both go the same way, as from one body to another.
PITCH, FORMANTS, SPEED = (1.1, 1.35), (1.06, 1.18), (0.92, 1.08)
SNR, REVERBERATION = (15.0, 30.0), (0.1, 0.4)  # dB; seconds in which the room's sound falls 60 dB
_FRAME, _HOP, _REACH = 512, 256, 160  # samples of the overlap-add, and how far it looks for a fit
_CEPSTRUM = 32  # samples: the envelope's, below the period of the highest voices
_LOUDEST = 2.3  # of the envelope's change, as a natural logarithm


def another_voice(wave: np.ndarray, seed) -> np.ndarray:
    """The same words, melody and pauses in another voice and room.

    Pitch and formants move by factors of their own, speed, noise and room are drawn as well; the
    loudness stays, for it tells of the emotion.

    Args:
      wave: float32 [n] at 16 kHz.
      seed: of `numpy.random.default_rng`.

    Returns:
      float32 [n'].
    """
    rng = np.random.default_rng(seed)
    way = rng.choice([-1.0, 1.0])
    pitch, formants = rng.uniform(*PITCH) ** way, rng.uniform(*FORMANTS) ** way
    speed, snr = rng.uniform(*SPEED), rng.uniform(*SNR)
    # Played faster, a voice is higher in all; stretched, it gets its time back and stays so.
    faster = soxr.resample(wave, SAMPLE_RATE * pitch, SAMPLE_RATE)
    voice = _warped(stretch(faster, pitch / speed), formants / pitch)
    decay = rng.uniform(*REVERBERATION)
    voice = signal.fftconvolve(voice, _room(decay, rng))[: len(voice)]
    voice *= _rms(wave) / max(_rms(voice), 1e-9)
    noise = signal.lfilter([1.0], [1.0, -0.9], rng.standard_normal(len(voice)))
    voice += noise * (_rms(voice) / _rms(noise) * 10 ** (-snr / 20))
    return (voice / max(1.0, np.abs(voice).max())).astype(np.float32)


def stretch(wave: np.ndarray, factor: float) -> np.ndarray:
    """Makes speech `factor` times as long at the same pitch, [n] -> [ceil(n factor)].

    WSOLA: each frame is taken where it continues the one before it best, near where it is due
    (Verhelst and Roelands, ICASSP 1993).
    """
    length = int(np.ceil(len(wave) * factor))
    window = signal.get_window("hann", _FRAME)
    padded = np.pad(wave, (_REACH, _REACH + _FRAME + _HOP)).astype(np.float64)
    out = np.zeros(length + 2 * _FRAME)
    at = 0
    for start in range(0, length, _HOP):
        due = min(int(start / factor), len(wave))
        if start:
            continued = padded[_REACH + at + _HOP :][:_FRAME]
            region = padded[due : due + _FRAME + 2 * _REACH]
            energy = np.cumsum(np.concatenate([[0.0], region**2]))
            energy = np.maximum(energy[_FRAME:] - energy[:-_FRAME], 1e-9)
            fit = np.correlate(region, continued, "valid") / np.sqrt(energy)
            due += int(fit.argmax()) - _REACH
        at = due
        out[start : start + _FRAME] += window * padded[_REACH + at :][:_FRAME]
    return out[:length]


def _warped(wave, factor):
    """The spectrum's envelope, and with it the formants, at `factor` times the frequencies."""
    padded = np.pad(wave, (0, max(0, _FRAME - len(wave))))
    _, _, spectra = signal.stft(padded, nperseg=_FRAME, noverlap=_FRAME * 3 // 4)
    logs = np.log(np.abs(spectra) + 1e-6)  # [f, t]
    cepstra = np.fft.irfft(logs, axis=0)
    cepstra[_CEPSTRUM:-_CEPSTRUM] = 0.0
    envelopes = np.fft.rfft(cepstra, axis=0).real
    bins = np.arange(len(logs))
    place = np.clip(bins / factor, 0, bins[-1])
    low = np.minimum(place.astype(int), bins[-1] - 1)
    part = (place - low)[:, None]
    moved = (1 - part) * envelopes[low] + part * envelopes[low + 1]
    spectra = spectra * np.exp(np.clip(moved - envelopes, -_LOUDEST, _LOUDEST))
    return signal.istft(spectra, nperseg=_FRAME, noverlap=_FRAME * 3 // 4)[1][: len(wave)]


def _room(decay, rng):
    """An impulse response: the direct sound, then noise that dies away."""
    times = np.arange(int(decay * SAMPLE_RATE)) / SAMPLE_RATE
    response = rng.standard_normal(len(times)) * 10 ** (-3 * times / decay)
    response *= 0.35 / np.sqrt((response**2).sum())
    response[0] = 1.0
    return response


def _rms(wave):
    return float(np.sqrt(np.mean(np.square(wave, dtype=np.float64))))
