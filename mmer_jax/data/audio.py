"""Waveforms: from int16 samples to the float32 rows that an encoder reads."""

import numpy as np

SAMPLE_RATE = 16_000


def to_float(samples: np.ndarray) -> np.ndarray:
    """int16 [n] -> float32 [n] in [-1, 1)."""
    return samples.astype(np.float32) / 32768.0


def normalize(wave: np.ndarray) -> np.ndarray:
    """Zero mean and unit variance over the utterance, as wav2vec2's feature extractor has it.

    The 1e-7 under the root keeps a silent recording finite (all zeros).
    """
    return (wave - wave.mean()) / np.sqrt(wave.var() + 1e-7)


def prepare(samples: np.ndarray, max_samples: int, normalized: bool) -> np.ndarray:
    """Cuts to `max_samples`, converts and, if asked to, normalises: int16 [n] -> float32 [<= max].

    The cut comes first, so that statistics never depend on what the model does not hear.
    """
    wave = to_float(samples[:max_samples])
    return normalize(wave) if normalized else wave


def pad(waves: list[np.ndarray], length: int) -> tuple[np.ndarray, np.ndarray]:
    """Zero-pads on the right: b waves -> (float32 [b, length], int32 lengths [b])."""
    out = np.zeros((len(waves), length), np.float32)
    for row, wave in zip(out, waves):
        row[: len(wave)] = wave
    return out, np.array([len(wave) for wave in waves], np.int32)
