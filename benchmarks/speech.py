"""How often speech is missed, or found in noise: `python -m benchmarks.speech [FOLDER ...]`.

Prints a line per synthetic signal and level, and for each folder of recordings, in which all are
speech, how many were taken for none, which ones, and the time that it took.
"""

import argparse
import time

import numpy as np

from mmer_jax.data.preprocessing import SAMPLE_RATE
from mmer_jax.inference import audio_io, tables

LEVELS = (-60, -30, -6)  # dBFS of the peak
SECONDS = 6.0


def signals(seconds: float = SECONDS, seed: int = 0) -> dict[str, np.ndarray]:
    """Sounds without speech by name, float64 [n] at 16 kHz."""
    n = round(seconds * SAMPLE_RATE)
    t, rng = np.arange(n) / SAMPLE_RATE, np.random.default_rng(seed)
    white = rng.standard_normal(n)
    spectrum = np.fft.rfft(white)
    found = {
        "white noise": white,
        "pink noise": np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 1)), n),
    }
    for hertz in (50, 60):
        for fall, name in ((1, "falling"), (0, "equal")):
            parts = (np.sin(2 * np.pi * hertz * h * t + h) / h**fall for h in range(1, 20))
            found[f"{hertz} Hz hum, 19 {name} harmonics"] = sum(parts)
    for hertz in (100, 220, 440, 1000, 3000):
        found[f"tone of {hertz} Hz"] = np.sin(2 * np.pi * hertz * t)
    for rate in (2, 10):
        found[f"{rate} clicks a second"] = np.arange(n) % (SAMPLE_RATE // rate) == 0
    return {name: np.asarray(x, np.float64) for name, x in found.items()}


def at_level(signal: np.ndarray, level: float) -> np.ndarray:
    """float32 [n] with its peak at `level` dBFS."""
    return (signal / np.abs(signal).max() * 10 ** (level / 20)).astype(np.float32)


def _signals(detector):
    zeros = np.zeros(round(SECONDS * SAMPLE_RATE), np.float32)
    print(f"{'zeros':32} {_said(detector(zeros))}")
    for name, signal in signals().items():
        said = (f"{level} dBFS: {_said(detector(at_level(signal, level)))}" for level in LEVELS)
        print(f"{name:32} {', '.join(said)}")


def _said(found):
    return "SPEECH" if found else "no speech"


def _folder(detector, folder):
    items, missed, audio, spent = tables.expand([folder]), [], 0.0, 0.0
    for item in items:
        wave = audio_io.read(item.audio)
        began = time.perf_counter()
        if not detector(wave):
            missed.append(item.audio)
        spent += time.perf_counter() - began
        audio += len(wave) / SAMPLE_RATE
    print(
        f"{folder}: {len(missed)} of {len(items)} taken for no speech "
        f"({100 * len(missed) / len(items):.2f} %); {60 * spent / audio:.2f} s per minute of audio"
    )
    for path in missed:
        print(f"  {path}")


def main(argv: list[str] | None = None) -> None:
    """Prints all of it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speech", description=__doc__)
    parser.add_argument("folders", nargs="*", metavar="FOLDER", help="of recordings of speech")
    args = parser.parse_args(argv)
    detector = audio_io.SpeechDetector()
    _signals(detector)
    for folder in args.folders:
        _folder(detector, folder)


if __name__ == "__main__":
    main()
