"""A user's own corpus: one table, CSV, TSV or JSON lines, and the recordings that it names."""

import codecs
import csv
import difflib
import io
import json
import math
import pathlib
import re

from absl import logging

from ..rows import (
    SPLITS,
    CorpusError,
    Reader,
    Row,
    duplicates,
    is_file,
    listing,
    refuse,
    swallowed,
)  # fmt: skip

TABLES = ("table.csv", "table.tsv", "table.jsonl")
NEEDED = ("audio", "label")
OPTIONAL = (
    "text", "utterance", "speaker", "session", "dialog", "language", "split", "fold", "start",
    "end", "augmented_text", "augmented_audio", "augmented_voice",
)  # fmt: skip
_SPLITS = {name: name for name in SPLITS} | {"dev": "validation", "valid": "validation"}
_LAYOUT = f"""\
MANUAL_DIR/table.csv (or table.tsv, table.jsonl), with a first line that names its columns:
  needed    audio   a recording, its path relative to the table
            label   the emotion
  optional  {", ".join(OPTIONAL)}
split is train, validation or test; start and end are seconds within the recording. A path may be
absolute or lead out of MANUAL_DIR. CSV has commas, quotes around what has one in it; UTF-8."""
_ENCODING = "Save it as UTF-8 (in a spreadsheet: CSV UTF-8)."
_LATEST = 1e9  # seconds, thirty years
_MEND = "Nothing was written: mend the table and build again."


def read(manual_dir: pathlib.Path) -> list[Row]:
    """The table's rows.

    Raises:
      CorpusError: names every row and column that is wrong.
    """
    path = _find(manual_dir)
    records = _records(path)
    _check_columns(path, list(dict.fromkeys(name for _, record in records for name in record)))
    rows, problems = [], []
    for (place, record), name in zip(records, _ids(records)):
        row, wrong = _row(f"{path.name}, {place}", record, name, manual_dir)
        rows.append(row)
        problems += wrong
    refuse(problems + duplicates(rows), _MEND)
    _report(rows, manual_dir)
    return rows


def _report(rows, manual_dir):
    root = manual_dir.resolve()
    outside = sum(root not in row.audio.resolve().parents for row in rows)
    if outside:
        logging.info("%d of %d recordings are outside of %s.", outside, len(rows), manual_dir)
    labels = {row.label for row in rows}
    alike = [x for x in sorted(labels) if any(x != y and x.lower() == y.lower() for y in labels)]
    if alike:
        logging.warning("Labels that differ in capitals only are two: %s.", ", ".join(alike))


def _find(manual_dir):
    found = [manual_dir / name for name in TABLES if (manual_dir / name).is_file()]
    if len(found) > 1:
        raise CorpusError(
            f"{manual_dir} holds {' and '.join(p.name for p in found)}: leave one of them there."
        )
    if not found:
        names = listing(sorted(path.name for path in manual_dir.iterdir()))
        raise CorpusError(f"No table in {manual_dir}, which holds\n{names}\nExpected:\n{_LAYOUT}")
    return found[0]


def _records(path) -> list[tuple[str, dict[str, str]]]:
    """(where it is, its fields by lower-case name) of each row."""
    data = path.read_bytes()
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise CorpusError(f"{path.name}, line 1: the table is UTF-16. {_ENCODING} {_MEND}")
    if b"\0" in data:
        line = data[: data.index(b"\0")].count(b"\n") + 1
        raise CorpusError(
            f"{path.name}, line {line}: a NUL byte, which no text has: the file is damaged, or in "
            f"UTF-16. {_ENCODING} {_MEND}"
        )
    text = data.decode("utf-8-sig", "surrogateescape")
    read_records = _json_records if path.suffix == ".jsonl" else _csv_records
    records = read_records(path, text)
    refuse(_not_utf8(path.name, records), f"{_ENCODING} {_MEND}")
    if not records:
        raise CorpusError(
            f"{path} has no rows below its columns; expected one for each utterance.\n{_LAYOUT}"
        )
    return records


def _not_utf8(name, records):
    """Names each field, and each column, with bytes that are no UTF-8."""
    columns = dict.fromkeys(column for _, record in records for column in record)
    fields = [("line 1", "a column's name", column) for column in columns]
    for place, record in records:
        fields += [(place, f"column {column!r}", text) for column, text in record.items()]
    return [
        f"{name}, {place}: {what}: byte 0x{ord(found[0]) % 0x100:02x} is not UTF-8"
        for place, what, text in fields
        if (found := re.search("[\ud800-\udfff]", text))  # JSON can spell others than bytes
    ]


def _csv_records(path, text):
    separator = "\t" if path.suffix == ".tsv" else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    records, problems, head, first = [], [], None, 1
    try:
        for fields in reader:
            place, first = f"line {first}", reader.line_num + 1
            if not any(field.strip() for field in fields):
                continue
            if head is None:
                head = [name.strip().lower() for name in fields]
            elif len(fields) != len(head):
                problems.append(
                    f"{path.name}, {place}: {len(fields)} fields; expected {len(head)}, as many as "
                    "columns: quote a field that has the separator in it"
                )
            else:
                records.append((place, dict(zip(head, (field.strip() for field in fields)))))
    except csv.Error as error:
        problems.append(f"{path.name}, line {first}: {error}; double a quote within quotes")
    twice = sorted({name for name in head or [] if name and head.count(name) > 1})
    problems += [f"{path.name}: two columns {name!r}" for name in twice]
    refuse(problems, _MEND)
    return records


def _json_records(path, text):
    records, problems = [], []
    # Not str.splitlines: it also splits at characters that a text may hold.
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), 1):
        if not line.strip():
            continue
        place = f"{path.name}, line {number}"
        try:
            fields = json.loads(line, object_pairs_hook=_named)
        except (ValueError, RecursionError) as error:
            problems.append(f"{place}: {error}")
            continue
        if not isinstance(fields, dict):
            problems.append(f"{place}: expected {{...}} with a row's fields")
            continue
        # NaN: as pandas writes an empty cell.
        fields = {k: "" if v is None or v != v else v for k, v in fields.items()}
        problems += [
            f"{place}: column {name!r} is {value}; expected a text or a number"
            for name, value in fields.items()
            if isinstance(value, (list, dict, bool)) or value in (math.inf, -math.inf)
            if name in NEEDED + OPTIONAL
        ]
        records.append((f"line {number}", {k: str(v).strip() for k, v in fields.items()}))
    refuse(problems, _MEND)
    return records


def _named(pairs):
    """A JSON object. Raises ValueError where a key comes twice, and for what no text can hold."""
    record = {name.strip().lower(): value for name, value in pairs}
    if len(record) < len(pairs):
        raise ValueError("a column comes twice")
    if any("\0" in x for pair in pairs for x in pair if isinstance(x, str)):
        raise ValueError("a NUL character, which no text has")
    return record


def _check_columns(path, columns):
    missing = [name for name in NEEDED if name not in columns]
    others = [name for name in columns if name not in NEEDED + OPTIONAL]
    if missing:
        near = {name: difflib.get_close_matches(name, others, 1) for name in missing}
        meant = "".join(f" Is {near[n][0]!r} meant for {n!r}?" for n in missing if near[n])
        if len(columns) == 1 and re.search("[;\t]", columns[0]):
            meant = " Its fields are not separated by commas: save it with commas, or as table.tsv."
        raise CorpusError(
            f"{path} has the columns {', '.join(columns)}; {' and '.join(missing)} missing.{meant}"
            f"\nExpected:\n{_LAYOUT}"
        )
    if others:
        logging.warning("Columns of %s that are not used: %s.", path.name, ", ".join(others))
    for name in others:
        near = difflib.get_close_matches(name, [n for n in OPTIONAL if n not in columns], 1, 0.8)
        if near:
            logging.warning("Is %r meant for %r? It is not read.", name, near[0])


def _ids(records):
    """The column `utterance`, else the recording's name, with its folders where names repeat."""
    paths = [pathlib.PurePosixPath(r.get("audio", "").replace("\\", "/")) for _, r in records]
    stems = [path.stem for path in paths]
    if len(set(stems)) < len(set(paths)):
        stems = [str(path.with_suffix("")) if path.name else "" for path in paths]
    parts = [f"_{r['start']}" if r.get("start") else "" for _, r in records]
    return [r.get("utterance") or stem + part for (_, r), stem, part in zip(records, stems, parts)]


def _row(place, record, name, folder):
    """A row and what is wrong with it."""
    problems = []

    def seconds(column):
        text = record.get(column, "")
        try:
            value = float(text) if text else None
        except ValueError:
            value = math.nan
        if value is not None and not 0 <= value <= _LATEST:
            problems.append(f"{place}: column {column!r} is {text!r}; expected seconds from 0")
            return None
        return value

    def recording(column):
        path = folder / record.get(column, "").replace("\\", "/")
        if record.get(column) and not is_file(path):
            problems.append(f"{place}: column {column!r}: no file {path}")
        return path

    if other := swallowed(record.values(), lambda part: is_file(folder / part)):
        problems.append(f"{place}: holds another row, that of {other}; a quote is not closed")
    start, end = seconds("start"), seconds("end")
    if start is not None and end is not None and start >= end:
        problems.append(f"{place}: column 'start', {start:g}, is not before 'end', {end:g}")
    split = record.get("split", "").lower()
    if split and split not in _SPLITS:
        problems.append(f"{place}: column 'split' is {split!r}; expected {', '.join(SPLITS)}")
    problems += [f"{place}: column {column!r} is empty"
                 for column in NEEDED if not record.get(column)]  # fmt: skip
    voice, spoken = record.get("augmented_voice", ""), record.get("augmented_audio", "")
    if voice and not spoken:
        problems.append(f"{place}: column 'augmented_voice' without an augmented_audio")
    row = Row(
        utterance=name,
        audio=recording("audio"),
        label=record.get("label", ""),
        place=place,
        transcript=record.get("text", ""),
        split=_SPLITS.get(split, ""),
        start=start,
        end=end,
        augmented_transcript=record.get("augmented_text", ""),
        augmented_audio=(recording("augmented_audio"),) if spoken else (),
        augmented_voice=(voice,) if spoken else (),
        **{k: record.get(k, "") for k in ("speaker", "session", "dialog", "language", "fold")},
    )
    return row, problems


READERS = {
    "table": Reader(
        title="A table of one's own: recordings and their labels.",
        homepage="",
        labels=(),
        layout=_LAYOUT,
        read=read,
    )
}
