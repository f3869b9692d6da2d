"""Recordings of any format and rate as 16 kHz mono."""

import pathlib

import numpy as np
import soundfile
import soxr

SAMPLE_RATE = 16_000
LONGEST = 300.0  # seconds


class AudioError(ValueError):
    """A recording that cannot be used: what it has, what was expected, what to do."""


def load(path: pathlib.Path, start: float | None = None, end: float | None = None) -> np.ndarray:
    """Reads a recording, or its part from `start` to `end` in seconds.

    Channels are averaged; another rate is resampled (soxr, its best quality).

    Returns:
      int16 [samples] at 16 kHz.

    Raises:
      AudioError: it is missing, can't be decoded, or its part is empty, silent or over 5 minutes.
    """
    try:
        with soundfile.SoundFile(path) as file:
            length = file.frames / file.samplerate
            first, last = start or 0.0, length if end is None else end
            # Half a frame beyond: ends are often rounded up in tables.
            if not 0 <= first < last or last > length + 0.05:
                raise AudioError(
                    f"seconds {first:g} to {last:g} of a recording of {length:.2f} s; expected a "
                    "start before the end, both within it"
                )
            if last - first > LONGEST:
                raise AudioError(
                    f"{last - first:.0f} s in one row; expected at most {LONGEST:.0f} s: give each "
                    "utterance a row, with start and end"
                )
            file.seek(round(first * file.samplerate))
            count = round((min(last, length) - first) * file.samplerate)
            samples = file.read(count, dtype="float32", always_2d=True).mean(axis=1)
            rate = file.samplerate
    except FileNotFoundError as error:
        raise AudioError("no such file") from error
    except (soundfile.SoundFileError, RuntimeError, OSError) as error:
        if not path.is_file():
            raise AudioError("no such file") from error
        raise AudioError(f"not readable as audio: {error}") from error
    if rate != SAMPLE_RATE:
        samples = soxr.resample(samples, rate, SAMPLE_RATE, quality="VHQ")
    samples = np.clip(np.round(samples * 32768), -32768, 32767).astype(np.int16)
    if not samples.any():
        raise AudioError("silence" if len(samples) else "no samples")
    return samples
