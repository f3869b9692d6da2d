"""RAVDESS' speech: 24 actors, eight emotions, two sentences.

Names, sentences and counts as its page has them, https://zenodo.org/records/1188976 (Livingstone
and Russo, PLoS ONE 13(5), 2018); the folds are EmoBox's (Ma et al., Interspeech 2024).
"""

import pathlib
import re

from ..rows import Reader, Row, parse_names

LABELS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
STATEMENTS = ("Kids are talking by the door.", "Dogs are sitting by the door.")
# Modality 03 (audio alone), channel 01 (speech); emotion, intensity, statement, repetition, actor.
_NAME = re.compile(r"Actor_\d\d/03-01-0([1-8])-0[12]-0([12])-0[12]-(0[1-9]|1\d|2[0-4])")
# Test actors of each of EmoBox's six folds.
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
    example = "Actor_12/03-01-06-01-02-01-12.wav (03-01: speech, audio alone)"
    return [
        Row(
            utterance=path.stem,
            audio=path,
            label=LABELS[int(match[1]) - 1],
            place=place,
            transcript=STATEMENTS[int(match[2]) - 1],
            speaker=match[3],
            language="en",
            fold=_FOLD_OF[int(match[3])],
        )
        for path, place, match in parse_names(manual_dir, "Actor_*/*.wav", _NAME, example, _LAYOUT)
    ]


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
