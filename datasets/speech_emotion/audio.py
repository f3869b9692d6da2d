"""Recordings of any format and rate as 16 kHz mono."""

import pathlib
import re

import numpy as np
import soundfile
import soxr

SAMPLE_RATE = 16_000
LONGEST = 300.0  # seconds
_ROUNDED = 0.05  # seconds
_BLOCK = 1 << 20  # samples of all channels, read at once
_LFS = b"version https://git-lfs"
# libsndfile reads what there is of a wav whose header counts more bytes, and says so in its log.
_COUNTS = re.compile(r"\ndata : (\d+) \(should be (\d+)\)")
# What its log says of a file that is damaged and could be read: FLAC and Ogg have checksums, a WAV
# says some things twice.
_DAMAGED = re.compile(
    r"\n *((?:ERROR|Error) : (?!psf_fread).*|Ogg : .*|Opus : Hole.*|Bytes/sec +: .*should be.*"
    r"|Block \d+ : checksum.*"
    r"|\*\*\* .*(?:truncated|short read|chunk marker|unknown marker|Chunk size).*)"
)
_BYTES = {"PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8, "ULAW": 1,
          "ALAW": 1}  # fmt: skip
_UNCOUNTED = 2**31 - 2**16  # bytes from which a header's count means: written to a pipe


class AudioError(ValueError):
    """A recording that cannot be used: what it has, what was expected, what to do."""


def read(
    path: pathlib.Path, start: float | None = None, end: float | None = None
) -> tuple[np.ndarray, int]:
    """Reads a recording, or its part from `start` to `end` in seconds, channels averaged.

    Returns:
      float32 [samples] within -1 and 1, and its rate in Hz.

    Raises:
      AudioError: it is missing, can't be decoded, or its part is empty, silent, cut short or over
        5 minutes.
    """
    try:
        if not path.is_file():  # a pipe would never end
            raise FileNotFoundError
        with soundfile.SoundFile(path) as file:
            counts = _COUNTS.search(file.extra_info)
            if counts and int(counts[2]) < int(counts[1]) < _UNCOUNTED:
                raise AudioError(
                    f"{counts[2]} bytes of samples, {counts[1]} by its header: cut short, copy it "
                    "again"
                )
            rate = file.samplerate
            length = file.frames / rate
            first, last = start or 0.0, length if end is None else end
            # A little beyond: ends are often rounded up in tables.
            if length and (not 0 <= first < last or last > length + _ROUNDED):
                raise AudioError(
                    f"seconds {first:g} to {last:g} of a recording of {length:.2f} s; expected a "
                    "start before the end, both within it"
                )
            if last - first > LONGEST:
                raise AudioError(
                    f"{last - first:.0f} s in one row; expected at most {LONGEST:.0f} s: give each "
                    "utterance a row, with start and end"
                )
            file.seek(round(first * rate))
            count = round((min(last, length) - first) * rate)
            samples = _mono(file, count)
            if damage := _damage(file):
                raise AudioError(f"damaged ({damage}): copy it again")
    except AudioError:
        raise
    except (soundfile.SoundFileError, RuntimeError, OSError, TypeError, ValueError) as error:
        # TypeError: of a file whose suffix says that it has no header.
        raise AudioError(_unreadable(path, error)) from error
    if len(samples) < count - _ROUNDED * rate:
        raise AudioError(f"{len(samples)} samples, {count} by its header: cut short, copy it again")
    if not samples.any():
        raise AudioError("silence" if len(samples) else "no samples")
    # Decoders of lossy formats go a little over 1.
    if not np.isfinite(samples).all() or np.abs(samples).max() > 8:
        raise AudioError("samples that are no number, or far over 1, as floating point never has")
    return samples, rate


def _damage(file):
    """What libsndfile found wrong while it read, in its words; "" for nothing."""
    log = file.extra_info
    if found := _DAMAGED.search(log):
        return " ".join(found[1].strip("* ").split())[:120]
    said = dict(re.findall(r"\n +(Channels|Block Align|Bit Width) +: (\d+)", log))
    if file.format in ("WAV", "W64", "RF64") and file.subtype in _BYTES and len(said) == 3:
        width = int(said["Channels"]) * _BYTES[file.subtype]
        if int(said["Block Align"]) != width or int(said["Bit Width"]) > 8 * _BYTES[file.subtype]:
            return f"{said['Block Align']} bytes for all channels, which have {width}"
    return ""


def _mono(file, count):
    """The mean of the channels, block by block: many of a high rate never lie in memory whole."""
    parts, left = [np.zeros(0, np.float32)], count
    while left > 0:
        block = file.read(min(left, max(_BLOCK // file.channels, 1)), "float32", always_2d=True)
        if not len(block):
            break
        parts.append(block.mean(axis=1))
        left -= len(block)
    return np.concatenate(parts)


def load(path: pathlib.Path, start: float | None = None, end: float | None = None) -> np.ndarray:
    """Reads a recording as `read` does, at 16 kHz (resampled by soxr, at its best quality).

    Returns:
      int16 [samples].
    """
    samples, rate = read(path, start, end)
    if rate != SAMPLE_RATE:
        samples = soxr.resample(samples, rate, SAMPLE_RATE, quality="VHQ")
    return np.clip(np.round(samples * 32768), -32768, 32767).astype(np.int16)


def _unreadable(path: pathlib.Path, error: Exception) -> str:
    if not path.is_file():
        return "no such file"
    try:
        with path.open("rb") as file:
            start = file.read(len(_LFS))
    except OSError as denied:
        return str(denied)
    if start == _LFS:
        return "a pointer of Git LFS, not the recording: run git lfs pull where it was cloned"
    if not start:
        return "an empty file"
    reason = str(error).rpartition(": ")[2].rstrip(".")
    return f"not readable as audio ({reason}): convert it to wav, flac, ogg or mp3"
