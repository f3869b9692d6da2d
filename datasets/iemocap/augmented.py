"""Back-translated text and synthesised speech, matched to utterances."""

import collections.abc
import csv
import dataclasses
import io
import pathlib

from .errors import ReleaseError, listing

HEADER = ["utterance", "text"]


@dataclasses.dataclass(frozen=True)
class Augmented:
    """Other words and other voices for some utterances.

    Attributes:
      texts: text by utterance id.
      wavs: paths by utterance id, in order of file name.
    """

    texts: dict[str, str] = dataclasses.field(default_factory=dict)
    wavs: dict[str, list[pathlib.Path]] = dataclasses.field(default_factory=dict)


def match_id(stem: str, ids: collections.abc.Set[str]) -> str | None:
    """Returns the longest of `ids` that a file's name ends in, None if there is none."""
    return next((stem[i:] for i in range(len(stem)) if stem[i:] in ids), None)


def _read_csv(path: pathlib.Path, ids: collections.abc.Set[str]) -> tuple[dict, list[str]]:
    text = path.read_bytes().decode("utf-8-sig", errors="replace")
    rows = csv.reader(io.StringIO(text, newline=""))
    header = next(rows, [])
    if header != HEADER:
        found = ",".join(header) or "nothing"
        return {}, [f"{path.name}:1: the header is {found}, expected {','.join(HEADER)}"]
    texts, problems = {}, []
    for row in filter(None, rows):
        place = f"{path.name}:{rows.line_num}"
        if len(row) != len(HEADER):
            problems.append(f"{place}: {len(row)} fields, expected 2: quote a text that has commas")
        elif row[0] not in ids:
            problems.append(f"{place}: {row[0]!r} is no labelled utterance of the release")
        elif row[0] in texts:
            problems.append(f"{place}: {row[0]} again")
        else:
            texts[row[0]] = row[1].strip()
    return texts, problems


def _match_wavs(folder: pathlib.Path, ids: collections.abc.Set[str]) -> tuple[dict, list[str]]:
    wavs, problems = {}, []
    for path in sorted(_visible(folder, "**/*.wav"), key=lambda path: (path.name, path)):
        utterance = match_id(path.stem, ids)
        if utterance is None:
            name = path.relative_to(folder)
            problems.append(f"{name}: the name ends in no labelled utterance's id")
        else:
            wavs.setdefault(utterance, []).append(path)
    return wavs, problems


def _visible(folder: pathlib.Path, pattern: str) -> list[pathlib.Path]:
    return [
        path
        for path in folder.glob(pattern)
        if path.is_file() and not any(p.startswith(".") for p in path.relative_to(folder).parts)
    ]


def read_augmented(folder: pathlib.Path, ids: collections.abc.Set[str]) -> Augmented:
    """Reads `folder`: one CSV `utterance,text` and, anywhere below, wavs `<anything><id>.wav`.

    The folder, the CSV, the wavs and any utterance of either may be missing.

    Args:
      folder: where the augmented data are.
      ids: every labelled utterance of the release.

    Raises:
      ReleaseError: names every row and wav that belongs to no utterance, and what else is wrong.
    """
    tables = sorted(_visible(folder, "*.csv"))
    texts, problems = _read_csv(tables[0], ids) if tables else ({}, [])
    problems += [f"{path.name}: a second CSV, expected one" for path in tables[1:]]
    wavs, unmatched = _match_wavs(folder, ids)
    problems += unmatched
    if problems:
        raise ReleaseError(
            f"{len(problems)} things in {folder} cannot be used:\n{listing(problems)}\n"
            "Mend or remove them; all of augmented/ may be missing."
        )
    return Augmented(texts, wavs)
