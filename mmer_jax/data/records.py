"""A table's file -> its records, before anyone says what its columns mean."""

import csv
import io
import json

from mmer_jax.errors import UserError


def text_of(path: str) -> str:
    """A file's text, which is to be in UTF-8. Raises UserError."""
    try:
        with open(path, "rb") as f:
            data = f.read()
    except OSError as e:
        raise UserError(f"{path} can't be read as a table ({e.strerror or e}).") from e
    if b"\0" in data:
        raise UserError(f"{path} is no table in UTF-8 (perhaps UTF-16): save it as UTF-8.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = data[: e.start].count(b"\n") + 1
        raise UserError(
            f"{path} is not in UTF-8: line {line} holds the byte 0x{data[e.start]:02x}. Save it as "
            "UTF-8, or convert it, for example: iconv -f latin1 -t utf-8"
        ) from e


def cells(path: str, text: str, faults: list) -> tuple[list, list]:
    """The columns of a CSV or TSV, and (line, name -> cell) of its rows.

    Args:
      path: whose end tells the two apart.
      text: its content.
      faults: (line, column or None, what is wrong) of rows that are left out is added here.

    Raises:
      UserError: another delimiter.
    """
    delimiter = "\t" if path.lower().endswith(".tsv") else ","
    lines = io.StringIO(text, newline="")
    reader = csv.reader(lines, delimiter=delimiter, strict=True, skipinitialspace=True)
    header, records = None, []
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return _checked_header(path, header or [], delimiter), records
        except csv.Error as e:
            # Where the next row would begin is not known: nothing below it can be read.
            said = "a quote is opened and not closed" if "end of data" in str(e) else str(e)
            faults.append((line, None, f"{said}; a quote in a quoted cell is doubled"))
            return _checked_header(path, header or [], delimiter), records
        if not any(cell.strip() for cell in cells):
            continue
        if header is None:
            header = [cell.strip() or f"column {i}" for i, cell in enumerate(cells, 1)]
        elif len(cells) != len(header):
            faults.append((line, None, _wrong_count(cells, header, delimiter)))
        else:
            records.append((line, dict(zip(header, cells))))


def _wrong_count(cells, header, delimiter):
    named = "tab" if delimiter == "\t" else "comma"
    counts = f"{len(cells)} cell{'s' if len(cells) > 1 else ''}, the header has {len(header)}"
    if len(cells) < len(header):
        return counts
    return f"{counts}; a cell with a {named} in it wants quotes around it"


def _checked_header(path, header, delimiter):
    other = next((d for d in ";\t," if d != delimiter and d in header[0]), None) if header else None
    if len(header) == 1 and other:
        raise UserError(
            f"{path} has one column, {header[0]!r}; expected "
            f"{'tabs' if delimiter == chr(9) else 'commas'} between the columns."
        )
    return header


def objects(path: str, text: str, faults: list) -> tuple[list, list]:
    """The keys of JSON Lines, and (line, key -> value) of its objects; see `cells`."""
    names, records = {}, []
    for line, content in enumerate(io.StringIO(text, newline=None), 1):
        if not content.strip():
            continue
        try:
            pairs = json.loads(content, object_pairs_hook=_Pairs)
        except (ValueError, RecursionError) as e:
            faults.append((line, None, f"no JSON ({e})"))
            continue
        if not isinstance(pairs, _Pairs):
            faults.append((line, None, "no JSON object, {...}"))
            continue
        record = {name.strip(): value for name, value in pairs}
        if len(record) < len(pairs):
            faults.append((line, None, "a key comes twice"))
        names |= dict.fromkeys(record)
        records.append((line, record))
    return list(names), records


class _Pairs(list):
    """A JSON object's, a key that comes twice among them."""
