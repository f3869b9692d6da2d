"""Stored states of a frozen encoder: a flat file, memory-mapped, and the index that grows with it.

    features/<dataset>/audio-<digest>/
      index.jsonl   what the states are of; then, of each batch stored, [[key, frames], ...]
      states.bin    float16, one utterance after another, each [l, t, d] or [t, d]

A line of the index is written when its states are on the disk: whatever ends a process, what the
index names is there, and the next process goes on behind it.
"""

import contextlib
import hashlib
import json
import os

import numpy as np

from mmer_jax import files
from mmer_jax.errors import UserError

FORMAT, DTYPE = 1, np.dtype("<f2")
INDEX, STATES, LOCK = "index.jsonl", "states.bin", ".lock"


def recording_key(utterance, recording=None) -> str:
    """Of an utterance's own recording, or of one of its augmented ones."""
    return utterance.id if recording is None else f"{utterance.id}+{recording.start}"


def text_key(ids) -> str:
    """Of a text, by its token ids [s]: the same for all texts that the encoder can't tell apart."""
    return " ".join(map(str, ids.tolist()))


class Store:
    """The states that a folder holds, by key: `store[key]` is float16 [l, t, d] or [t, d].

    Args:
      folder: on a disk; need not be there.
      facts: JSON values that say what the states are of.
      shape: (l, d), of l layers of width d, or (d,) of one.
      entry: the name in a batch: `hidden`, `states` or `convolved`, see `MMER.__call__`.

    Raises:
      UserError: the folder holds something else.
    """

    def __init__(self, folder: str, facts: dict, shape: tuple[int, ...], entry: str = "hidden"):
        self.folder, self.shape, self.entry = folder, tuple(shape), entry
        header = {"format": FORMAT, "shape": list(shape), "dtype": DTYPE.str, **facts}
        self._header = json.loads(json.dumps(header))  # as it is read again
        self._size = int(np.prod(shape))  # values of a frame
        self._read()

    @staticmethod
    def digest(facts: dict) -> str:
        """16 hex digits that change with any fact."""
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]

    def __contains__(self, key: str) -> bool:
        return key in self._at

    def __getitem__(self, key: str) -> np.ndarray:
        """A read-only view of the file."""
        start, frames = self._at[key]
        if self._values is None or len(self._values) < (start + frames) * self._size:
            size = (self._frames * self._size,)
            self._values = np.memmap(self._path(STATES), DTYPE, mode="r", shape=size)
        values = self._values[start * self._size : (start + frames) * self._size]
        *layers, width = self.shape
        return values.reshape(*layers, frames, width)

    def bytes(self, frames: int) -> int:
        """Of the states of so many frames."""
        return frames * self._size * DTYPE.itemsize

    @contextlib.contextmanager
    def writing(self, on_wait):
        """The right to `append`: one process at a time has it, the others wait.

        Args:
          on_wait: called where another process has it.
        """
        os.makedirs(self.folder, exist_ok=True)
        with files.lock(self._path(LOCK), on_wait=on_wait):
            self._read()
            # What came after the last whole entry was of a process that was killed.
            for name, size in ((STATES, self.bytes(self._frames)), (INDEX, self._index_size)):
                with open(self._path(name), "ab") as f:
                    f.truncate(size)
            if not self._index_size:
                self._add_line(self._header)
            yield

    def append(self, states: dict[str, np.ndarray]) -> None:
        """Adds states by key, which are on the disk when this returns."""
        with open(self._path(STATES), "ab") as f:
            for values in states.values():
                f.write(np.ascontiguousarray(values, DTYPE).data)
            f.flush()
            os.fsync(f.fileno())
        entry = [[key, values.shape[-2]] for key, values in states.items()]
        self._add_line(entry)
        self._add(entry)

    def _add_line(self, content):
        with open(self._path(INDEX), "ab") as f:
            f.write(json.dumps(content).encode() + b"\n")
            f.flush()
            os.fsync(f.fileno())

    def _add(self, entry):
        for key, frames in entry:
            self._at[key] = self._frames, frames
            self._frames += frames

    def _read(self):
        """Reads the index as far as it is whole and its states are there."""
        self._at, self._frames, self._index_size, self._values = {}, 0, 0, None
        try:
            with open(self._path(INDEX), "rb") as f:
                lines = f.readlines()
            stored = os.path.getsize(self._path(STATES))
        except FileNotFoundError:
            return
        for number, line in enumerate(lines):
            try:
                content = json.loads(line) if line.endswith(b"\n") else None
            except ValueError:
                content = None
            if number == 0 and content is not None and content != self._header:
                raise UserError(
                    f"{self.folder} holds other states than its name says. Delete the folder: it "
                    "is computed again."
                )
            frames = sum(n for _, n in content) if number and content else 0
            if content is None or self.bytes(self._frames + frames) > stored:
                return
            if number:
                self._add(content)
            self._index_size += len(line)

    def _path(self, name):
        return os.path.join(self.folder, name)
