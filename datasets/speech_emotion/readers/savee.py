"""SAVEE: four men, seven emotions, 120 utterances each.

Names and counts as in the corpus' Info.txt and its site, http://kahlan.eps.surrey.ac.uk/savee/
(Haq and Jackson 2009): 15 sentences an emotion, 30 neutral ones. Its sentences are TIMIT's; no
list of which number is which sentence was found, so there are no transcripts.
"""

import pathlib
import re

from ..rows import Reader, Row, parse_names

EMOTIONS = {
    "a": "anger",
    "d": "disgust",
    "f": "fear",
    "h": "happiness",
    "n": "neutral",
    "sa": "sadness",
    "su": "surprise",
}
_NAME = re.compile(rf"AudioData/(DC|JE|JK|KL)/({'|'.join(EMOTIONS)})(\d\d)")
_LAYOUT = """\
MANUAL_DIR/AudioData/DC/a01.wav ..., also JE, JK and KL, as AudioData.zip holds them; its download
needs a registration (http://kahlan.eps.surrey.ac.uk/savee/)."""


def read(manual_dir: pathlib.Path) -> list[Row]:
    """The recordings, by speaker."""
    found = parse_names(manual_dir, "AudioData/*/*.wav", _NAME, "AudioData/DC/a01.wav", _LAYOUT)
    return [
        Row(
            utterance=f"{match[1]}_{path.stem}",
            audio=path,
            label=EMOTIONS[match[2]],
            place=place,
            speaker=match[1],
            language="en",
        )
        for path, place, match in found
    ]


READERS = {
    "savee": Reader(
        title="SAVEE: 480 utterances of four men, seven emotions; without transcripts.",
        homepage="http://kahlan.eps.surrey.ac.uk/savee/",
        labels=tuple(EMOTIONS.values()),
        layout=_LAYOUT,
        read=read,
        counts={label: 120 if label == "neutral" else 60 for label in EMOTIONS.values()},
    )
}
