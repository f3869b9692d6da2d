"""A corpus as rows, one per utterance, and what every corpus is checked for."""

import collections
import dataclasses
import pathlib
import re
from collections.abc import Callable, Iterable, Mapping

from absl import logging

SHOWN = 20  # lines of a message
LEFT_OUT = "left_out.txt"
AUGMENTED = "augmented"  # folder beside any corpus, see `augmented.py`
SPLITS = ("train", "validation", "test")


class CorpusError(ValueError):
    """A corpus that cannot be used as it is: what was found, what was expected, what to do."""


@dataclasses.dataclass(frozen=True)
class Row:
    """An utterance. A fact that the corpus does not give is "".

    Attributes:
      utterance: its id, unique in the corpus.
      audio: the recording, of any format and rate that soundfile reads.
      label: the emotion.
      place: where it comes from, for messages: a file, or a line of a table.
      split: `train`, `validation` or `test`: the corpus' own division.
      fold: the corpus' own fold that tests on it.
      start, end: seconds within a longer recording; None: its own start or end.
      augmented_voice: of each augmented recording: a speaker of the corpus, another name, "".
    """

    utterance: str
    audio: pathlib.Path
    label: str
    place: str
    transcript: str = ""
    speaker: str = ""
    session: str = ""
    dialog: str = ""
    language: str = ""
    split: str = ""
    fold: str = ""
    start: float | None = None
    end: float | None = None
    augmented_transcript: str = ""
    augmented_audio: tuple[pathlib.Path, ...] = ()
    augmented_voice: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Reader:
    """A corpus as its own site hands it out.

    Attributes:
      title: its name and what it holds, for the dataset's description.
      homepage: where to get it.
      labels: in the order in which tables print them; (): those of the rows, sorted.
      layout: what goes where below MANUAL_DIR, for messages and the README.
      read: MANUAL_DIR -> its utterances; raises CorpusError.
      counts: published number of utterances of each label; {}: the reader compares its own.
    """

    title: str
    homepage: str
    labels: tuple[str, ...]
    layout: str
    read: Callable[[pathlib.Path], list[Row]]
    counts: dict[str, int] = dataclasses.field(default_factory=dict)


def listing(lines: Iterable[str]) -> str:
    """Joins lines, indented, cut to the first 20 and a count of the rest."""
    lines = list(lines)
    rest = [f"... and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return "\n".join(f"  {line}" for line in lines[:SHOWN] + rest)


def refuse(problems: list[str], remedy: str) -> None:
    """Raises CorpusError with all problems, where there are some."""
    if problems:
        count = "1 thing" if len(problems) == 1 else f"{len(problems)} things"
        raise CorpusError(f"{count} cannot be used:\n{listing(problems)}\n{remedy}")


def is_file(path: pathlib.Path) -> bool:
    """Whether there is such a file; none has a name that is too long or holds NUL."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def swallowed(cells: Iterable, is_row: Callable[[str], bool]) -> str | None:
    """What a cell's second or later line has of another row: a quote is missing, or stands wrong.

    A quote that another row's quote closes is no mistake in CSV.
    """
    lines = (line for cell in cells for line in str(cell).splitlines()[1:])
    parts = (part.strip(' "') for line in lines for part in re.split(r"[,\t]", line))
    return next((part for part in parts if part and is_row(part)), None)


def parse_names(
    manual_dir: pathlib.Path, glob: str, pattern: re.Pattern, example: str, layout: str
) -> list[tuple[pathlib.Path, str, re.Match]]:
    """Finds the recordings of a corpus whose file names say what is in them.

    Args:
      manual_dir: the folder that all paths are relative to.
      glob: which files are recordings; hidden ones (macOS's `._*`) and augmented views are none.
      pattern: matches the whole path of each, relative, with "/", without its suffix.
      example: a path that matches, for the message.
      layout: as in `Reader`.

    Returns:
      (path, place for messages, match) of each, sorted.

    Raises:
      CorpusError: there are none, or some names don't match: names them all.
    """
    views = manual_dir / AUGMENTED
    paths = sorted(p for p in manual_dir.glob(glob) if p.name[0] != "." and views not in p.parents)
    if not paths:
        names = listing(sorted(path.name for path in manual_dir.iterdir()))
        raise CorpusError(f"No {glob} in {manual_dir}, which holds\n{names}\nExpected:\n{layout}")
    places = [path.relative_to(manual_dir) for path in paths]
    matches = [pattern.fullmatch(place.with_suffix("").as_posix()) for place in places]
    refuse(
        [f"{place}: not named like {example}" for place, m in zip(places, matches) if m is None],
        f"Move them away: their names do not say what is in them. Expected:\n{layout}",
    )
    return [(path, str(place), match) for path, place, match in zip(paths, places, matches)]


def duplicates(rows: Iterable[Row]) -> list[str]:
    """Names the rows that share an utterance's id, a line for each id."""
    places = collections.defaultdict(list)
    for row in rows:
        places[row.utterance].append(row.place)
    return [
        f"{' and '.join(same)}: the same utterance {name!r}"
        for name, same in places.items()
        if len(same) > 1
    ]


def check_counts(found: Mapping[str, int], published: Mapping[str, int]) -> None:
    """Compares counts with the published ones.

    Less than half of the published utterances are taken for a part of the corpus, whose counts
    say nothing: the log says so.

    Raises:
      CorpusError: names every count that differs.
    """
    total, expected = sum(found.values()), sum(published.values())
    if 2 * total < expected:
        logging.warning(
            "%d utterances of %d published: a part, its counts were not compared.", total, expected
        )
        return
    refuse(
        [
            f"{name}: {found.get(name, 0)} utterances, published: {published.get(name, 0)}"
            for name in dict.fromkeys([*published, *found])
            if found.get(name, 0) != published.get(name, 0)
        ],
        "Fetch or unpack the corpus again. Nothing was written.",
    )


def check(rows: list[Row], reader: Reader) -> None:
    """Compares a corpus with what every corpus must have, and with its published counts.

    Raises:
      CorpusError: names every row or count that is wrong.
    """
    problems = [f"{row.place}: no label" for row in rows if not row.label] + duplicates(rows)
    if reader.labels:
        known = f"expected {', '.join(reader.labels)}"
        problems += [
            f"{row.place}: label {row.label!r}; {known}"
            for row in rows
            if row.label and row.label not in reader.labels
        ]
    refuse(problems, "Nothing was written.")
    counts = count_labels(rows, reader)
    if reader.counts:
        check_counts(counts, reader.counts)


def count_labels(rows: list[Row], reader: Reader) -> dict[str, int]:
    """Counts the utterances of each label, in the reader's order.

    Raises:
      CorpusError: there are fewer than two labels.
    """
    found = collections.Counter(row.label for row in rows)
    if len(found) < 2:
        raise CorpusError(
            f"{len(rows)} utterances with {len(found)} label(s), {', '.join(found) or 'none'}; "
            "expected at least two different ones. Nothing was written."
        )
    return {label: found[label] for label in reader.labels or sorted(found) if found[label]}


def leave_out(rows: list[Row], manual_dir: pathlib.Path) -> list[Row]:
    """Leaves out the utterances that MANUAL_DIR/left_out.txt names, one a line.

    A recording that its corpus hands out broken can be left out so: without its file, the corpus
    would not have the published counts.

    Raises:
      CorpusError: it names an utterance that there is not.
    """
    path = manual_dir / LEFT_OUT
    if not path.is_file():
        return rows
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeError as error:
        raise CorpusError(f"{path} is not in UTF-8 ({error}). Save it so.") from error
    names = {line.strip() for line in text.splitlines()} - {""}
    unknown = sorted(names - {row.utterance for row in rows})
    refuse(
        [f"{path.name}: no utterance {name!r}" for name in unknown],
        f"Utterances are named like {rows[0].utterance!r}. Nothing was written.",
    )
    logging.warning("%d utterances are left out, as %s says.", len(names), path)
    return [row for row in rows if row.utterance not in names]
