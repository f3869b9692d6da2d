"""Berlin Database of Emotional Speech (EmoDB): ten actors, seven emotions, ten sentences, German.

Names, codes and sentences as in the corpus' documentation, http://emodb.bilderbar.info/docu/;
Burkhardt et al., "A database of German emotional speech", Interspeech 2005. The counts by
emotion are those that papers report of the 535 utterances, for its documentation gives none; a
later edition of more utterances has another layout.
"""

import pathlib
import re

from ..rows import Reader, Row, parse_names

# By the last letter but one, that of the German word.
EMOTIONS = {
    "W": "anger",
    "L": "boredom",
    "E": "disgust",
    "A": "fear",
    "F": "happiness",
    "N": "neutral",
    "T": "sadness",
}
SENTENCES = {
    "a01": "Der Lappen liegt auf dem Eisschrank.",
    "a02": "Das will sie am Mittwoch abgeben.",
    "a04": "Heute abend könnte ich es ihm sagen.",
    "a05": "Das schwarze Stück Papier befindet sich da oben neben dem Holzstück.",
    "a07": "In sieben Stunden wird es soweit sein.",
    "b01": "Was sind denn das für Tüten, die da unter dem Tisch stehen?",
    "b02": "Sie haben es gerade hochgetragen und jetzt gehen sie wieder runter.",
    "b03": "An den Wochenenden bin ich jetzt immer nach Hause gefahren und habe Agnes besucht.",
    "b09": "Ich will das eben wegbringen und dann mit Karl was trinken gehen.",
    "b10": "Die wird auf dem Platz sein, wo wir sie immer hinlegen.",
}
# Speaker, sentence, emotion, version: 03a01Fa.
_NAME = re.compile(rf"wav/(\d\d)({'|'.join(SENTENCES)})([{''.join(EMOTIONS)}])[a-z]?")
_LAYOUT = """\
MANUAL_DIR/wav/03a01Fa.wav ..., as download.zip holds them (http://emodb.bilderbar.info/)."""


def read(manual_dir: pathlib.Path) -> list[Row]:
    """The recordings, by speaker."""
    found = parse_names(manual_dir, "wav/*.wav", _NAME, "wav/03a01Fa.wav", _LAYOUT)
    return [
        Row(
            utterance=path.stem,
            audio=path,
            label=EMOTIONS[match[3]],
            place=place,
            transcript=SENTENCES[match[2]],
            speaker=match[1],
            language="de",
        )
        for path, place, match in found
    ]


READERS = {
    "emodb": Reader(
        title="EmoDB: 535 German utterances of ten actors, seven emotions.",
        homepage="http://emodb.bilderbar.info/",
        labels=tuple(EMOTIONS.values()),
        layout=_LAYOUT,
        read=read,
        counts={
            "anger": 127, "boredom": 81, "disgust": 46, "fear": 69, "happiness": 71, "neutral": 79,
            "sadness": 62,
        },
    )
}  # fmt: skip
