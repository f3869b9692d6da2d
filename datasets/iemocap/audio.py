"""16 kHz mono wavs decoded, and refused with what they have when they are something else."""

import collections.abc
import io
import struct
import wave

import numpy as np

from .errors import ReleaseError, listing

SAMPLE_RATE = 16_000
_AGAIN = "unpack or generate it again"


class WavError(ValueError):
    """A wav that cannot be used: what it has; what was expected: what to do."""

    def __init__(self, found: str, expected: str, remedy: str = _AGAIN):
        super().__init__(f"{found}; expected {expected}: {remedy}")


def _open(data: bytes) -> tuple[wave.Wave_read, bytes]:
    try:
        wav = wave.open(io.BytesIO(data))
        return wav, wav.readframes(wav.getnframes())
    except (wave.Error, EOFError, struct.error, RuntimeError) as error:
        start = f"{len(data)} bytes that begin with {data[:4]!r}, {str(error) or 'cut short'}"
        raise WavError(start, "a RIFF/WAVE file of 16-bit PCM") from error


def decode(data: bytes) -> np.ndarray:
    """Decodes a wav file.

    Args:
      data: the file's content.

    Returns:
      int16 [samples], at 16 kHz.

    Raises:
      WavError: not RIFF, not 16-bit mono PCM at 16 kHz, truncated, empty or silent.
    """
    wav, frames = _open(data)
    width, channels, rate = wav.getsampwidth(), wav.getnchannels(), wav.getframerate()
    if (width, channels, rate) != (2, 1, SAMPLE_RATE):
        raise WavError(
            f"{8 * width} bit, {channels} channel(s), {rate} Hz",
            f"16 bit, 1 channel, {SAMPLE_RATE} Hz",
            f"convert it, as with sox IN.wav -b 16 -c 1 -r {SAMPLE_RATE} OUT.wav",
        )
    if len(frames) < 2 * wav.getnframes():
        raise WavError(f"{len(frames) // 2} samples", f"{wav.getnframes()} by its header")
    samples = np.frombuffer(frames, dtype="<i2").astype(np.int16)
    if not samples.any():
        raise WavError(
            f"{len(samples)} samples, all zero" if len(samples) else "0 samples", "sound"
        )
    return samples


def check_wavs(wavs: collections.abc.Iterable[tuple[str, bytes]]) -> int:
    """Decodes every wav once, so that nothing is written before all are known to be good.

    Args:
      wavs: (name, content) of each.

    Returns:
      How many there are.

    Raises:
      ReleaseError: names every wav that cannot be used, with what it has and what to do.
    """
    total, problems = 0, []
    for name, data in wavs:
        total += 1
        try:
            decode(data)
        except WavError as error:
            problems.append(f"{name}: {error}")
    if problems:
        raise ReleaseError(
            f"{len(problems)} of {total} wavs cannot be used:\n{listing(problems)}\n"
            "Nothing was written."
        )
    return total
