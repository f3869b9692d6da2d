"""Strategies of hypothesis that damage what users hand in: bytes, texts, JSON, CSV."""

import copy
import csv
import dataclasses
import io
import json
import pathlib
import shutil

from hypothesis import strategies as st

from tests.inputs.guard import CANARY, KNOWN, REFUSED, SAME, Damaged

MARKS = (
    b"\xef\xbb\xbf", b"\xff\xfe", b"\0", b"\0" * 600, b"\xff", b"\r", b"\n", b'"', b",", b"{",
    b"[" * 3000, b"-1", b"\xed\xa0\x80", b"\x1a", b"PK\x03\x04", b"cos\nsystem\n(S'true'\ntR.",
)  # fmt: skip
DEEP = "[" * 100_000 + "]" * 100_000


@st.composite
def flipped(draw, data: bytes, head: float = 0.0):
    """The bytes with one to eight flipped, a share of which, `head`, are among the first 64."""
    found = bytearray(data)
    for _ in range(draw(st.integers(1, 8))):
        reach = min(64, len(found)) if draw(st.floats(0, 1)) < head else len(found)
        at = draw(st.integers(0, reach - 1))
        found[at] ^= draw(st.integers(1, 255))
    return Damaged(bytes(found), f"{sum(a != b for a, b in zip(data, found))} bytes flipped")


@st.composite
def torn(draw, data: bytes):
    """The bytes cut off, with a part gone, doubled, zeroed, or with others between them."""
    a, b = sorted((draw(st.integers(0, len(data))), draw(st.integers(0, len(data)))))
    mark = draw(st.sampled_from(MARKS))
    return draw(st.sampled_from([
        Damaged(data[:a], f"cut off at {a}"), Damaged(data[:a] + data[b:], f"{a} to {b} gone"),
        Damaged(data[:b] + data[a:], f"{a} to {b} twice"),
        Damaged(data[:a] + bytes(b - a) + data[b:], f"{a} to {b} zeros"),
        Damaged(data[:a] + mark + data[a:], f"{mark[:9]} at {a}"),
        Damaged(mark + data, f"{mark[:9]} before"), Damaged(data + mark, f"{mark[:9]} behind"),
    ]))  # fmt: skip


def noise():
    """Bytes that are none of it."""
    return st.one_of(
        st.just(b""), st.binary(max_size=300), st.sampled_from(MARKS),
        st.text(max_size=300).map(lambda x: x.encode("utf-8", "replace")),
    ).map(lambda data: Damaged(data, "other bytes"))  # fmt: skip


def damaged_bytes(data: bytes, head: float = 0.0):
    """The bytes, damaged in one of these ways."""
    return st.one_of(flipped(data, head), torn(data), noise())


def encoded(text: str):
    """A text's file in other encodings and spellings, which mean the same or can't be read."""
    body = text.encode()
    accents = (text + "é\n").encode()
    return st.sampled_from([
        Damaged(b"\xef\xbb\xbf" + body, "BOM", SAME),
        Damaged(body.replace(b"\n", b"\r\n"), "CRLF", SAME),
        Damaged(body.replace(b"\n", b"\r"), "CR", SAME),
        Damaged(body.rstrip(b"\n"), "no last line break", SAME),
        Damaged(body.replace(b"\n", b"\n\n"), "blank lines", SAME),
        Damaged(text.encode("utf-16"), "UTF-16", REFUSED),
        Damaged(text.encode("utf-16-le"), "UTF-16 without BOM", REFUSED),
        Damaged(text.encode("utf-32"), "UTF-32", REFUSED),
        Damaged(accents.decode().encode("latin1"), "Latin-1", REFUSED),
        Damaged(b"", "empty", REFUSED), Damaged(b"\n\n", "nothing but line breaks", REFUSED),
        Damaged(b"\0" * len(body), "zeros, as after a power failure", REFUSED),
    ])  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Raw:
    """JSON that Python has no value for."""

    text: str


VALUES = (
    None, True, False, 0, -1, 1.5, 7, 2**31, 2**63, float("nan"), float("inf"), -float("inf"),
    1e308, "", " ", "0", "nan", "\0", "x" * 20_000, "../../canary", "/dev/zero",
    "__import__('os').abort()",
    [], {}, [[]], [0], {"a": 1}, Raw("1e999"), Raw("1" + "0" * 400), Raw("9" * 5000), Raw(DEEP),
    Raw('"\\ud800"'), Raw('{"a": 1, "a": 2}'), Raw("1x"), Raw(""),
)  # fmt: skip


def _places(value, at=()):
    """(container, key, path) of each place in a JSON value."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(pairs):
        yield value, key, (*at, key)
        if isinstance(inner, (dict, list)):
            yield from _places(inner, (*at, key))


@st.composite
def damaged_json(draw, value, values=VALUES, indent=None):
    """A JSON value's text in which places hold something else, are gone, doubled or renamed."""
    value, how = copy.deepcopy(value), []
    for _ in range(draw(st.integers(1, 2))):
        places = list(_places(value))
        if not places:
            break
        container, key, path = draw(st.sampled_from(places))
        way = draw(st.sampled_from(("other", "other", "other", "gone", "wrapped", "text", "moved")))
        if way == "gone":
            del container[key]
        elif way == "moved":
            source, other, _ = draw(st.sampled_from(places))
            container[key] = copy.deepcopy(source[other])
        elif way == "wrapped":
            container[key] = draw(st.sampled_from(([container[key]], {"x": container[key]})))
        elif way == "text":
            container[key] = str(container[key])
        else:
            container[key] = copy.deepcopy(draw(st.sampled_from(values)))
        how.append(f"{'.'.join(map(str, path))} {way} {container[key]!r:.40}" if way != "gone"
                   else f"{'.'.join(map(str, path))} gone")  # fmt: skip
    return Damaged(spelt(value, indent).encode(), "; ".join(how))


def spelt(value, indent=None) -> str:
    """A JSON text, with what is `Raw` as it stands."""
    raws = []

    def default(raw):
        raws.append(raw.text)
        return f"@raw{len(raws) - 1}@"

    text = json.dumps(value, default=default, indent=indent)
    for i, raw in enumerate(raws):
        text = text.replace(f'"@raw{i}@"', raw)
    return text


CELLS = (
    "", " ", "0", "-1", "nan", "inf", "1e308", "1e999", "9" * 400, "soon", "\0", "a\nb", 'x"y',
    "x,y", '"', "'", "é", "\ufeff", "\u202e", "=1+1", "../../canary", "/dev/zero", "/", ".", "..",
    "a" * 300 + ".wav", "a" * 140_000, "\ttab", "a\\b", "NULL", "None", "fifo.wav", "loop.wav",
)  # fmt: skip


WAYS = ("raw", "short", "long", "twice", "two heads", "renamed", "column", "lost", "headless",
        "headonly", "reordered", "quoted")  # fmt: skip


@st.composite
def damaged_table(draw, head, rows, delimiter=",", cells=CELLS, refused=None, empty=REFUSED):
    """A table's file with cells, rows or columns that are gone, doubled, moved or something else.

    Args:
      draw: hypothesis'.
      head: columns.
      rows: lists of cells.
      delimiter: between them.
      cells: that take another's place.
      refused: column -> cells that no such column can hold.
      empty: what a table without rows must come to.
    """
    head, rows, must = list(head), [list(row) for row in rows], ""
    way = draw(st.sampled_from(("cell",) * 5 + WAYS))
    i, j = draw(st.integers(0, len(rows) - 1)), draw(st.integers(0, len(head) - 1))
    cell, raw = draw(st.sampled_from(cells)), None
    how = f"{way}, row {i}, column {head[j]}"
    if way in ("cell", "raw"):
        how += f": {cell[:20]!r}"
        rows[i][j] = cell
        raw = cell if way == "raw" else None
        must = REFUSED if way == "cell" and cell in (refused or {}).get(head[j], ()) else ""
    elif way == "short":
        rows[i].pop(j)
        must = REFUSED
    elif way == "long":
        rows[i].insert(j, cell)
        must = REFUSED if cell.strip() else ""
    elif way == "twice":
        rows.insert(i, rows[i])
    elif way == "two heads":
        head[j] = head[j - 1]
        must = REFUSED
    elif way == "renamed":
        head[j] = draw(st.sampled_from(("", "\0", head[j] + "x", "start_ms", head[j] * 1000)))
        must = KNOWN
    elif way == "column":
        head.pop(j)
        rows = [row[:j] + row[j + 1 :] for row in rows]
    elif way == "lost":
        rows.pop(i)
    elif way == "headless":
        head = rows.pop(0)
        must = REFUSED
    elif way == "headonly":
        rows = []
        must = empty
    elif way == "reordered":
        order = draw(st.permutations(range(len(head))))
        head, rows = [head[k] for k in order], [[row[k] for k in order] for row in rows]
        must = SAME
    else:
        must = SAME
    out = io.StringIO()
    quoting = csv.QUOTE_ALL if way == "quoted" else csv.QUOTE_MINIMAL
    writer = csv.writer(out, delimiter=delimiter, quoting=quoting, lineterminator="\n")
    writer.writerows([head, *rows])
    text = out.getvalue()
    if raw is not None:  # without quotes around it
        text = "\n".join(delimiter.join(row) for row in [head, *rows]) + "\n"
    return Damaged(text.encode("utf-8", "surrogatepass"), how, must)


def written(head, rows, delimiter=",") -> str:
    """A table's text."""
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator="\n").writerows([head, *rows])
    return out.getvalue()


def damaged_file(path: pathlib.Path):
    """A file's content, damaged: as JSON too, where it is."""
    data = path.read_bytes()
    if path.suffix == ".json":
        value = json.loads(data)
        return st.one_of(damaged_json(value), damaged_json(value),
                         damaged_bytes(data))  # fmt: skip
    return damaged_bytes(data, 0.5)


def in_a_folder(folder: pathlib.Path, names):
    """(name, Damaged) of one of the files of a folder."""

    def pair(name):
        return st.tuples(st.just(name), damaged_file(folder / name))

    return st.one_of(*map(pair, names))


class Spoilt:
    """A copy of a folder, in which one file at a time is another."""

    def __init__(self, folder, to):
        self.folder = pathlib.Path(shutil.copytree(folder, to))
        (self.folder.parent / CANARY).write_bytes(b"x")

    def read(self, name, data, read):
        """What `read(folder)` gives with other content in a file."""
        path = self.folder / name
        before = path.read_bytes()
        path.write_bytes(data)
        try:
            return read(str(self.folder))
        finally:
            path.write_bytes(before)
