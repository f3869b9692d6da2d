"""MELD: dialogs of the series Friends, seven emotions, in a train, a validation and a test part.

Columns, parts and counts as in https://github.com/declare-lab/MELD (README); Poria et al., "MELD:
A Multimodal Multi-Party Dataset for Emotion Recognition in Conversations", ACL 2019. Its clips are
mp4: ffmpeg extracts their sound. Which clips are broken is from that repository's issues: 39 and
52 (train dia125_utt3), 22 and 27 (dev dia110_utt7; the authors: clips without a row may be
ignored), 20 (two of test, minutes long). Issues 9 and 20 name more that do not fit their text
(such as train dia309_utt0); those are kept.
"""

import collections
import csv
import io
import pathlib

from absl import logging

from ..rows import CorpusError, Reader, Row, check_counts, refuse

LABELS = ("anger", "disgust", "fear", "joy", "neutral", "sadness", "surprise")
# Part -> its table, the folder of its clips, utterances of each label.
PARTS = {
    "train": ("train_sent_emo.csv", "train_splits", (1109, 271, 268, 1743, 4710, 683, 1205)),
    "validation": ("dev_sent_emo.csv", "dev_splits_complete", (153, 22, 40, 163, 470, 111, 150)),
    "test": (
        "test_sent_emo.csv",
        "output_repeated_splits_test",
        (345, 68, 50, 402, 1256, 208, 281),
    ),
}
COUNTS = {
    f"{part} {label}": count
    for part, (_, _, counts) in PARTS.items()
    for label, count in zip(LABELS, counts)
}
# Left out unless somebody has put a whole clip there.
BROKEN = {("train", "dia125_utt3"), ("validation", "dia110_utt7")}
# 5 and 4 minutes of something else.
WRONG = {("test", "dia38_utt4"), ("test", "dia220_utt0")}
COLUMNS = ("Utterance", "Speaker", "Emotion", "Dialogue_ID", "Utterance_ID", "Season", "Episode")
COMMAND = """\
find train_splits dev_splits_complete output_repeated_splits_test -name 'dia*.mp4' -exec sh -c \\
  'ffmpeg -nostdin -v error -n -i "$1" -vn -ac 1 -ar 16000 "${1%.mp4}.wav"' _ {} \\;"""
_LAYOUT = f"""\
MANUAL_DIR/train_sent_emo.csv and train_splits/dia0_utt0.wav ...
MANUAL_DIR/dev_sent_emo.csv and dev_splits_complete/...
MANUAL_DIR/test_sent_emo.csv and output_repeated_splits_test/...
as MELD.Raw.tar.gz and the archives in it hold them, the clips' sound extracted, in MANUAL_DIR, by
{COMMAND}
(https://github.com/declare-lab/MELD)."""
# Some texts went through a wrong encoding: U+0092 is an apostrophe there.
_CP1252 = {code: bytes([code]).decode("cp1252", "ignore") for code in range(0x80, 0xA0)}


def mend(text: str) -> str:
    """Gives what was decoded as Latin-1 the characters of Windows-1252."""
    return " ".join(text.translate(_CP1252).split())


def read(manual_dir: pathlib.Path) -> list[Row]:
    """The utterances of the three tables, in their order, but for the corpus' broken clips."""
    absent = [table for table, _, _ in PARTS.values() if not (manual_dir / table).is_file()]
    if absent:
        raise CorpusError(f"No {', '.join(absent)} in {manual_dir}. Expected:\n{_LAYOUT}")
    rows, problems, left_out, counts = [], [], [], collections.Counter()
    for part, (table, folder, _) in PARTS.items():
        clips = {path.stem for path in (manual_dir / folder).glob("*.wav")}
        if not clips:
            problems.append(f"no wav in {folder}")
        for place, record in _records(manual_dir / table):
            name = f"dia{record['Dialogue_ID']}_utt{record['Utterance_ID']}"
            label = record["Emotion"].strip().lower()
            counts[f"{part} {label}"] += 1
            if (part, name) in WRONG or ((part, name) in BROKEN and name not in clips):
                left_out.append(f"{folder}/{name}")
            else:
                rows.append(
                    Row(
                        utterance=f"{part}_{name}",
                        audio=manual_dir / folder / f"{name}.wav",
                        label=label,
                        place=place,
                        transcript=mend(record["Utterance"]),
                        speaker=mend(record["Speaker"]),
                        session=f"s{record['Season']}e{record['Episode']}",
                        dialog=f"{part}_dia{record['Dialogue_ID']}",
                        language="en",
                        split=part,
                    )
                )
            clips.discard(name)
        if clips:
            logging.info("%d clips in %s have no row: not used.", len(clips), folder)
    refuse(problems, f"Extract the clips' sound, in {manual_dir}:\n{COMMAND}")
    check_counts(counts, COUNTS)
    if left_out:
        logging.warning(
            "Left out, broken or wrongly cut in the corpus: %s.", ", ".join(sorted(left_out))
        )
    return rows


def _records(path):
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252", "replace")
    reader = csv.DictReader(io.StringIO(text, newline=""))
    absent = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if absent:
        raise CorpusError(
            f"{path} has no column {', '.join(absent)}: fetch it again. Expected:\n{_LAYOUT}"
        )
    try:
        for record in reader:
            fields = {k: v or "" for k, v in record.items() if k}
            yield f"{path.name}, line {reader.line_num}", fields
    except csv.Error as error:
        raise CorpusError(f"{path}, line {reader.line_num}: {error}. Fetch it again.") from error


READERS = {
    "meld": Reader(
        title="MELD: 13 708 utterances of 1432 dialogs of Friends; its parts share speakers.",
        homepage="https://github.com/declare-lab/MELD",
        labels=LABELS,
        layout=_LAYOUT,
        read=read,
    )
}
