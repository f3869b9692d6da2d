"""What visitors of a page upload: the files go at once, the recordings a while later."""

import contextlib
import dataclasses
import os
import secrets
import threading
import time

import numpy as np

from mmer_jax.data.preprocessing import SAMPLE_RATE
from mmer_jax.errors import UserError
from mmer_jax.inference import audio_io

KEPT_SECONDS = 300.0  # a longer recording isn't kept for another question
# What the page takes, in place of what a program may hand over.
_EXPECTED = "expected a recording, for example wav, flac, ogg or mp3"


@dataclasses.dataclass(frozen=True)
class Recording:
    """A recording whose file is gone.

    Attributes:
      name: of the file.
      wave: float32 [n], 16 kHz.
    """

    name: str
    wave: np.ndarray

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.wave) / SAMPLE_RATE


def take(path: str | None, kept: Recording | None) -> Recording:
    """Reads an uploaded file and removes it.

    Args:
      path: of the file; None where nothing new was uploaded.
      kept: the recording that was asked about before, which then is meant again.

    Raises:
      UserError: no recording, one that can't be read, or one that was removed meanwhile.
    """
    if not path:
        if kept is None:
            raise UserError("There is no recording yet. Record one or choose a file, then ask.")
        return kept
    if not os.path.exists(path):
        raise UserError("This recording was removed already. Choose or record it again.")
    try:
        name = os.path.basename(path)
        return Recording(name, audio_io.read(path, name=name))
    except UserError as e:
        raise UserError(str(e).replace(audio_io.EXPECTED, _EXPECTED)) from e
    finally:
        with contextlib.suppress(OSError):
            os.remove(path)


class Memory:
    """Keeps recordings for another question: a few, for a while.

    Args:
      seconds: how long; a thread sees to it, whoever comes or doesn't.
      most: how many; then the oldest one goes.
    """

    def __init__(self, seconds: float, most: int):
        self._seconds, self._most = seconds, most
        self._kept = {}  # key -> (when to forget it, recording), oldest first
        self._lock = threading.Lock()
        threading.Thread(target=self._watch, daemon=True).start()

    def keep(self, recording: Recording | None) -> str | None:
        """A key for it that nobody can guess; None for a recording that isn't kept."""
        if recording is None or recording.seconds > KEPT_SECONDS:
            return None
        key = secrets.token_hex(16)
        with self._lock:
            self._kept[key] = time.monotonic() + self._seconds, recording
            for oldest in list(self._kept)[: -self._most]:
                del self._kept[oldest]
        return key

    def pop(self, key: str | None) -> Recording | None:
        """The recording, which is forgotten here; None if it is already."""
        with self._lock:
            return self._kept.pop(key, (None, None))[1]

    def _watch(self):
        while True:
            time.sleep(min(self._seconds / 10, 5.0))
            with self._lock:
                now = time.monotonic()
                self._kept = {k: v for k, v in self._kept.items() if v[0] > now}
