"""RAVDESS' speech: 24 actors, eight emotions, two sentences."""

import pathlib
import re

from ..rows import CorpusError, Reader, Row, refuse

LABELS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
STATEMENTS = ("Kids are talking by the door.", "Dogs are sitting by the door.")
# Modality 03 (audio alone), channel 01 (speech); emotion, intensity, statement, repetition, actor.
_NAME = re.compile(r"03-01-0([1-8])-0[12]-0([12])-0[12]-(0[1-9]|1\d|2[0-4])")
# Test actors of each of EmoBox's six folds (Ma et al., "EmoBox", Interspeech 2024).
_FOLDS = (
    (1, 11, 20, 21), (4, 10, 12, 14), (8, 9, 19, 23), (3, 5, 7, 24), (2, 15, 16, 18),
    (6, 13, 17, 22),
)  # fmt: skip
_FOLD_OF = {actor: str(k) for k, actors in enumerate(_FOLDS, 1) for actor in actors}
_LAYOUT = """\
MANUAL_DIR/Actor_01 ... Actor_24, as Audio_Speech_Actors_01-24.zip holds them
(https://zenodo.org/records/1188976)."""


def read(manual_dir: pathlib.Path) -> list[Row]:
    """The recordings of speech, by actor; those of song or video among them are refused."""
    paths = sorted(manual_dir.glob("Actor_*/*.wav"))
    if not paths:
        raise CorpusError(f"No Actor_*/*.wav in {manual_dir}. Expected:\n{_LAYOUT}")
    rows, problems = [], []
    for path in paths:
        place = f"{path.parent.name}/{path.name}"
        match = _NAME.fullmatch(path.stem)
        if match is None:
            problems.append(f"{place}: expected a name such as 03-01-06-01-02-01-12.wav (speech)")
            continue
        emotion, statement, actor = match.groups()
        rows.append(
            Row(
                utterance=path.stem,
                audio=path,
                label=LABELS[int(emotion) - 1],
                place=place,
                transcript=STATEMENTS[int(statement) - 1],
                speaker=actor,
                language="en",
                fold=_FOLD_OF[int(actor)],
            )
        )
    refuse(problems, "Move them away: their names do not say what is in them.")
    return rows


READERS = {
    "ravdess": Reader(
        title="RAVDESS, speech: 1440 recordings of 24 actors, eight emotions; EmoBox's six folds.",
        homepage="https://zenodo.org/records/1188976",
        labels=LABELS,
        layout=_LAYOUT,
        read=read,
        counts={label: 96 if label == "neutral" else 192 for label in LABELS},
    )
}
