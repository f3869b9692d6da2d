"""Recordings as people have them -> mono float32 at 16 kHz, or one message that says why not."""

import dataclasses
import os
import shlex
import tempfile

import numpy as np
import soundfile
import soxr

from mmer_jax.data.preprocessing import SAMPLE_RATE
from mmer_jax.errors import UserError
from mmer_jax.inference import damaged

SHORTEST, LONGEST = 0.030, 3600.0  # seconds; one frame of an encoder, and an hour
RATES = (1_000, 1_000_000)  # Hz
_LOUDEST = 100.0  # far beyond full scale, 1.0: numbers that are no waveform
_BLOCK = 1 << 20  # samples of all channels read at once
_STREAM_BYTES = 1 << 30  # of a file object, which is read whole
_FULL_SCALE = {"int8": 2.0**7, "uint8": 2.0**7, "int16": 2.0**15, "int32": 2.0**31}
EXPECTED = (
    "expected a file that libsndfile reads (wav, flac, ogg, mp3, ...), a binary file object, or "
    "an array of samples with its rate: (array, rate)"
)
# Names of recordings that libsndfile reads none of; a file of such a name may be another all the
# same.
UNREADABLE = (
    ".m4a", ".m4b", ".mp4", ".aac", ".webm", ".weba", ".mka", ".wma", ".amr", ".3gp", ".ac3",
    ".ape",
)  # fmt: skip
_SLACK = 0.02  # seconds by which a segment may pass its file's end: times are rounded


@dataclasses.dataclass(frozen=True)
class Segment:
    """A stretch of a recording's file.

    Attributes:
      path: of the file, which may be longer than an hour.
      start, end: seconds; `end` None: to the end of the file.
    """

    path: str
    start: float = 0.0
    end: float | None = None

    def __str__(self):
        until = "its end" if self.end is None else f"{self.end:g} s"
        return f"{os.fsdecode(self.path)}, {self.start:g} s to {until},"


def read(audio, rate: float | None = None, name: str = "") -> np.ndarray:
    """A recording as the models hear it; a 16-bit wav of 16 kHz gives exactly its int16 / 32768.

    Channels are averaged, other rates resampled. Floating-point samples count from -1 to 1,
    integers in their type's range. Of a file whose header promises more samples than there are,
    those that are there are read. At most an hour is ever held, whatever a header claims.

    Args:
      audio: path; `Segment` of a file; binary file object; (array, rate), in either order; a
        dict of `array` and `sampling_rate`; or an array with `rate`. An array is [n],
        [n, channels] or [channels, n]: the shorter side are the channels.
      rate: Hz, of an array that comes without.
      name: what messages call it; "": its path, or "the recording".

    Returns:
      float32 [n], 16 kHz.

    Raises:
      UserError: no such file, no audio, no samples, shorter than 30 ms, longer than an hour,
        samples that are no numbers, a segment that its file does not hold, or a type that is none
        of the above.
    """
    name = name or name_of(audio)
    if isinstance(audio, Segment):
        wave = _read_path(os.path.expanduser(os.fsdecode(audio.path)), name, audio)
    elif isinstance(audio, (str, os.PathLike)):
        wave = _read_path(os.path.expanduser(os.fsdecode(audio)), name)
    elif callable(getattr(audio, "read", None)):
        wave = _read_object(audio, name)
    else:
        samples, rate = _with_rate(audio) or (audio, rate)
        wave = _read_array(samples, rate, name)
    return _checked_length(wave, name)


def is_one(audio) -> bool:
    """Whether it is one recording, not a list or tuple of several."""
    return _with_rate(audio) is not None or not isinstance(audio, (list, tuple))


def name_of(audio) -> str:
    """What a message calls a recording."""
    if isinstance(audio, (str, os.PathLike)):
        return os.fsdecode(audio)
    if isinstance(audio, Segment):
        return str(audio)
    name = audio.get("path") if isinstance(audio, dict) else getattr(audio, "name", None)
    return name if isinstance(name, str) else "the recording"


def _with_rate(audio):
    """(samples, rate) of what brings its rate along; None of anything else."""
    if isinstance(audio, dict) and {"array", "sampling_rate"} <= audio.keys():
        return audio["array"], audio["sampling_rate"]  # as Hugging Face's datasets have it
    if not isinstance(audio, tuple) or len(audio) != 2:
        return None
    if _is_number(audio[1]):
        return audio
    # As scipy's wavfile and Gradio have it.
    return audio[::-1] if _is_number(audio[0]) and hasattr(audio[1], "__array__") else None


def _is_number(value):
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


def _read_path(path, name, segment=None):
    if os.path.isdir(path):
        raise UserError(f"{name} is a folder; {EXPECTED}.")
    if not os.path.exists(path):
        raise UserError(f"There is no file {name}; {EXPECTED}.")
    if not os.path.isfile(path):
        raise UserError(f"{name} is a device or a pipe; {EXPECTED}.")
    try:
        with open(path, "rb") as f:
            return _decode(f, os.fstat(f.fileno()).st_size, name, segment)
    except OSError as e:
        raise UserError(f"{name} can't be read ({e.strerror or e}).") from e


def _read_object(file, name):
    # Copied first: what a file object raises would be raised inside of C, which prints it.
    with tempfile.TemporaryFile() as copy:
        while data := _chunk(file, name):
            copy.write(data)
            if copy.tell() > _STREAM_BYTES:
                raise UserError(
                    f"{name} has more than 1 GiB; write it to a file and name its path."
                )
        copy.flush()
        size = copy.tell()
        os.lseek(copy.fileno(), 0, os.SEEK_SET)
        return _decode(copy, size, name)


def _chunk(file, name):
    try:
        data = file.read(_BLOCK)
    except (OSError, ValueError) as e:
        raise UserError(f"{name} can't be read ({e}).") from e
    if not isinstance(data, bytes):
        raise UserError(f"{name} is a file object of text; open it in binary mode, 'rb'.")
    return data


def _decode(file, size, name, segment=None):
    """What libsndfile reads; by content alone, for by its name it takes a text for ADPCM."""
    if not size:
        raise UserError(f"{name} is empty (0 bytes); {EXPECTED}.")
    try:
        whole = os.fsdecode(segment.path) if segment else name
        with soundfile.SoundFile(damaged.readable(file, size, whole), closefd=False) as sound:
            blocks = _stretch(sound, segment, name) if segment else _blocks(sound)
            return _resampled(blocks, sound.samplerate, name)
    except (soundfile.SoundFileError, RuntimeError, TypeError, ValueError) as e:
        reason = str(e).strip().split("\n")[0].split(": ")[-1].rstrip(".")
        raise UserError(
            f"{name} can't be read as audio ({reason[:120]}); {EXPECTED}.{_conversion(name)}"
        ) from e


def _conversion(name):
    stem, suffix = os.path.splitext(name)
    if suffix.lower() not in UNREADABLE:
        return ""
    return f" Convert it: ffmpeg -i {shlex.quote(name)} {shlex.quote(stem + '.wav')}"


def _stretch(sound, segment, name):
    """The blocks of a segment, which the file must hold whole."""
    rate = sound.samplerate
    first = round(segment.start * rate)
    sound.seek(min(first, sound.frames))
    wanted = None if segment.end is None else round(segment.end * rate) - first
    samples = 0
    for block in _blocks(sound, wanted):
        samples += len(block)
        yield block
    if first >= sound.frames or (wanted and samples < wanted - _SLACK * rate):
        seconds = (min(first, sound.frames) + samples) / rate
        raise UserError(f"{name} is no part of its file, which ends at {seconds:.3f} s.")


def _blocks(sound, wanted=None):
    """Blocks [n, channels] up to `wanted` samples, or to an hour and a sample.

    The header's count is not believed.
    """
    left = int(LONGEST * sound.samplerate) + 1
    left = left if wanted is None else min(wanted, left)
    size = max(_BLOCK // sound.channels, 1)
    while left > 0:
        block = sound.read(min(size, left), dtype="float32", always_2d=True)
        if not len(block):
            return
        left -= len(block)
        yield block


def _resampled(blocks, rate, name):
    """Mono at 16 kHz, block by block: a high rate or many channels never lie in memory whole."""
    _check_rate(rate, name)
    stream = None
    if rate != SAMPLE_RATE:
        stream = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32")
    parts, samples = [], 0
    for block in blocks:
        samples += len(block)
        if samples > LONGEST * rate:
            raise UserError(
                f"{name} is longer than {LONGEST / 3600:.0f} hour; cut it into shorter recordings."
            )
        mono = _mono(block, name)
        parts.append(stream.resample_chunk(mono) if stream else mono)
    if not samples:
        raise UserError(f"{name} holds no samples; {EXPECTED}.")
    if stream:
        parts.append(stream.resample_chunk(np.zeros(0, np.float32), last=True))
    return np.concatenate(parts)


def _mono(block, name):
    """[n, channels] -> float32 [n]."""
    with np.errstate(over="ignore", invalid="ignore"):
        mono = block[:, 0] if block.shape[1] == 1 else block.mean(1)
        loudest = np.abs(block).max()
    if not np.isfinite(loudest):
        raise UserError(f"{name} holds samples that are no numbers (NaN or infinite).")
    if loudest > _LOUDEST:
        raise UserError(
            f"{name} holds samples of up to {loudest:.3g}; floating-point samples count from -1 to "
            "1. Divide them by their full scale."
        )
    return np.ascontiguousarray(mono, np.float32)


def _check_rate(rate, name):
    if not _is_number(rate) or not RATES[0] <= rate <= RATES[1]:
        raise UserError(
            f"{name} has a sample rate of {rate!r}; expected {RATES[0]} to {RATES[1]} Hz. An array "
            "comes as (array, rate), or with rate=."
        )


def _read_array(samples, rate, name):
    if not hasattr(samples, "__array__"):
        raise UserError(f"{name} is of type {type(samples).__name__}; {EXPECTED}.")
    try:
        samples = np.asarray(samples)
    except Exception as e:  # another library's array, for example one on an accelerator
        raise UserError(f"{name} can't be read as an array ({str(e)[:120]}).") from e
    if samples.ndim not in (1, 2):
        raise UserError(
            f"{name} is an array of shape {samples.shape}; expected [n] or [n, channels]."
        )
    if not samples.size:
        raise UserError(f"{name} holds no samples; {EXPECTED}.")
    if samples.ndim == 2 and samples.shape[0] < samples.shape[1]:
        samples = samples.T
    rows = samples[:, None] if samples.ndim == 1 else samples
    _check_type(rows, name)
    size = max(_BLOCK // rows.shape[1], 1)
    blocks = (_floats(rows[i : i + size]) for i in range(0, len(rows), size))
    return _resampled(blocks, rate, name)


def _check_type(samples, name):
    kind = samples.dtype
    if kind.name not in _FULL_SCALE and kind.kind != "f":
        raise UserError(
            f"{name} is an array of {kind.name}; expected floating-point samples from -1 to 1, or "
            f"{', '.join(_FULL_SCALE)}."
        )


def _floats(samples):
    """Any type's samples as float32 in [-1, 1)."""
    scale = _FULL_SCALE.get(samples.dtype.name)
    if scale is None:
        with np.errstate(over="ignore"):
            return samples.astype(np.float32)
    middle = scale if samples.dtype == np.uint8 else 0.0
    # int32 has more digits than float32: scaled before it is rounded.
    wide = np.float64 if samples.dtype == np.int32 else np.float32
    return ((samples.astype(wide) - middle) / scale).astype(np.float32)


def _checked_length(wave, name):
    if len(wave) < SHORTEST * SAMPLE_RATE:
        raise UserError(
            f"{name} has {1000 * len(wave) / SAMPLE_RATE:.1f} ms of audio; expected at least "
            f"{1000 * SHORTEST:.0f} ms."
        )
    return wave
