"""Files, folders and tables in; predictions out, as a table, a CSV or JSON Lines."""

import collections
import csv
import dataclasses
import io
import json
import os

from absl import logging

from mmer_jax import files, plain
from mmer_jax.data import table
from mmer_jax.errors import UserError
from mmer_jax.inference import audio_io
from mmer_jax.inference.prediction import Prediction

SUFFIXES = (
    ".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".snd",
    ".caf", ".w64", ".rf64", ".nist", ".sph",
)  # fmt: skip
_USED = ("audio", "text", "start", "end")  # columns of a table
_NO_SPEECH, _UNSURE = "no speech", "unsure"  # in a table, in place of a class


def expand(names, text: str | None = None) -> list[table.Row]:
    """The recordings of files, folders and tables, in order.

    A folder stands for all audio files below it, sorted, without hidden ones, those among them
    that libsndfile can't read; a table (see `data.table`) for its rows, each of them one recording.
    A file that is named twice, by itself or by its folder, is one recording.

    Args:
      names: paths.
      text: of recordings that come without one; "" is also that of recordings that come with one.

    Returns:
      Rows of which `audio`, `text` (None: not known; "": speech alone), `start` and `end` count.

    Raises:
      UserError: nothing at a path, a folder without audio, or a table that can't be read whole.
    """
    items, seen = [], set()
    for name in names:
        if table.is_table(name) and not os.path.isdir(name):
            items += _rows(name, text)
            continue
        paths = _below(name) if os.path.isdir(name) else [name]
        paths = [path for path in dict.fromkeys(paths) if path not in seen]
        items += [table.Row(0, audio=path, text=text) for path in paths]
        seen.update(paths)
    return items


def _below(folder):
    paths = []
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        paths += [os.path.join(here, n) for n in names if _is_audio(n, names)]
    if not paths:
        raise UserError(
            f"No audio file is below {folder}; its name ends with {', '.join(SUFFIXES[:6])}, ..."
        )
    return sorted(paths)


def _is_audio(name, siblings):
    """Whether a file is to be read, or, if it can't be, to be reported."""
    if name.startswith("."):
        return False
    if name.lower().endswith(SUFFIXES):
        return True
    stem = os.path.splitext(name)[0]
    converted = any(stem + suffix in siblings for suffix in SUFFIXES)
    return name.lower().endswith(audio_io.UNREADABLE) and not converted


def _rows(path, text):
    """The rows of a table with the text that is asked for; columns that are not used are logged."""
    rows = table.read(path)
    unused = (*(c for c in rows.columns if c not in _USED), *rows.unknown)
    if unused:
        logging.warning("%s: columns that are not read: %s.", path, ", ".join(unused))
    return [
        dataclasses.replace(row, text=text if text == "" or not row.text else row.text)
        for row in rows.rows
    ]


def recording(item: table.Row) -> str | audio_io.Segment:
    """The argument for `audio_io.read`."""
    if item.start is None and item.end is None:
        return item.audio
    return audio_io.Segment(item.audio, item.start or 0.0, item.end)


class Table:
    """Lines to look at: `head`, and one for each prediction, with every class' share.

    A text that is hardly what was said is left out; the other forms have it.
    """

    def __init__(self, label_names):
        self._names = {name: max(len(name), 5) for name in label_names}
        self._width = max(map(len, ("emotion", _NO_SPEECH, _UNSURE, *label_names)))
        shares = "".join(f"{name:>{width}}  " for name, width in self._names.items())
        self.head = f"{'emotion':{self._width}}  {shares}seconds  file: text"

    def line(self, item: table.Row, prediction: Prediction) -> str:
        """A prediction's line; without a class where the prediction warns of it."""
        name, shares = prediction.label, dict(prediction.probabilities)
        is_shown = prediction.is_readable and prediction.text.strip()
        text = f": {_one_line(prediction.text)}" if is_shown else ""
        if name is None:
            name, text = _NO_SPEECH, ""
        elif prediction.warning:
            name, shares = _UNSURE, {}
        cells = (
            f"{100 * shares[n]:{width - 2}.0f} %  " if n in shares else " " * (width + 2)
            for n, width in self._names.items()
        )
        where = f" {item.start or 0:g} s" if item.start is not None or item.end is not None else ""
        seconds = f"{prediction.seconds:7.1f}"
        return f"{name:{self._width}}  {''.join(cells)}{seconds}  {item.audio}{where}{text}"


class Csv:
    """A row per recording; `head` has the columns' names."""

    def __init__(self, label_names):
        self._names = tuple(label_names)
        self._columns = (
            "file", "start", "end", "emotion", *(f"p_{n}" for n in label_names), "calibrated",
            "seconds", "text_source", "text", "speech", "held_out_ua", "warning",
        )  # fmt: skip
        self.head = _csv_line(self._columns)

    def line(self, item: table.Row, prediction: Prediction) -> str:
        """A prediction's row; a text's line breaks become spaces, so that a row is a line.

        Without speech the class and its probabilities are empty.
        """
        if "\n" in item.audio or "\r" in item.audio:
            raise UserError(f"{item.audio!r} has a line break in its name; write --format=jsonl.")
        p = prediction
        row = [item.audio, item.start, item.end, p.label]
        row += [_number(p.probabilities.get(name), 6) for name in self._names]
        row += [int(p.calibrated), _number(p.seconds, 3), p.text_source, _one_line(p.text)]
        speech = None if p.speech is None else int(p.speech)
        return _csv_line([*row, speech, _number(p.held_out.get("ua"), 4), p.warning])

    def key(self, line: str) -> tuple:
        """(file, start, end) of a line's recording."""
        row = dict(zip(self._columns, next(csv.reader([line])), strict=True))
        shares = [float(row[f"p_{name}"] or 0) for name in self._names]
        if row["emotion"] not in ("", *self._names) or not all(0 <= x <= 1 for x in shares):
            raise ValueError("no class of the model's")
        return row["file"], *(float(row[k]) if row[k] else None for k in ("start", "end"))


class JsonLines:
    """An object per recording: `file`, `start`, `end`, and all that a `Prediction` has.

    The times of its timeline count from `start`.
    """

    head = None  # every line is a prediction

    def __init__(self, label_names):
        del label_names

    def line(self, item: table.Row, prediction: Prediction) -> str:
        """A prediction's object."""
        where = {"file": item.audio, "start": item.start, "end": item.end}
        return json.dumps(where | prediction.to_dict())

    def key(self, line: str) -> tuple:
        """(file, start, end) of a line's recording."""
        row = json.loads(line)
        key = row["file"], row.get("start"), row.get("end")
        if not plain.is_kind(key[0], str) or not plain.is_kind(key[1:], list[float | None]):
            raise ValueError("no file, or no times")
        return key


WRITERS = {"table": Table, "csv": Csv, "jsonl": JsonLines}


def _number(x, digits):
    return None if x is None else f"{x:.{digits}f}"


def _one_line(text):
    return " ".join(text.split())


def _csv_line(row):
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow(row)
    return out.getvalue()


class ResumableFile:
    """A file of lines that an interrupted command goes on with.

    The options that it was made with stand beside it, in `<path>.made_with.json`: predictions of
    two models must not get into one file.

    Args:
      path: of the file.
      writer: `Csv` or `JsonLines`.
      made_with: plain values: the model and the options that change a prediction.

    Raises:
      UserError: the file was made with something else, is no such file, or can't be written, or
        another process writes it.
    """

    def __init__(self, path: str, writer, made_with: dict):
        self._path, self._writer, done = path, writer, []
        beside = f"{path}.made_with.json"
        try:
            os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
            # Surrogates: bytes of a file's name that are no UTF-8 are written as they are.
            self._file = open(path, "a", encoding="utf-8", errors="surrogateescape", newline="\n")
            files.keep_others_out(self._file, path)
            if os.path.getsize(path):
                self._check(beside, made_with)
                done = self._whole_lines()
            else:
                files.replace_file(beside, json.dumps(made_with, indent=2) + "\n")
            self._done = collections.Counter(done)
            if not os.path.getsize(path) and writer.head is not None:
                self.write(writer.head)
        except OSError as e:
            raise UserError(f"{path} can't be written: {e}. Name another file by --out.") from e

    def left(self, items) -> list[table.Row]:
        """Those of `items` that are not in the file; one named several times, as often as not."""
        done, left = self._done.copy(), []
        for item in items:
            key = item.audio, item.start, item.end
            if not done[key]:
                left.append(item)
            done[key] -= done[key] > 0
        return left

    def write(self, line: str) -> None:
        """Adds a line, at once."""
        self._file.write(line + "\n")
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _check(self, beside, made_with):
        try:
            before = plain.parse(files.read_text(beside))
            if not isinstance(before, dict):
                raise ValueError("no options")
        except (OSError, ValueError) as e:
            raise UserError(
                f"{self._path} exists, and {beside} does not say that this command made it. Name "
                "another file by --out, or delete it."
            ) from e
        changed = [k for k in made_with if before.get(k) != made_with[k]]
        if changed:
            lines = "; ".join(f"{k} {before.get(k)!r} there, {made_with[k]!r} now" for k in changed)
            raise UserError(
                f"{self._path} was made with something else: {lines}. Name another file by --out, "
                "or delete it."
            )

    def _whole_lines(self):
        """Recordings of the whole lines; half of one, left by a killed command, is cut off."""
        with open(self._path, "rb") as f:
            data = f.read()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            os.truncate(self._path, len(whole))
        recordings, head = [], self._writer.head
        for number, line in enumerate(whole.decode("utf-8", "surrogateescape").split("\n")[:-1], 1):
            if number == 1 and line == head:
                continue
            try:
                recordings.append(self._writer.key(line))
            except (ValueError, KeyError, TypeError, StopIteration, AttributeError, csv.Error,
                    RecursionError) as e:  # fmt: skip
                raise UserError(
                    f"{self._path} has a line {number} that is no prediction ({line[:60]!r}). "
                    "Delete that line, or the file."
                ) from e
        return recordings
