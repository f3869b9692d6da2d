"""Files that players read and libsndfile doesn't, as files that it does."""

import contextlib
import itertools
import os
import tempfile

from absl import logging

_BLOCK = 1 << 20  # bytes looked at or copied at once
_CHUNKS = 1000  # of a WAV that are looked at
_UNKNOWN = b"\xff\xff\xff\xff"  # libsndfile takes it for "to the end of the file"


@contextlib.contextmanager
def readable(file, size: int, name: str):
    """The file, or a temporary copy of it that libsndfile reads.

    Zeros in front are left out (some players and network recorders write an MP3 so), and a WAV
    whose header counts no samples, as a recorder leaves it that was switched off, is read to its
    end. What was done is logged.

    Args:
      file: binary, of the system, at its start. It is read past python's buffer, which would
        seek when it is closed, after libsndfile has moved the file.
      size: its bytes.
      name: what the log calls it.

    Yields:
      A file at its start.
    """
    zeros = _zeros(file.fileno())
    at, claimed = (None, 0) if zeros else _wav_data(file.fileno(), size)
    if zeros and zeros < size:
        logging.warning("%s begins with %d zeros, which are skipped.", name, zeros)
    elif at is not None:
        logging.warning(
            "%s has a header of %d bytes of samples and %d behind it; it is read to its end.",
            name, claimed, size - at - 4,
        )  # fmt: skip
    if not (0 < zeros < size or (at is not None and not claimed)):
        yield file
        return
    with tempfile.TemporaryFile() as copy:
        for block in _blocks(file.fileno(), zeros):
            copy.write(block)
        if at is not None:
            copy.seek(at)
            copy.write(_UNKNOWN)
        copy.flush()
        os.lseek(copy.fileno(), 0, os.SEEK_SET)
        yield copy


def _blocks(file, at):
    """A file's bytes from `at` on."""
    while data := os.pread(file, _BLOCK, at):
        yield data
        at += len(data)


def _zeros(file):
    """How many zero bytes a file begins with."""
    count = 0
    for data in _blocks(file, 0):
        rest = data.lstrip(b"\0")
        count += len(data) - len(rest)
        if rest:
            break
    return count


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
