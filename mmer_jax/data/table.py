"""Tables of recordings (CSV, TSV, JSON Lines) as typed rows, or one message about all that's wrong.

A table is refused rather than guessed at: a cell too many is mostly the second half of a text with
a comma, and what one reader takes for a column another one drops.
"""

import csv
import dataclasses
import json
import math
import os

from mmer_jax import files
from mmer_jax.errors import UserError

SUFFIXES = (".csv", ".tsv", ".jsonl")
_SYNONYMS = {"path": "audio", "file": "audio"}
# What others call start and end: ignored, two recordings of one file would be taken for one.
_TIMES = (
    "begin", "onset", "offset", "stop", "start_time", "begin_time", "end_time", "stop_time",
    "start_s", "end_s", "start_ms", "end_ms", "tmin", "tmax", "xmin", "xmax",
)  # fmt: skip
_LISTED = 10  # faults that a message lists
LATEST = 1e9  # seconds, thirty years: where a segment may end


@dataclasses.dataclass(frozen=True)
class Row:
    """A row; an empty cell, or a column that the table lacks, is None.

    Attributes:
      line: of the file, from 1, where the row begins.
      audio, augmented_audio: paths as `open` takes them: those of the table count from its folder,
        and may lead out of it.
      text, augmented_text: transcripts.
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
      columns: those of `COLUMNS` that it has, in its order.
      unknown: names of its other columns that are not empty; they are not read.
      rows: at least one.
    """

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
    faults = []  # (line, what is wrong)
    names, records = _parsed(path, faults)
    columns = _columns(path, names, required)
    rows = tuple(_row(path, line, record, columns, required, faults) for line, record in records)
    if faults:
        listed = "; ".join(f"line {line}: {fault}" for line, fault in sorted(faults)[:_LISTED])
        more = f"; and {len(faults) - _LISTED} more" if len(faults) > _LISTED else ""
        raise UserError(
            f"{path} can't be read as a table: {listed}{more}. Mend these lines; nothing was read."
        )
    if not rows:
        raise UserError(f"{path} has no rows; expected one per recording.")
    filled = {n for _, record in records for n, cell in record.items() if not _is_empty(cell)}
    unknown = tuple(n for n in names if n in filled and n not in columns)
    return Table(tuple(columns.values()), unknown, rows)


def _parsed(path, faults):
    """Column names, and (line, name -> cell) of each record."""
    files.check_regular(path)
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            lines = _without_nul(path, file)
            if path.lower().endswith(".jsonl"):
                return _objects(lines, faults)
            return _cells(lines, "\t" if path.lower().endswith(".tsv") else ",", faults)
    except OSError as e:
        raise UserError(f"{path} can't be read as a table ({e.strerror or e}).") from e
    except UnicodeError as e:
        raise UserError(
            f"{path} is not in UTF-8 ({e}). Save it as UTF-8, or convert it, for example: "
            "iconv -f latin1 -t utf-8"
        ) from e


def _without_nul(path, lines):
    """The lines; NUL is in no text, but in UTF-16 and where a disk lost a file's content."""
    for number, line in enumerate(lines, 1):
        if "\0" in line:
            raise UserError(
                f"{path} holds a NUL character in line {number}: it is damaged, or in UTF-16. Save "
                "it as UTF-8, or copy it again."
            )
        yield line


def _cells(lines, delimiter, faults):
    reader = csv.reader(lines, delimiter=delimiter, strict=True, skipinitialspace=True)
    names, records, after = [], [], 1
    try:
        for cells in reader:
            line, after = after, reader.line_num + 1
            if not any(cell.strip() for cell in cells):
                continue
            if not names:
                names = [cell.strip() or f"column {i}" for i, cell in enumerate(cells, 1)]
            elif len(cells) == len(names):
                records.append((line, dict(zip(names, cells))))
            else:
                counts = f"{len(cells)} cells where the header has {len(names)}"
                fault = f"{counts}; a cell with a {delimiter!r} in it needs quotes around it"
                faults.append((line, fault))
    except csv.Error as e:  # where the next row would begin is not known
        faults.append((after, f"{e}; is a quote not closed, or one in a quoted cell not doubled?"))
    return names, records


def _objects(lines, faults):
    names, records = {}, []
    for line, content in enumerate(lines, 1):
        if not content.strip():
            continue
        try:
            record = json.loads(content, object_pairs_hook=_named)
            names |= dict.fromkeys(record.keys())
            records.append((line, record))
        except (ValueError, AttributeError, RecursionError) as e:
            faults.append((line, f"no JSON object, {{...}} ({e})"))
    return list(names), records


def _named(pairs):
    """A JSON object. Raises ValueError where a key comes twice: which one is meant?"""
    record = {name.strip(): value for name, value in pairs}
    if len(record) < len(pairs):
        raise ValueError("a key comes twice")
    return record


def _columns(path, names, required):
    """Name in the table -> the column that it is."""
    columns = [_SYNONYMS.get(name.lower(), name.lower()) for name in names]
    for name, column in zip(names, columns):
        if column in COLUMNS and columns.count(column) > 1:
            raise UserError(f"{path} has two columns for {column}: rename or remove one.")
        if column in _TIMES:
            raise UserError(
                f"{path} has a column {name}, which seems to say where in a file a recording lies. "
                "Name such columns start and end, in seconds, or remove it."
            )
    missing = [c for c in required if c not in columns]
    if missing:
        raise UserError(
            f"{path} has the columns {names}, read as {os.path.splitext(path)[1].upper()[1:]}; "
            f"expected a column {' and a column '.join(missing)}. It knows: {', '.join(COLUMNS)}; "
            f"{' and '.join(_SYNONYMS)} are audio."
        )
    return {name: column for name, column in zip(names, columns) if column in COLUMNS}


def _row(path, line, record, columns, required, faults):
    """A `Row`; what's wrong with it is added to `faults`."""
    values = {}
    for name, column in columns.items():
        try:
            values[column] = _value(column, record.get(name))
            if values[column] is None and column in required:
                raise ValueError("is empty")
        except ValueError as e:
            faults.append((line, f"column {name} {e}"))
    if other := _swallowed(os.path.dirname(path), record):
        faults.append((line, f"holds another row, that of {other}; a quote is not closed"))
    start, end = values.get("start") or 0.0, values.get("end")
    if end is not None and end <= start:
        faults.append((line, f"end, {end:g} s, is not behind start, {start:g} s"))
    for column in ("audio", "augmented_audio"):
        if values.get(column):
            values[column] = os.path.join(os.path.dirname(path), values[column])
    return Row(line, **values)


def _swallowed(folder, record):
    """The file that a cell's second or later line names, if it is there: the line was a row.

    A quote that another row's quote closes is no mistake in CSV.
    """
    lines = (line for cell in record.values() for line in str(cell).splitlines()[1:])
    cells = (c.strip(' "') for line in lines for c in line.replace("\t", ",").split(","))
    return next((c for c in cells if c and os.path.isfile(os.path.join(folder, c))), None)


def _value(column, cell):
    """A cell as its column's type. Raises ValueError."""
    if _is_empty(cell):
        return None
    if column in ("start", "end"):
        try:
            seconds = float(cell)
        except (TypeError, ValueError, OverflowError):
            seconds = math.nan
        if not 0 <= seconds <= LATEST:
            raise ValueError(f"holds {cell!r}; expected seconds, for example 12.5")
        return seconds
    # Of JSON's numbers whole ones alone: 1.0 would not be the name that 1 is.
    if isinstance(cell, bool) or not isinstance(cell, (str, int)):
        raise ValueError(f"holds {json.dumps(cell)[:40]}; expected text, in quotes")
    text = str(cell).strip()
    if not _is_unicode(text):
        raise ValueError(f"holds {json.dumps(text)[:40]}, half of a character")
    return text


def _is_unicode(text):
    try:
        return text.encode() is not None
    except UnicodeEncodeError:  # of JSON alone, which can spell it
        return False


def _is_empty(cell):
    """Whether there is nothing; pandas writes NaN for it into JSON Lines."""
    return cell is None or cell != cell or not str(cell).strip()
