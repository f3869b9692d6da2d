"""Label and transcript files of IEMOCAP parsed into utterances."""

import dataclasses
import pathlib
import re

from .files import Archive, Folder, ReleaseError, listing

LABELS = ("ang", "dis", "exc", "fea", "fru", "hap", "neu", "oth", "sad", "sur", "xxx")

# Dialogs have odd names (`Ses03M_impro05a`, `Ses05M_script01_1b`): only the session and, from the
# right, the speaker and the turn are at fixed places. No id holds "XX", unlabelled turns' ids do.
_DIALOG = r"Ses0[1-5][FM]_(?:impro|script)\w*"
_ID = rf"{_DIALOG}_[FM]\d{{3}}"
_NUMBER = r"-?\d+(?:\.\d*)?"
_SUMMARY = re.compile(
    rf"\[({_NUMBER}) - ({_NUMBER})\]\t({_ID})\t(\w+)\t\[({_NUMBER}), ({_NUMBER}), ({_NUMBER})\]\s*",
    re.ASCII,
)
_UTTERANCE = re.compile(_ID, re.ASCII)
_LATEST = 1e5  # seconds


@dataclasses.dataclass(frozen=True)
class Utterance:
    """One labelled turn.

    Attributes:
      id: its name in the release, such as `Ses05M_script01_1b_F001`.
      label: one of `LABELS`; `xxx` where the raters had no majority.
      start, end: its place in the dialog, in seconds.
      valence, activation, dominance: the raters' means, 1 to 5.
      transcript: what is said, "" where nothing is.
    """

    id: str
    label: str
    start: float
    end: float
    valence: float
    activation: float
    dominance: float
    transcript: str = ""

    @property
    def session(self) -> int:
        """From 1 to 5."""
        return int(self.id[4])

    @property
    def gender(self) -> str:
        """Who speaks; the first F or M of an id is who wears the motion-capture markers."""
        return self.id[-4]

    @property
    def speaker(self) -> str:
        """Such as `Ses05F`: ten in all."""
        return self.id[:5] + self.gender

    @property
    def dialog(self) -> str:
        """Such as `Ses05M_script01_1b`."""
        return self.id[:-5]

    @property
    def style(self) -> str:
        """`improvised` or `scripted`."""
        return "improvised" if "_impro" in self.id else "scripted"

    @property
    def wav(self) -> str:
        """Path in the release."""
        return f"Session{self.session}/sentences/wav/{self.dialog}/{self.id}.wav"


def _lines(data: bytes) -> list[str]:
    # Not str.splitlines: it also splits at form feeds and other stray characters.
    return re.split(r"\r\n|\r|\n", data.decode("utf-8-sig", errors="replace"))


def parse_labels(data: bytes, name: str) -> tuple[list[tuple[str, Utterance]], list[str]]:
    """Parses one label file, `[6.29 - 8.23]<TAB>id<TAB>neu<TAB>[2.5, 2.5, 2.5]` and rater lines.

    Args:
      data: the file's content.
      name: what places in it are called by.

    Returns:
      (place "name:line", utterance without transcript) in file order, and the problems found.
    """
    found, problems = [], []
    for number, line in enumerate(_lines(data), 1):
        if not line.startswith("["):
            continue
        place = f"{name}:{number}"
        match = _SUMMARY.fullmatch(line)
        if match is None:
            problems.append(
                f"{place}: expected [start - end]TAB id TAB label TAB [v, a, d]: {line:.200}"
            )
        elif match[4] not in LABELS:
            problems.append(f"{place}: {match[3]} has the unknown label {match[4]!r}")
        else:
            start, end, valence, activation, dominance = map(float, match.group(1, 2, 5, 6, 7))
            ratings = valence, activation, dominance
            if not 0 <= start < end <= _LATEST or not all(0 <= x <= 10 for x in ratings):
                problems.append(f"{place}: times or ratings that can't be: {line:.200}")
                continue
            utterance = (match[3], match[4], start, end, valence, activation, dominance)
            found.append((place, Utterance(*utterance)))
    return found, problems


def parse_transcripts(data: bytes) -> list[tuple[str, str]]:
    """Parses one transcript file, a turn a line, `id [006.2901-008.2357]: text`.

    Returns:
      (id, text) in file order; an id may repeat. Turns without an utterance id (`..._MXX0`, bare
      `M:` and `F:`) are not labelled and are left out.
    """
    turns = []
    for line in _lines(data):
        head, mark, text = line.partition("]:")  # Never ":" alone: the text can hold one.
        utterance = head.split("[")[0].strip()
        if mark and _UTTERANCE.fullmatch(utterance):
            turns.append((utterance, text.strip()))
    return turns


def _read_labels(files: Folder | Archive) -> list[Utterance]:
    places, problems, utterances = {}, [], []
    for path in label_files(files):
        found, bad = parse_labels(files.read(path), path)
        problems += bad
        for place, utterance in found:
            if utterance.id in places:
                problems.append(f"{place}: {utterance.id} again, first {places[utterance.id]}")
            places.setdefault(utterance.id, place)
            utterances.append(utterance)
    if problems:
        raise ReleaseError(
            f"{len(problems)} lines of {files}'s label files cannot be used:\n{listing(problems)}\n"
            f"Labels are {', '.join(LABELS)}, an id occurs once. Unpack the release again, or "
            "mend the lines."
        )
    if not utterances:
        raise ReleaseError(
            f"{files} has label files without one labelled utterance: expected lines like "
            "[start - end]TAB id TAB label TAB [v, a, d]. Unpack the release again."
        )
    return sorted(utterances, key=lambda utterance: utterance.id)


def _read_transcripts(files: Folder | Archive) -> dict[str, str]:
    """Returns text by id. Lines of one id in one file belong together; a second file is a copy."""
    texts, places, problems = {}, {}, []
    for path in files.paths:
        if "/transcriptions/" not in path:
            continue
        for utterance, text in parse_transcripts(files.read(path)):
            first = places.setdefault(utterance, path)
            if "\0" in text:
                problems.append(f"{path}: {utterance} has a NUL byte, which no text has")
            elif first == path:
                texts[utterance] = f"{texts.get(utterance, '')} {text}".strip()
            else:
                problems.append(f"{path}: {utterance} again, first {first}")
    if problems:
        raise ReleaseError(
            f"{len(problems)} lines of {files}'s transcripts are damaged or in a second file:\n"
            f"{listing(problems)}\nA dialog has one transcript. Move the other one away, or unpack "
            "the release again."
        )
    return texts


def _check_names(files: Folder | Archive) -> None:
    """Refuses label files and transcripts not named as a dialog, such as a file manager's copy."""
    texts = (pathlib.PurePosixPath(path) for path in files.paths if path.endswith(".txt"))
    odd = [str(path) for path in texts if not re.fullmatch(_DIALOG, path.stem, re.ASCII)]
    if odd:
        raise ReleaseError(
            f"{len(odd)} label files or transcripts of {files} are named as no dialog is:\n"
            f"{listing(odd)}\nExpected names like Ses01F_impro01.txt. Move copies away, and give "
            "others their name."
        )


def label_files(files: Folder | Archive) -> list[str]:
    """Returns the paths of the label files, one per dialog."""
    return [path for path in files.paths if "/EmoEvaluation/" in path]


def read_release(files: Folder | Archive) -> list[Utterance]:
    """Reads every labelled utterance, in order of id.

    Raises:
      ReleaseError: a file's name is no dialog's, a line cannot be parsed, an id repeats, a label is
        unknown, or a labelled utterance has no wav or no transcript; names every case.
    """
    _check_names(files)
    labelled, texts, wavs = _read_labels(files), _read_transcripts(files), set(files.paths)
    missing = []
    for utterance in labelled:
        if utterance.wav not in wavs:
            missing.append(f"{utterance.id}: no {utterance.wav}")
        if utterance.id not in texts:
            folder = pathlib.PurePosixPath(utterance.wav).parts[0]
            missing.append(f"{utterance.id}: no line in {folder}/dialog/transcriptions/")
    if missing:
        raise ReleaseError(
            f"Labelled utterances of {files} lack their wav or their transcript, "
            f"{len(missing)} in all:\n{listing(missing)}\n"
            "Every label needs both. Unpack the release again: its sessions must be whole."
        )
    return [dataclasses.replace(found, transcript=texts[found.id]) for found in labelled]
