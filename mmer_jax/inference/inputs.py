"""What a command line names - files, folders, tables - as recordings with their texts."""

import csv
import dataclasses
import os

from mmer_jax.errors import UserError

SUFFIXES = (
    ".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".snd",
    ".caf", ".w64", ".rf64", ".nist", ".sph",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Item:
    """A recording to predict.

    Attributes:
      path: of the file.
      text: what is said; None: not known; "": to be taken for speech alone.
    """

    path: str
    text: str | None


def expand(names, text: str | None = None) -> list[Item]:
    """The recordings of files, folders and CSV tables, in order, each once.

    A folder stands for all audio files below it, sorted, without hidden ones; a CSV for the files
    of its column `file`, which count from its folder, with the texts of its column `text`, if any.

    Args:
      names: paths.
      text: of recordings that come without one; "" is also that of recordings that come with one.

    Raises:
      UserError: nothing at a path, a folder without audio, or a table without such a column.
    """
    found = []
    for name in names:
        if os.path.isdir(name):
            found += [Item(path, text) for path in _below(name)]
        elif name.lower().endswith(".csv"):
            found += [Item(path, _either(own, text)) for path, own in _rows(name)]
        else:
            found.append(Item(name, text))
    return list(dict.fromkeys(found))


def _either(own, text):
    return text if text == "" or not own else own


def _below(folder):
    paths = []
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        paths += [os.path.join(here, n) for n in names if _is_audio(n)]
    if not paths:
        raise UserError(f"No audio file is below {folder}; its name ends with {_listed()}.")
    return sorted(paths)


def _is_audio(name):
    return not name.startswith(".") and name.lower().endswith(SUFFIXES)


def _listed():
    return ", ".join(SUFFIXES[:6]) + ", ..."


def _rows(path):
    """(file, text) of each row of a table."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as f:
            reader = csv.DictReader(f)
            columns, rows = reader.fieldnames or [], list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise UserError(f"{path} can't be read as a table ({e}); expected a CSV in UTF-8.") from e
    if "file" not in columns:
        raise UserError(
            f"{path} has the columns {', '.join(columns) or 'none'}; expected a column `file` and, "
            "if you like, a column `text`."
        )
    folder = os.path.dirname(path)
    empty = [i for i, row in enumerate(rows, 2) if not row["file"]]
    if empty:
        raise UserError(f"{path} names no file in line {empty[0]}; fill in its column `file`.")
    if not rows:
        raise UserError(f"{path} has no rows; expected one per recording.")
    return [(os.path.join(folder, row["file"]), row.get("text") or None) for row in rows]
