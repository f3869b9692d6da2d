"""Predictions as lines: a table to look at, or a CSV or JSON Lines file that can be continued."""

import collections
import csv
import io
import json
import os

from mmer_jax import files
from mmer_jax.errors import UserError
from mmer_jax.inference.inputs import Item
from mmer_jax.inference.prediction import Prediction

FORMATS = ("table", "csv", "jsonl")
_NO_SPEECH, _UNSURE = "no speech", "unsure"  # in a table, in place of a class


class Table:
    """Lines to look at."""

    def __init__(self, names):
        self._width = max(map(len, ("emotion", _NO_SPEECH, _UNSURE, *names)))

    def head(self) -> str:
        """The first line."""
        return f"{'emotion':{self._width}}      p  seconds  file: text"

    def line(self, item: Item, found: Prediction) -> str:
        """A prediction's line; without a class where the prediction warns of it."""
        name, sure, text = found.label, "", f": {_one_line(found.text)}"
        if found.label is None:
            name, text = _NO_SPEECH, ""
        elif found.warning:
            name = _UNSURE
        else:
            sure = f"{100 * found.probabilities[found.label]:3.0f} %"
        where = f" {item.start or 0:g} s" if item.start is not None or item.end is not None else ""
        said = text if found.text.strip() else ""
        return f"{name:{self._width}}  {sure:5}  {found.seconds:7.1f}  {item.path}{where}{said}"


class Csv:
    """A row per recording."""

    def __init__(self, names):
        self._names = tuple(names)
        self._columns = ["file", "start", "end", "emotion", *(f"p_{n}" for n in names)]
        self._columns += ["calibrated", "seconds", "text_source", "text"]
        self._columns += ["speech", "held_out_ua", "warning"]

    def head(self) -> str:
        """The columns' names."""
        return _csv_line(self._columns)

    def line(self, item: Item, found: Prediction) -> str:
        """A prediction's row; a text's line breaks become spaces, so that a row is a line.

        Nothing is written where there is nothing: no class and no probabilities without speech.
        """
        p = [_number(found.probabilities.get(n), 6) for n in self._names]
        known = [int(found.calibrated), f"{found.seconds:.3f}", found.text_source]
        speech = "" if found.speech is None else int(found.speech)
        worth = [speech, _number(found.held_out.get("ua"), 4), found.warning]
        where = item.path, item.start, item.end
        row = [*where, found.label or "", *p, *known, _one_line(found.text), *worth]
        return _csv_line(row)

    def key(self, line: str) -> tuple:
        """Which recording a line is of."""
        row = dict(zip(self._columns, next(csv.reader([line])), strict=True))
        return row["file"], *(float(row[k]) if row[k] else None for k in ("start", "end"))


class JsonLines:
    """An object per recording: `file`, `start`, `end`, and all that a `Prediction` has.

    The times of its timeline count from `start`.
    """

    def __init__(self, names):
        del names

    def head(self) -> None:
        """None: every line is a prediction."""
        return None

    def line(self, item: Item, found: Prediction) -> str:
        """A prediction's object."""
        where = {"file": item.path, "start": item.start, "end": item.end}
        return json.dumps(where | found.as_dict())

    def key(self, line: str) -> tuple:
        """Which recording a line is of."""
        found = json.loads(line)
        return found["file"], found.get("start"), found.get("end")


WRITERS = {"table": Table, "csv": Csv, "jsonl": JsonLines}


def _number(x, digits):
    return "" if x is None else f"{x:.{digits}f}"


def _one_line(text):
    return " ".join(text.split())


def _csv_line(row):
    if "\n" in str(row[0]) or "\r" in str(row[0]):
        raise UserError(f"{row[0]!r} has a line break in its name; write --format=jsonl.")
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow(row)
    return out.getvalue()


class Continued:
    """A file of lines that an interrupted command goes on with.

    What it was made with stands beside it, in `<path>.made_with.json`: predictions of two models
    or with two decoders must not get into one file.

    Args:
      path: of the file.
      writer: `Csv` or `JsonLines`.
      made_with: plain values: the model and the options that change a prediction.

    Raises:
      UserError: the file was made with something else, is no such file, or can't be written.
    """

    def __init__(self, path: str, writer, made_with: dict):
        self._path, self._beside = path, f"{path}.made_with.json"
        self._writer = writer
        try:
            if os.path.exists(path) and os.path.getsize(path):
                self._check(made_with)
            else:
                files.replace_file(self._beside, json.dumps(made_with, indent=2) + "\n")
            self._done = collections.Counter(self._read())
            # Surrogates: bytes of a file's name that are no UTF-8 are written as they are.
            self._file = open(path, "a", encoding="utf-8", errors="surrogateescape", newline="\n")
            if not self._file.tell() and writer.head() is not None:
                self.write(writer.head())
        except OSError as e:
            raise UserError(f"{path} can't be written: {e}. Name another file by --out.") from e

    def left(self, items) -> list[Item]:
        """Those of `items` that are not in the file; one named several times, as often as not."""
        done, left = self._done.copy(), []
        for item in items:
            key = item.path, item.start, item.end
            if done[key]:
                done[key] -= 1
            else:
                left.append(item)
        return left

    def write(self, line: str) -> None:
        """Adds a line, at once."""
        self._file.write(line + "\n")
        self._file.flush()

    def close(self) -> None:
        """Lets go of the file."""
        self._file.close()

    def _check(self, made_with):
        try:
            before = json.loads(files.read_text(self._beside))
        except (OSError, ValueError) as e:
            raise UserError(
                f"{self._path} exists, and {self._beside} does not say that this command made it. "
                "Name another file by --out, or delete it."
            ) from e
        changed = [k for k in made_with if before.get(k) != made_with[k]]
        if changed:
            lines = "; ".join(f"{k} {before.get(k)!r} there, {made_with[k]!r} now" for k in changed)
            raise UserError(
                f"{self._path} was made with something else: {lines}. Name another file by --out, "
                "or delete it."
            )

    def _read(self):
        """Recordings of the whole lines; half of one, left by a killed command, is taken away."""
        if not os.path.exists(self._path):
            return []
        with open(self._path, "rb") as f:
            data = f.read()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            os.truncate(self._path, len(whole))
        lines = whole.decode("utf-8", "surrogateescape").split("\n")[:-1]
        head = self._writer.head()
        if lines and head is not None and lines[0] != head:
            raise UserError(
                f"{self._path} begins with other columns: {lines[0][:80]!r}. Delete it."
            )
        return [self._key_of(i, x) for i, x in enumerate(lines, 1) if i > 1 or head is None]

    def _key_of(self, number, line):
        try:
            return self._writer.key(line)
        except (ValueError, KeyError, TypeError, StopIteration) as e:
            raise UserError(
                f"{self._path} has a line {number} that is no prediction ({line[:60]!r}). Delete "
                "that line, or the file."
            ) from e
