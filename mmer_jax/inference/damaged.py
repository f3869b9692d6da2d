"""Files that players read and libsndfile doesn't, as files that it does."""

import functools
import io
import itertools
import os

from absl import logging

_BLOCK = 1 << 20  # bytes looked at at once
_CHUNKS = 1000  # of a WAV that are looked at
_UNKNOWN = b"\xff\xff\xff\xff"  # libsndfile takes it for "to the end of the file"


def readable(file, size: int, name: str):
    """The file as libsndfile reads it.

    Zeros in front of an MP3 are left out (some players and network recorders write it so), and a
    WAV whose header counts no samples, as a recorder leaves it that was switched off, is read to
    its end. Nothing is copied. What was done is logged once.

    Args:
      file: binary, of the system, at its start. It is read past python's buffer, which would
        seek when it is closed, after libsndfile has moved the file.
      size: its bytes.
      name: what the log calls it.

    Returns:
      What `soundfile.SoundFile` takes: the file's descriptor, or an object that reads from it.
    """
    number = file.fileno()
    if zeros := _zeros_before_mp3(number):
        _say(_identity(number), f"{name} begins with {zeros} zeros, which are skipped.")
        return _Mended(number, size, zeros)
    at, claimed = _wav_data(number, size)
    if at is None:
        return number
    _say(
        _identity(number),
        f"{name} has a header of {claimed} bytes of samples and {size - at - 4} behind it; it is "
        "read to its end.",
    )
    return number if claimed else _Mended(number, size, patched=(at, _UNKNOWN))


class _Mended:
    """A file from `start` on, with other bytes in one place, for libsndfile's virtual files.

    It raises nothing where the system can't read, for that would be raised inside of C: the file
    ends there.
    """

    def __init__(self, file, size, start=0, patched=(0, b"")):
        self._file, self._size, self._start = file, size - start, start
        self._patched, self._at = patched, 0

    def seek(self, offset, whence=io.SEEK_SET):
        self._at = offset + {io.SEEK_CUR: self._at, io.SEEK_END: self._size}.get(whence, 0)
        return self._at

    def tell(self):
        return self._at

    def read(self, count):
        try:
            data = bytearray(os.pread(self._file, count, self._start + self._at))
        except (OSError, ValueError):
            return b""
        where, new = self._patched
        for i, byte in enumerate(new, where - self._at):
            if 0 <= i < len(data):
                data[i] = byte
        self._at += len(data)
        return bytes(data)

    def write(self, data):
        raise io.UnsupportedOperation("only for reading")  # that it is there is asked for


def _identity(file):
    """Tells a file, as it is now, from any other."""
    stat = os.fstat(file)
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns


@functools.lru_cache(maxsize=1024)
def _say(identity, message):
    """Logs it once for a file, of which a table may name a thousand segments."""
    del identity
    logging.warning("%s", message)


def _blocks(file, at):
    """A file's bytes from `at` on."""
    while data := os.pread(file, _BLOCK, at):
        yield data
        at += len(data)


def _zeros_before_mp3(file):
    """How many zero bytes stand before an MP3's first frame or tag; 0 before anything else.

    An mp4 begins with some of its own.
    """
    count = 0
    for data in _blocks(file, 0):
        rest = data.lstrip(b"\0")
        count += len(data) - len(rest)
        if rest:
            return count if _is_mp3(os.pread(file, 3, count)) else 0
    return 0


def _is_mp3(head):
    """Whether a tag begins there, or a frame: its sync word and no reserved version or layer."""
    if head == b"ID3":
        return True
    frame = len(head) == 3 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0
    reserved = not frame or head[1] & 0x18 == 0x08 or not head[1] & 0x06
    return not reserved and head[2] & 0xF0 != 0xF0 and head[2] & 0x0C != 0x0C


def _wav_data(file, size):
    """(where the size of a WAV's samples stands, that size) where it is wrong; else (None, 0)."""
    head = os.pread(file, 12, 0)
    if head[:4] != b"RIFF" or head[8:] != b"WAVE":
        return None, 0
    for at, name, length in _chunks(file, 12):
        if name == b"data":
            behind = size - at - 8
            empty = not length and _ends_well(file, at + 8, size)
            return (at + 4, length) if behind < length or not (length or empty) else (None, 0)
    return None, 0


def _chunks(file, at):
    """(where, name, length) of a RIFF file's chunks from `at` on; stops where there are none."""
    for _ in itertools.repeat(None, _CHUNKS):
        head = os.pread(file, 8, at)
        if len(head) < 8:
            return
        name, length = head[:4], int.from_bytes(head[4:], "little")
        if not name.isascii() or not name.decode("ascii").isprintable():
            return
        yield at, name, length
        at += 8 + length + length % 2


def _ends_well(file, at, size):
    """Whether whole chunks, or nothing, lie between `at` and the end: samples hardly look so."""
    for where, _, length in _chunks(file, at):
        at = where + 8 + length + length % 2
    return size <= at <= size + 1
