"""What a reader hands over: one row per utterance, and how its mistakes are told."""

import collections
import dataclasses
import pathlib
from collections.abc import Callable, Iterable

SHOWN = 20  # lines of a message
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
      counts: published number of utterances of each label; empty: nothing to compare with.
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


def check(rows: list[Row], reader: Reader) -> dict[str, int]:
    """Compares a corpus with what every corpus must have, and with its published counts.

    A tree of less than half the published utterances is taken for a part of the corpus, whose
    counts say nothing.

    Returns:
      The number of utterances of each label, in order.

    Raises:
      CorpusError: names every row or count that is wrong.
    """
    problems = [f"{row.place}: no label" for row in rows if not row.label]
    places = collections.defaultdict(list)
    for row in rows:
        places[row.utterance].append(row.place)
    problems += [
        f"{' and '.join(same)}: the same utterance {name!r}"
        for name, same in places.items()
        if len(same) > 1
    ]
    if reader.labels:
        known = f"expected {', '.join(reader.labels)}"
        problems += [
            f"{row.place}: label {row.label!r}; {known}"
            for row in rows
            if row.label and row.label not in reader.labels
        ]
    refuse(problems, "Nothing was written.")
    found = collections.Counter(row.label for row in rows)
    labels = reader.labels or sorted(found)
    if len(found) < 2:
        raise CorpusError(
            f"{len(rows)} utterances with {len(found)} label(s), {', '.join(found) or 'none'}; "
            "expected at least two different ones. Nothing was written."
        )
    if reader.counts and len(rows) >= sum(reader.counts.values()) / 2:
        refuse(
            [
                f"{label}: {found[label]} utterances, published: {count}"
                for label, count in reader.counts.items()
                if found[label] != count
            ],
            "Fetch or unpack the corpus again; a changed release needs its counts in its reader.",
        )
    return {label: found[label] for label in labels if found[label]}
