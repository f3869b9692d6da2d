"""16 kHz mono wavs and flacs decoded, and refused with what they have if that is something else."""

import collections.abc
import io
import struct
import wave

import numpy as np
import soundfile

from .files import ReleaseError, listing

SAMPLE_RATE = 16_000
_LONGEST = 3600  # seconds; the release's longest has 34
_AGAIN = "unpack or generate it again"


class WavError(ValueError):
    """A recording that cannot be used: what it has; what was expected: what to do."""

    def __init__(self, found: str, expected: str, remedy: str = _AGAIN):
        super().__init__(f"{found}; expected {expected}: {remedy}")


def _read_wav(data: bytes) -> tuple[tuple[int, int, int], int, np.ndarray | None]:
    """Returns (bits, channels, rate), the samples that the header counts, and them if 16-bit."""
    try:
        wav = wave.open(io.BytesIO(data))
        frames = wav.readframes(wav.getnframes())
    except (wave.Error, EOFError, struct.error, RuntimeError) as error:
        start = f"{len(data)} bytes that begin with {data[:4]!r}, {str(error) or 'cut short'}"
        raise WavError(start, "a RIFF/WAVE file of 16-bit PCM") from error
    form = 8 * wav.getsampwidth(), wav.getnchannels(), wav.getframerate()
    if lost := _behind_samples(data):
        raise WavError(f"{lost} bytes behind its samples that are no chunk", "its samples counted")
    samples = None
    if form[0] == 16:
        samples = np.frombuffer(frames[: len(frames) // 2 * 2], dtype="<i2").astype(np.int16)
    return form, wav.getnframes(), samples


def _behind_samples(data: bytes) -> int:
    """Returns how many bytes a RIFF file has behind its samples that belong to no chunk."""
    at, seen = 12, False
    while at + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, at)
        if seen and not name.strip(b" \0").isalnum():
            return len(data[at:].rstrip(b"\0"))
        seen = seen or name == b"data"
        at += 8 + size + size % 2
    return 0


def _read_flac(data: bytes) -> tuple[tuple[int, int, int], int, np.ndarray | None]:
    """Returns the same of a flac file."""
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as flac:
            bits = int(flac.subtype.rpartition("_")[2].lstrip("S"))
            if flac.frames > _LONGEST * SAMPLE_RATE:  # they would be allocated at once
                raise RuntimeError(f"{flac.frames} samples by its header")
            samples = flac.read(dtype="int16") if bits == 16 else None
            return (bits, flac.channels, flac.samplerate), flac.frames, samples
    except (soundfile.SoundFileError, RuntimeError, TypeError, ValueError) as error:
        raise WavError(f"{len(data)} bytes, {error}", "a whole flac file") from error


def decode(data: bytes) -> np.ndarray:
    """Decodes a wav or flac file.

    Args:
      data: the file's content.

    Returns:
      int16 [samples], at 16 kHz.

    Raises:
      WavError: neither of them, not 16-bit mono PCM at 16 kHz, truncated, empty or silent.
    """
    form, count, samples = (_read_flac if data[:4] == b"fLaC" else _read_wav)(data)
    if form != (16, 1, SAMPLE_RATE):
        raise WavError(
            "{} bit, {} channel(s), {} Hz".format(*form),
            f"16 bit, 1 channel, {SAMPLE_RATE} Hz",
            f"convert it, as with sox IN.wav -b 16 -c 1 -r {SAMPLE_RATE} OUT.wav",
        )
    if len(samples) < count:
        raise WavError(f"{len(samples)} samples", f"{count} by its header")
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
