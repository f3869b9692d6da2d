"""Other words and other voices from MANUAL_DIR/augmented/, for any of the corpora."""

import csv
import dataclasses
import io
import pathlib

from .rows import AUGMENTED, CorpusError, Row, is_file, refuse, swallowed

TABLE = "augmented.csv"
COLUMNS = ("utterance", "text", "audio", "voice")
_UNFINISHED = "unfinished.*"  # of a command that is still to go on


def add(rows: list[Row], manual_dir: pathlib.Path) -> list[Row]:
    """The rows with the views of MANUAL_DIR/augmented/augmented.csv, if it is there.

    Its columns are those of `COLUMNS`: an utterance has a line for each of its recordings, all with
    one text; `audio` is a path from the table, `voice` a speaker of the corpus or any other name.

    Raises:
      CorpusError: names every line that can't be used.
    """
    folder = manual_dir / AUGMENTED
    if unfinished := sorted(folder.glob(_UNFINISHED)):
        raise CorpusError(
            f"{unfinished[0]} says that the views beside it are not whole: run the command that "
            "makes them to its end, or move the folder away. Nothing was written."
        )
    path = folder / TABLE
    if not path.is_file():
        return rows
    named = {row.utterance for row in rows}
    own = {row.utterance for row in rows if row.augmented_transcript or row.augmented_audio}
    views, problems = {}, []
    for place, line in _lines(path):
        utterance, audio = line["utterance"], line["audio"] and folder / line["audio"]
        text, recordings, voices = views.setdefault(utterance, (line["text"], [], []))
        if other := swallowed(line.values(), named.__contains__):
            problems.append(f"{place}: holds the row of {other}; a quote is not closed")
        elif utterance not in named:
            problems.append(f"{place}: no utterance {utterance!r} in the corpus")
        elif utterance in own:
            problems.append(f"{place}: {utterance} has a view in the corpus's own table as well")
        elif text != line["text"]:
            problems.append(f"{place}: another text of {utterance}, expected one")
        elif audio and not is_file(audio):
            problems.append(f"{place}: no recording {audio}")
        elif audio:
            recordings.append(audio)
            voices.append(line["voice"])
    refuse(problems, f"Nothing was written. Mend {path}, or move it away.")
    none = "", (), ()
    fields = ("augmented_transcript", "augmented_audio", "augmented_voice")
    return [
        dataclasses.replace(row, **dict(zip(fields, (text, tuple(recordings), tuple(voices)))))
        if (text, recordings, voices) != none
        else row
        for row in rows
        for text, recordings, voices in [views.get(row.utterance, none)]
    ]


def _lines(path):
    """(place, column -> cell) of each line."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
        if "\0" in text:
            raise CorpusError(f"{path} holds a NUL character: it is damaged. Copy it again.")
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        names, lines = reader.fieldnames or [], []
        if sorted(names) != sorted(COLUMNS):
            raise CorpusError(
                f"{path} has the columns {', '.join(names)}; expected {', '.join(COLUMNS)}."
            )
        for line in reader:
            place = f"{path.name}, line {reader.line_num}"
            if None in line or None in line.values():  # cells too many, or too few
                cells = sum(v is not None for k, v in line.items() if k) + len(line.get(None, ()))
                raise CorpusError(
                    f"{place}: {cells} columns; expected {', '.join(COLUMNS)}, and quotes around a "
                    "text with commas. The file may be cut short: copy it again."
                )
            lines.append((place, line))
        return lines
    except (UnicodeDecodeError, csv.Error) as error:
        raise CorpusError(f"{path} can't be read as a CSV in UTF-8: {error}.") from error
