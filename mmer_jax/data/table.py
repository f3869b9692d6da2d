"""Tables of recordings (CSV, TSV, JSON Lines) as typed rows, or one message about all that's wrong.

A table is refused rather than guessed at: a cell too many is mostly the second half of a text with
a comma, and what one reader takes for a column another one drops.
"""

import dataclasses
import json
import math
import os

from mmer_jax.data import records
from mmer_jax.errors import UserError

SUFFIXES = (".csv", ".tsv", ".jsonl")
_SAME = {"path": "audio", "file": "audio"}  # other names of a column
# What others call start and end: not read, two recordings of one file would be taken for one.
_TIMES = (
    "begin", "onset", "offset", "stop", "start_time", "begin_time", "end_time", "stop_time",
    "start_s", "end_s", "start_ms", "end_ms", "tmin", "tmax", "xmin", "xmax",
)  # fmt: skip
_LISTED = 10  # faults that a message lists


@dataclasses.dataclass(frozen=True)
class Row:
    """A row; an empty cell, or a column that the table lacks, is None.

    Attributes:
      line: of the file, from 1, where the row begins.
      audio, augmented_audio: paths as `open` takes them: those of the table count from its folder,
        and may lead out of it.
      text, augmented_text: what is said.
      start, end: seconds of the file in `audio` between which the row's recording lies.
      label, utterance, speaker, session, dialog, split, fold, language, augmented_voice: as the
        table has them.
    """

    line: int
    audio: str | None = None
    label: str | None = None
    text: str | None = None
    utterance: str | None = None
    speaker: str | None = None
    session: str | None = None
    dialog: str | None = None
    split: str | None = None
    fold: str | None = None
    start: float | None = None
    end: float | None = None
    language: str | None = None
    augmented_text: str | None = None
    augmented_audio: str | None = None
    augmented_voice: str | None = None


COLUMNS = tuple(f.name for f in dataclasses.fields(Row) if f.name != "line")


@dataclasses.dataclass(frozen=True)
class Table:
    """A table that was read whole.

    Attributes:
      path: of the file.
      columns: those of `COLUMNS` that it has, in its order.
      unknown: names of its other columns that are not empty; they are not read.
      rows: at least one.
    """

    path: str
    columns: tuple[str, ...]
    unknown: tuple[str, ...]
    rows: tuple[Row, ...]


def is_table(path: str) -> bool:
    """Whether a file's name is one of a table."""
    return path.lower().endswith(SUFFIXES)


def read(path: str, required: tuple[str, ...] = ("audio",)) -> Table:
    """The rows of a table.

    Args:
      path: a CSV, a TSV (both quoted as RFC 4180 has it) or JSON Lines; UTF-8, with or without a
        byte order mark, any line breaks. Column names may have blanks around them and capitals;
        `path` and `file` are `audio`.
      required: columns that must be there, and filled in every row.

    Raises:
      UserError: no such file, none in UTF-8, or one that does not fit its header; lists the lines.
    """
    faults = []
    parse = records.objects if path.lower().endswith(".jsonl") else records.cells
    names, found = parse(path, records.text_of(path), faults)
    columns = _columns(path, names, required)
    rows = [_row(path, line, record, columns, required, faults) for line, record in found]
    if faults:
        raise UserError(_refusal(path, faults))
    if not rows:
        raise UserError(f"{path} has no rows; expected one per recording.")
    known = tuple(dict.fromkeys(columns.values()))
    filled = {n for _, record in found for n, cell in record.items() if not _is_empty(cell)}
    unknown = tuple(n for n in names if n in filled and n not in columns)
    return Table(path, known, unknown, tuple(rows))


def _columns(path, names, required):
    """Name in the table -> the column that it is."""
    columns = {}
    for name in names:
        column = _SAME.get(name.lower(), name.lower())
        twice = [n for n in columns if columns[n] == column] if column in COLUMNS else []
        if twice or names.count(name) > 1:
            raise UserError(
                f"{path} has two columns {' and '.join(dict.fromkeys([*twice, name]))}, of which "
                "only one can be meant. Rename or remove one."
            )
        if column in _TIMES:
            raise UserError(
                f"{path} has a column {name}, which seems to say where in a file a recording lies. "
                "Name such columns start and end, in seconds, or remove it."
            )
        if column in COLUMNS:
            columns[name] = column
    missing = [c for c in required if c not in columns.values()]
    if missing:
        raise UserError(
            f"{path} has the columns {', '.join(names) or 'none'}; expected a column "
            f"{' and a column '.join(missing)}. It knows: {', '.join(COLUMNS)} (or {_others()})."
        )
    return columns


def _others():
    return ", ".join(f"{ours}: {name}" for name, ours in _SAME.items())


def _row(path, line, record, columns, required, faults):
    """A `Row`; what's wrong with it is added to `faults`."""
    values = {}
    for name, column in columns.items():
        try:
            values[column] = _value(column, record.get(name))
        except ValueError as e:
            faults.append((line, name, str(e)))
            values[column] = None
        else:
            if values[column] is None and column in required:
                faults.append((line, name, "is empty"))
    folder = os.path.dirname(path)
    start, end = values.get("start"), values.get("end")
    if end is not None and end <= (start or 0):
        faults.append((line, None, f"end, {end:g} s, is not behind start, {start or 0:g} s"))
    faults += [(line, name, fault) for name, fault in _swallowed(folder, record)]
    for column in ("audio", "augmented_audio"):
        if values.get(column):
            values[column] = os.path.join(folder, values[column])
    return Row(line, **values)


def _value(column, cell):
    """A cell as its column's type. Raises ValueError."""
    if isinstance(cell, (list, dict, bool)):
        raise ValueError(f"holds {json.dumps(cell)[:40]}, which is neither text nor a number")
    if _is_empty(cell):
        return None
    if column not in ("start", "end"):
        if not isinstance(cell, str) and not (isinstance(cell, int) and column in _NUMBERED):
            raise ValueError(f"holds the number {cell}; expected text, in quotes")
        return str(cell) if column in _AS_THEY_ARE else str(cell).strip()
    try:
        seconds = float(cell)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError(f"holds {str(cell)!r}; expected seconds, for example 12.5")
    return seconds


def _is_empty(cell):
    """Whether there is nothing; pandas writes NaN for it into JSON Lines."""
    return cell is None or cell != cell or not str(cell).strip()


# Columns whose values may be whole numbers in JSON; 1.0 would not be the name that 1 is.
_NUMBERED = ("label", "utterance", "speaker", "session", "dialog", "split", "fold")
_AS_THEY_ARE = ("audio", "text", "augmented_audio", "augmented_text")


def _swallowed(folder, record):
    """(column, fault) of cells with line breaks in which other rows lie: a quote was not closed.

    Told by the name of a file that is there, for a text may well have several lines.
    """
    for name, cell in record.items():
        for part in str(cell).splitlines()[1:]:
            cells = [c.strip(' "') for c in part.replace("\t", ",").split(",")]
            there = [c for c in cells if c and os.path.isfile(os.path.join(folder, c))]
            if there:
                yield name, f"holds another row, that of {there[0]}; a quote is not closed"
                break


def _refusal(path, faults):
    places = [
        f"line {line}{f', column {name}' if name else ''}: {fault}"
        for line, name, fault in sorted(faults, key=lambda f: f[0])
    ]
    listed = "; ".join(places[:_LISTED])
    more = f"; and {len(places) - _LISTED} more" if len(places) > _LISTED else ""
    return f"{path} can't be read as a table: {listed}{more}. Mend these lines; nothing was read."
