"""Back-translated text and synthesised speech, matched to utterances."""

import collections.abc
import csv
import dataclasses
import io
import pathlib
import re

from .files import ReleaseError, listing

NEEDED, OPTIONAL = ("utterance", "text"), ("audio", "voice")
RECORDINGS = (".wav", ".flac")
TABLE = ".csv"
# What comes with data and is none: notes for a reader, and what Windows leaves in a folder.
_NO_DATA = re.compile(
    r"(readme|licen[cs]e)(\.\w+)?|quality\.(json|html)|thumbs\.db|desktop\.ini", re.IGNORECASE
)
_SPEAKER = re.compile(r"Ses0[1-5][FM]", re.ASCII)
# Session5_F, 05F, ses5-f, ...: taken for another name, such a voice would be drawn in every fold.
_LIKE_SPEAKER = re.compile(
    r"ses0.*|(ses(sion)?)?[\W_]*0*[1-5][\W_]*(f(emale)?|m(ale)?)", re.ASCII | re.IGNORECASE
)


@dataclasses.dataclass(frozen=True)
class Augmented:
    """Other words and other voices for some utterances.

    Attributes:
      texts: text by utterance id.
      recordings: paths by utterance id, in order of file name.
      voices: by path, whose voice a recording has: a speaker of the corpus, such as Ses05F, or any
        other name. A path that is missing here has a voice that nobody named.
    """

    texts: dict[str, str] = dataclasses.field(default_factory=dict)
    recordings: dict[str, list[pathlib.Path]] = dataclasses.field(default_factory=dict)
    voices: dict[pathlib.Path, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class _Row:
    place: str
    utterance: str
    text: str
    audio: pathlib.Path | None
    voice: str


def is_speaker(voice: str) -> bool:
    """Whether a voice is that of a speaker of the corpus."""
    return _SPEAKER.fullmatch(voice) is not None


def match_id(stem: str, ids: collections.abc.Set[str]) -> str | None:
    """Returns the longest of `ids` that a file's name ends in, None if there is none."""
    return next((stem[i:] for i in range(len(stem)) if stem[i:] in ids), None)


def read_augmented(folder: pathlib.Path, ids: collections.abc.Set[str]) -> Augmented:
    """Reads `folder`: one CSV and recordings `<anything><id>.wav` or `.flac`, anywhere below.

    The CSV has the columns `utterance`, `text` and, where wanted, `audio` (a recording, relative to
    the CSV; its name is free) and `voice`. With `audio` an utterance has a row for each recording;
    a `voice` without `audio` is that of all recordings of the utterance that no row names.

    The folder, the CSV, the recordings and any utterance of either may be missing.

    Args:
      folder: where the augmented data are.
      ids: every labelled utterance of the release.

    Raises:
      ReleaseError: names every row and file that belongs to no utterance, and what else is wrong.
    """
    tables, recordings, problems = _sorted_out(folder)
    rows, bad = _read_csv(tables[0], folder, ids) if tables else ([], [])
    problems += [f"{_name(path, folder)}: a second CSV, expected one" for path in tables[1:]] + bad
    texts, bad = _texts(rows)
    problems += bad
    owners, bad = _owners(recordings, rows, folder, ids)
    problems += bad
    voices, bad = _voices(rows, owners)
    problems += bad
    if problems:
        raise ReleaseError(
            f"{len(problems)} things in {folder} cannot be used:\n{listing(problems)}\n"
            "Mend or remove them; all of augmented/ may be missing."
        )
    by_utterance = {}
    for path, utterance in owners.items():
        by_utterance.setdefault(utterance, []).append(path)
    return Augmented(texts, by_utterance, voices)


def _name(path: pathlib.Path, folder: pathlib.Path) -> str:
    return path.relative_to(folder).as_posix()


def _sorted_out(folder: pathlib.Path) -> tuple[list, list, list[str]]:
    """Returns tables, recordings and, as problems, all other files below a folder."""
    tables, recordings, problems = [], [], []
    for path in sorted(folder.rglob("*"), key=lambda path: (path.name, path)):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if hidden or not path.is_file() or _NO_DATA.fullmatch(path.name):
            continue
        suffix = path.suffix.lower()
        if suffix == TABLE:
            tables.append(path)
        elif suffix in RECORDINGS:
            recordings.append(path)
        else:
            expected = f"expected one {TABLE} and recordings {' or '.join(RECORDINGS)}"
            problems.append(f"{_name(path, folder)}: {expected}")
    return tables, recordings, problems


def _read_csv(path: pathlib.Path, folder: pathlib.Path, ids) -> tuple[list[_Row], list[str]]:
    name = _name(path, folder)
    try:
        text = path.read_bytes().decode("utf-8-sig")
        if "\0" in text:
            return [], [f"{name}: a NUL character, which no text has: copy it again"]
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        found = f"the byte 0x{error.object[error.start]:02x}"
        expected = "expected UTF-8: save it so, for example by iconv -f latin1 -t utf-8"
        return [], [f"{name}:{line}: {found} is no UTF-8, {expected}"]
    # Strict: an unclosed quote would otherwise take the rows below into its text.
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    lines = []
    try:
        for line in reader:
            lines.append((f"{name}:{reader.line_num}", line))
    except csv.Error as error:
        problem = f"{name}:{reader.line_num}: {error}, expected every quote to be closed"
        return [], [problem]
    header = lines[0][1] if lines else []
    known = set(header) <= {*NEEDED, *OPTIONAL} and len(set(header)) == len(header)
    if not known or not set(NEEDED) <= set(header):
        found = ",".join(header) or "nothing"
        expected = f"expected {','.join(NEEDED)} and, where wanted, {' and '.join(OPTIONAL)}"
        return [], [f"{name}:1: the header is {found}, {expected}"]
    rows, problems = [], []
    for place, line in lines[1:]:
        if not line:
            continue
        if len(line) != len(header):
            expected = f"expected {len(header)}: quote a text that has commas"
            problems.append(f"{place}: {len(line)} fields, {expected}")
            continue
        fields = {column: field.strip() for column, field in zip(header, line)}
        audio, voice = fields.get("audio", ""), fields.get("voice", "")
        if fields["utterance"] not in ids:
            problems.append(
                f"{place}: {fields['utterance']!r} is no labelled utterance of the release"
            )
        elif swallowed := _swallowed(line, ids):
            problems.append(f"{place}: holds the row of {swallowed}, expected its quote before it")
        elif _LIKE_SPEAKER.fullmatch(voice) and not is_speaker(voice):
            problems.append(
                f"{place}: the voice {voice!r} is no speaker, expected as Ses05F or another name"
            )
        else:
            at = path.parent / audio if audio else None
            rows.append(_Row(place, fields["utterance"], fields["text"], at, voice))
    return rows, problems


def _swallowed(line: list[str], ids) -> str | None:
    """Returns an utterance whose row lies in a cell of several lines: a quote stood too late."""
    several = (cell for cell in line if len(cell.splitlines()) > 1)
    parts = (part.strip(' "') for cell in several for part in re.split(r"[,\r\n]", cell))
    return next((part for part in parts if part in ids), None)


def _texts(rows: list[_Row]) -> tuple[dict[str, str], list[str]]:
    """Returns the text of each utterance; one without a recording of its own comes once."""
    texts, seen, problems = {}, set(), []
    for row in rows:
        if (row.utterance, row.audio) in seen:
            problems.append(f"{row.place}: {row.utterance} again")
        elif row.text and texts.get(row.utterance) not in (None, "", row.text):
            problems.append(f"{row.place}: another text of {row.utterance}, expected one")
        seen.add((row.utterance, row.audio))
        texts[row.utterance] = texts.get(row.utterance) or row.text
    return texts, problems


def _owners(recordings, rows: list[_Row], folder, ids) -> tuple[dict, list[str]]:
    """Returns the utterance of each recording: as a row says, else as its name ends."""
    said, owners, problems = {}, {}, []
    present = set(recordings)
    for row in rows:
        if row.audio is None:
            continue
        if row.audio not in present:
            problems.append(f"{row.place}: no recording {row.audio}")
        if said.setdefault(row.audio, row.utterance) != row.utterance:
            problems.append(f"{row.place}: {row.audio.name} is of {said[row.audio]} as well")
    for path in recordings:
        named = match_id(path.stem, ids)
        owner = said.get(path, named)
        if owner is None:
            name = _name(path, folder)
            problems.append(f"{name}: the name ends in no labelled utterance's id, no row has it")
        elif named not in (None, owner):
            name = _name(path, folder)
            problems.append(f"{name}: its row says {owner}, its name {named}")
        else:
            owners[path] = owner
    return owners, problems


def _voices(rows: list[_Row], owners: dict) -> tuple[dict, list[str]]:
    """Returns whose voice each recording has, where a row says it."""
    own = {row.audio: row.voice for row in rows if row.audio}
    general = {row.utterance: row.voice for row in rows if not row.audio}
    voices = {path: own.get(path, general.get(owner, "")) for path, owner in owners.items()}
    spoken = set(owners.values())
    problems = [
        f"{row.place}: a voice, and {row.utterance} has no recording"
        for row in rows
        if row.voice and not row.audio and row.utterance not in spoken
    ]
    return {path: voice for path, voice in voices.items() if voice}, problems
