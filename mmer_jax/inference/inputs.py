"""What a command line names - files, folders, tables - as recordings with their texts."""

import dataclasses
import os

from absl import logging

from mmer_jax.data import table
from mmer_jax.errors import UserError
from mmer_jax.inference import recordings

SUFFIXES = (
    ".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".snd",
    ".caf", ".w64", ".rf64", ".nist", ".sph",
)  # fmt: skip
_READ = ("audio", "text", "start", "end")  # columns of a table


@dataclasses.dataclass(frozen=True)
class Item:
    """A recording to predict.

    Attributes:
      path: of the file.
      text: what is said; None: not known; "": to be taken for speech alone.
      start, end: seconds of the file between which the recording lies; None: its start, its end.
    """

    path: str
    text: str | None
    start: float | None = None
    end: float | None = None

    @property
    def audio(self):
        """What `recordings.read` takes."""
        if self.start is None and self.end is None:
            return self.path
        return recordings.Segment(self.path, self.start or 0.0, self.end)


def expand(names, text: str | None = None) -> list[Item]:
    """The recordings of files, folders and tables, in order.

    A folder stands for all audio files below it, sorted, without hidden ones, those among them
    that no one here can read; a table (see `data.table`) for its rows, each of them one recording.
    A file that is named twice, by itself or by its folder, is one recording.

    Args:
      names: paths.
      text: of recordings that come without one; "" is also that of recordings that come with one.

    Raises:
      UserError: nothing at a path, a folder without audio, or a table that can't be read whole.
    """
    found, files = [], set()
    for name in names:
        if table.is_table(name) and not os.path.isdir(name):
            found += _rows(name, text)
            continue
        paths = _below(name) if os.path.isdir(name) else [name]
        found += [Item(path, text) for path in dict.fromkeys(paths) if path not in files]
        files.update(paths)
    return found


def _either(own, text):
    return text if text == "" or not own else own


def _below(folder):
    paths = []
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        paths += [os.path.join(here, n) for n in names if _is_audio(n, names)]
    if not paths:
        raise UserError(f"No audio file is below {folder}; its name ends with {_listed()}.")
    return sorted(paths)


def _is_audio(name, beside):
    """Whether a file is to be read, or, if it can't be, to be reported."""
    if name.startswith(".") or name.lower().endswith(SUFFIXES):
        return not name.startswith(".")
    stem = os.path.splitext(name)[0]
    converted = any(stem + suffix in beside for suffix in SUFFIXES)
    return name.lower().endswith(recordings.UNREADABLE) and not converted


def _listed():
    return ", ".join(SUFFIXES[:6]) + ", ..."


def _rows(path, text):
    """An item for each row of a table; what of it is not read is logged."""
    found = table.read(path)
    unread = (*(c for c in found.columns if c not in _READ), *found.unknown)
    if unread:
        logging.warning("%s: columns that are not read: %s.", path, ", ".join(unread))
    return [Item(row.audio, _either(row.text, text), row.start, row.end) for row in found.rows]
