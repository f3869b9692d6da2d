"""TESS: two women, one young and one older, seven emotions, 200 words in one phrase.

Pichora-Fuller and Dupuis, "Toronto emotional speech set (TESS)", 2020,
https://doi.org/10.5683/SP2/E8H2MF. 2800 recordings: both say each word in each emotion. Folders
are named unevenly (OAF_Fear, YAF_fear, OAF_Pleasant_surprise, YAF_pleasant_surprised) and one file
lacks a letter (OA_bite_neutral.wav), so only the rest of a file's name counts.
"""

import pathlib
import re

from ..rows import Reader, Row, parse_names

EMOTIONS = {
    "angry": "angry",
    "disgust": "disgust",
    "fear": "fear",
    "happy": "happy",
    "neutral": "neutral",
    "ps": "surprise",  # Pleasant surprise.
    "sad": "sad",
}
_NAME = re.compile(
    rf"(?:.*/)?(OAF|YAF|OA)_([a-z'-]+)_({'|'.join(EMOTIONS)})", re.IGNORECASE | re.ASCII
)
_LAYOUT = """\
MANUAL_DIR/OAF_angry/OAF_back_angry.wav ..., or all in one folder, each file once
(https://doi.org/10.5683/SP2/E8H2MF)."""


def read(manual_dir: pathlib.Path) -> list[Row]:
    """The recordings; OAF is the older speaker, YAF the younger one."""
    rows = []
    for path, place, match in parse_names(
        manual_dir, "**/*.wav", _NAME, "OAF_angry/OAF_back_angry.wav", _LAYOUT
    ):
        speaker, word, emotion = match[1].upper(), match[2].lower(), match[3].lower()
        speaker = "OAF" if speaker == "OA" else speaker
        rows.append(
            Row(
                utterance=f"{speaker}_{word}_{emotion}",
                audio=path,
                label=EMOTIONS[emotion],
                place=place,
                transcript=f"Say the word {word}.",
                speaker=speaker,
                language="en",
            )
        )
    return rows


READERS = {
    "tess": Reader(
        title="TESS: 2800 utterances of two women, seven emotions, 200 words.",
        homepage="https://doi.org/10.5683/SP2/E8H2MF",
        labels=tuple(EMOTIONS.values()),
        layout=_LAYOUT,
        read=read,
        counts=dict.fromkeys(EMOTIONS.values(), 400),
    )
}
