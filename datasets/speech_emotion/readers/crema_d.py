"""CREMA-D: 91 actors, six emotions, twelve sentences; the emotion intended, or perceived.

Names, sentences and columns as in https://github.com/CheyneyComputerScience/CREMA-D (README); Cao
et al., "CREMA-D: Crowd-sourced Emotional Multimodal Actors Dataset", IEEE Transactions on
Affective Computing 5(4), 2014. `crema_d` has the emotion of the file's name, `crema_d_voted` the
one that most raters of the voice alone chose; no published counts of the votes were found, so only
the names are compared.
"""

import collections
import csv
import functools
import pathlib
import re

from absl import logging

from ..rows import CorpusError, Reader, Row, check_counts, parse_names, refuse

EMOTIONS = {
    "ANG": "anger",
    "DIS": "disgust",
    "FEA": "fear",
    "HAP": "happy",
    "NEU": "neutral",
    "SAD": "sad",
}
SENTENCES = {
    "IEO": "It's eleven o'clock.",
    "TIE": "That is exactly what happened.",
    "IOM": "I'm on my way to the meeting.",
    "IWW": "I wonder what this is about.",
    "TAI": "The airplane is almost full.",
    "MTI": "Maybe tomorrow it will be cold.",
    "IWL": "I would like a new alarm clock.",
    "ITH": "I think I have a doctor's appointment.",
    "DFA": "Don't forget a jacket.",
    "ITS": "I think I've seen this before.",
    "TSI": "The surface is slick.",
    "WSI": "We'll stop in a couple of minutes.",
}
COUNTS = {label: 1087 if label == "neutral" else 1271 for label in EMOTIONS.values()}
SILENT = "1076_MTI_SAD_XX"  # Silent; loaders of the corpus leave it out.
VOTES = "processedResults/summaryTable.csv"

# Actor, sentence, emotion, level; older copies have a 1040_ITH_SAD_X (the repository's issue 6).
_NAME = re.compile(
    rf"AudioWAV/((\d{{4}})_({'|'.join(SENTENCES)})_({'|'.join(EMOTIONS)})_(?:LO|MD|HI|X))X?"
)
_LAYOUT = f"""\
MANUAL_DIR/AudioWAV/1001_DFA_ANG_XX.wav ... of a clone with Git LFS, in which the zip download
has pointers only (https://github.com/CheyneyComputerScience/CREMA-D);
crema_d_voted: MANUAL_DIR/{VOTES} as well."""


def read(manual_dir: pathlib.Path, voted: bool) -> list[Row]:
    """The recordings, by actor, with the emotion of their name or the one voted for."""
    found = parse_names(
        manual_dir, "AudioWAV/*.wav", _NAME, "AudioWAV/1001_DFA_ANG_XX.wav", _LAYOUT
    )
    intended = collections.Counter(EMOTIONS[match[4]] for _, _, match in found)
    check_counts(intended, COUNTS)
    votes = _votes(manual_dir) if voted else None
    rows, problems, ties = [], [], 0
    for path, place, match in found:
        name = match[1] if match[1][-2:] in ("LO", "MD", "HI") else match[1] + "X"
        label = EMOTIONS[match[4]]
        if name == SILENT:
            logging.warning("%s is left out: it is without sound.", place)
            continue
        if voted:
            vote = votes.get(name, "")
            if ":" in vote:
                ties += 1
                continue
            label = _LETTERS.get(vote)
            if label is None:
                problems.append(f"{place}: vote {vote!r} in {VOTES}; expected A, D, F, H, N or S")
                continue
        rows.append(
            Row(
                utterance=name,
                audio=path,
                label=label,
                place=place,
                transcript=SENTENCES[match[3]],
                speaker=match[2],
                language="en",
            )
        )
    refuse(problems, "Fetch the table again, as the repository has it. Nothing was written.")
    if voted:
        logging.info("%d of %d utterances are left out: their vote is a tie.", ties, len(found))
    return rows


_LETTERS = {label[0].upper(): label for label in EMOTIONS.values()}


def _votes(manual_dir) -> dict[str, str]:
    """Letter of the winning emotion, or letters with ":" between them, by recording."""
    path = manual_dir / VOTES
    if not path.is_file():
        raise CorpusError(f"No {VOTES} in {manual_dir}. Expected:\n{_LAYOUT}")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = [{str(k).lower(): v for k, v in line.items()} for line in csv.DictReader(file)]
    except (UnicodeError, csv.Error) as error:
        raise CorpusError(f"{path} is damaged ({error}): fetch it again.") from error
    columns = list(table[0]) if table else []
    if not {"filename", "voicevote"} <= set(columns):
        raise CorpusError(
            f"{path} has the columns {', '.join(columns) or 'none'}; expected FileName and "
            "VoiceVote: fetch it again, as the repository has it."
        )
    return {line["filename"]: (line["voicevote"] or "").strip() for line in table}


def _reader(title, voted):
    return Reader(
        title=title,
        homepage="https://github.com/CheyneyComputerScience/CREMA-D",
        labels=tuple(EMOTIONS.values()),
        layout=_LAYOUT,
        read=functools.partial(read, voted=voted),
    )


READERS = {
    "crema_d": _reader(
        "CREMA-D: 7442 utterances of 91 actors, six emotions, as intended.", voted=False
    ),
    "crema_d_voted": _reader(
        "CREMA-D: the emotion that most raters perceived in the voice; ties left out.", voted=True
    ),
}
