"""Writes a corpus's files beside its utterances' sounds: the release tree and the augmented view.

The tree has the blemishes of a real release: marks in transcripts, stray bytes, junk files.
"""

import csv
import itertools
import struct
from typing import NamedTuple

import numpy as np
from scipy.io import wavfile

from mmer_jax.demo import plan, speech

ROOT, AUGMENTED = "IEMOCAP_full_release", "augmented"
RATERS = (("E1", "E2", "E4"), ("E2", "E3", "E4"), ("E2", "E5", "E6"))
DIALOG_WAV_SECONDS = 0.25
BACKCHANNEL_SECONDS = 0.15
# What a Mac leaves beside a file: a valid AppleDouble header and bytes that are not UTF-8.
APPLE_DOUBLE = struct.pack(
    ">II16sHIII", 0x00051607, 0x00020000, b"Mac OS X        ", 1, 9, 38, 120
) + bytes([0xFF, 0xFE, 0xB0, 0xC3, 0x00, 0x05] * 20)
DS_STORE = b"\x00\x00\x00\x01Bud1\x00\x00\x10\x00\xff\xfe\xb0\xc3" + bytes(48)

HEADER = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
WORDS = {
    "ang": "Anger", "hap": "Happiness", "exc": "Excited", "neu": "Neutral", "sad": "Sadness",
    "fru": "Frustration", "sur": "Surprise", "fea": "Fear", "dis": "Disgust", "oth": "Other",
}  # fmt: skip
NEAR = {
    "ang": "Frustration", "hap": "Excited", "exc": "Happiness", "neu": "Frustration",
    "sad": "Neutral",
}  # fmt: skip
# Valence, activation and dominance, 1..5.
DIMENSIONS = {
    "ang": (2, 4, 4), "hap": (4, 3, 3), "exc": (4, 4, 3), "neu": (3, 2, 3), "sad": (2, 2, 2),
    "fru": (2, 4, 3), "sur": (3, 4, 3), "fea": (2, 4, 2), "dis": (2, 3, 3),
}  # fmt: skip


def wav_path(root, turn):
    """Returns the path of a turn's sound under the folder that holds IEMOCAP_full_release."""
    session = root / ROOT / f"Session{turn.session}"
    return session / "sentences" / "wav" / turn.dialog / f"{turn.utterance}.wav"


def write(root, turns, seconds, awkward):
    """Writes everything of the release tree but the sounds of its utterances.

    Args:
        root: Path that holds IEMOCAP_full_release.
        turns: list of plan.Turn in the order in which they happen.
        seconds: utterance -> duration, whole milliseconds.
        awkward: some files get CRLF newlines, every dialog gets junk files.
    """
    for _, session in itertools.groupby(turns, key=lambda turn: turn.session):
        dialogs = itertools.groupby(session, key=lambda turn: turn.dialog)
        for index, (_, items) in enumerate(dialogs):
            _write_dialog(root, index, list(items), seconds, awkward)


def _write_dialog(root, index, turns, seconds, awkward):
    name = turns[0].dialog
    session = root / ROOT / f"Session{turns[0].session}"
    evaluation, transcriptions, dialog_wavs = (
        session / "dialog" / folder for folder in ("EmoEvaluation", "transcriptions", "wav")
    )
    times = _schedule(turns, seconds)
    # The F turns are written first, as in the release.
    rated = [_rate(turn, RATERS[index % len(RATERS)]) for turn in turns]
    rated.sort(key=lambda item: item.turn.utterance)
    texts = {
        evaluation / f"{name}.txt": HEADER + "".join(_label_block(item, times) for item in rated),
        transcriptions / f"{name}.txt": _transcription(turns, times),
    }
    texts |= {evaluation / path: text for path, text in _rater_files(name, rated)}
    newline = "\r\n" if awkward and index % 3 == 1 else "\n"
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.replace("\n", newline).encode("utf-8", "surrogateescape"))
    # A moment of stereo noise: nothing reads the whole dialogs, which would fill a disk.
    dialog_wavs.mkdir(parents=True, exist_ok=True)
    noise = np.random.RandomState(index).randn(int(DIALOG_WAV_SECONDS * speech.SAMPLE_RATE), 2)
    wav = dialog_wavs / f"{name}.wav"
    wavfile.write(wav, speech.SAMPLE_RATE, (100 * noise).astype(np.int16))
    if index == 0 or awkward:
        wav = wav_path(root, turns[0])
        for folder in (evaluation, transcriptions, wav.parents[1], wav.parent):
            (folder / ".DS_Store").write_bytes(DS_STORE)
        for path in (evaluation / f"{name}.txt", transcriptions / f"{name}.txt", wav):
            path.with_name(f"._{path.name}").write_bytes(APPLE_DOUBLE)


def _schedule(turns, seconds):
    """Places the turns of a dialog: utterance -> (start, end) in seconds, a grid of 0.1 ms."""
    random = plan.stream(turns[0].dialog, "gaps")
    times, clock = {}, 1.0
    for turn in turns:
        start = round(clock + 0.2 + random.rand(), 4)
        clock = round(start + seconds[turn.utterance], 4)
        times[turn.utterance] = (start, clock)
    return times


def _transcription(turns, times):
    """Returns the text of `transcriptions/<dialog>.txt`, which has more lines than turns."""
    lines = []
    for position, turn in enumerate(turns):
        start, end = times[turn.utterance]
        lines += [_line(turn.utterance, start, end, text) for text in shown(turn)]
        other = "M" if turn.speaker[1] == "F" else "F"
        if position % 5 == 1:
            noise = f"{turn.dialog}_{other}XX{position // 5}"
            lines.append(_line(noise, end, end + BACKCHANNEL_SECONDS, "Mmhmm."))
        if position % 5 == 2:
            lines.append(f"{other}: Yeah.")
    return "".join(line + "\n" for line in lines)


def _line(utterance, start, end, text):
    return f"{utterance} [{start:08.4f}-{end:08.4f}]: {text}"


def shown(turn):
    """Returns the texts that the transcription shows for a turn: one, two for a repeated id.

    A lone surrogate in a text stands for a byte that is no UTF-8 (`surrogateescape`).
    """
    text = turn.text.sentence
    first, _, rest = text.partition(" ")
    if turn.mark == "repeated":
        words = text.split()
        half = max(1, len(words) // 2)
        return [part for part in (" ".join(words[:half]), " ".join(words[half:])) if part]
    marked = {
        "space": f"{text}  ",
        "laughter": f"[LAUGHTER] {text}",
        "breathing": f"{text} [BREATHING]",
        "garbage": f"[GARBAGE] {text}",
        "dashes": f"{first} -- {first} {rest}",
        "dots": text.removesuffix(".") + "...",
        "latin1": text.replace("'", "\udc92") if "'" in text else f"{text} \udca0",
        "quotes": "\u201c" + text.replace("'", "\u2019") + "\u201d",
        "tabs": text.replace(" ", "\t", 1).replace(" ", "   ", 1),
        "empty": "",
    }
    return [marked.get(turn.mark, text)]


def joined(turn):
    """Returns the text that a reader of the transcription gets: joined, decoded, stripped."""
    raw = " ".join(shown(turn)).encode("utf-8", "surrogateescape")
    return raw.decode("utf-8", "replace").strip()


class _Rated(NamedTuple):
    turn: plan.Turn
    categories: dict  # rater ("E2", ..., "F1") -> text after `C-<rater>:`
    dimensions: dict  # rater -> text after `A-<rater>:`; some raters gave none
    mean: np.ndarray  # valence, activation and dominance, 1..5


def _rate(turn, raters):
    """Rates a turn: two of the three raters at least agree on its label, and none do for `xxx`."""
    random = plan.stream(turn.seed, "rating")
    self_rater = f"{turn.speaker[1]}1"
    categories = dict(zip(raters, _votes(turn.label, random)))
    categories[self_rater] = "" if random.rand() < 0.15 else _vote(turn.label)
    scores = {}
    for rater in raters[:2]:
        spread = random.randint(-1, 2, size=3) * (random.rand(3) < 0.4)
        scores[rater] = np.clip(DIMENSIONS.get(turn.label, (3, 3, 3)) + spread, 1, 5)
    if random.rand() < 0.12:
        del scores[raters[1]]
    mean = np.mean(list(scores.values()), axis=0)
    scores[self_rater] = [random.choice(["N", "", "3"])] * 3
    dimensions = {
        rater: f"val {valence}; act {activation}; dom  {dominance};"
        for rater, (valence, activation, dominance) in scores.items()
    }
    return _Rated(turn, categories, dimensions, mean)


def _vote(label):
    return WORDS.get(label, "Other") + ";"


def _votes(label, random):
    if label == "xxx":
        words = ["Frustration; Anger;", "Neutral;", "Sadness;", "Surprise;;"]
        return [str(word) for word in random.permutation(words)[:3]]
    own, near = _vote(label), NEAR.get(label, "Neutral")
    third = [own, f"{own} ;", f"{near};", f"{near}; {own}"][random.randint(4)]
    votes = [own, own, third]
    return [votes[i] for i in random.permutation(3)]


def _label_block(rated, times):
    """Returns a turn's lines in `EmoEvaluation/<dialog>.txt`."""
    turn, (start, end) = rated.turn, times[rated.turn.utterance]
    mean = ", ".join(f"{value:.4f}" for value in rated.mean)
    remark = "curious" if turn.number % 3 == 0 else ""
    lines = [f"[{start:.4f} - {end:.4f}]\t{turn.utterance}\t{turn.label}\t[{mean}]"]
    lines += [
        f"C-{rater}:\t{text}\t({remark if rater[0] in 'FM' else ''})"
        for rater, text in rated.categories.items()
    ]
    lines += [f"A-{rater}:\t{text}\t()" for rater, text in rated.dimensions.items()]
    return "\n".join(lines) + "\n\n"


def _rater_files(dialog, rated):
    """Yields (path under EmoEvaluation, text) of the files that hold one rater's work each."""
    for kind, suffix, folder in (
        ("categories", "cat", "Categorical"),
        ("dimensions", "atr", "Attribute"),
    ):
        texts = {}
        for item in rated:
            for rater, text in getattr(item, kind).items():
                line = f"{item.turn.utterance} :{text.removesuffix(';')}; ()\n"
                texts[rater] = texts.get(rater, "") + line
        for rater, text in texts.items():
            place = "Self-evaluation" if rater[0] in "FM" else folder
            yield f"{place}/{dialog}_{rater.lower()}_{suffix}.txt", text


def clip_path(root, clip):
    """Returns the path of a clip's sound under the corpus folder."""
    return root / AUGMENTED / "wav" / clip.name


def write_augmented(root, clips):
    """Writes augmented.csv, one row for each clip: utterance, text, audio, voice.

    Args:
        root: Path of the corpus.
        clips: list of plan.Clip; each four-class turn has one or two.
    """
    with (root / AUGMENTED / "augmented.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["utterance", "text", "audio", "voice"])
        for clip in sorted(clips, key=lambda clip: (clip.turn.utterance, clip.name)):
            turn = clip.turn
            row = [turn.utterance, turn.text.paraphrase, f"wav/{clip.name}", f"espeak-{clip.voice}"]
            writer.writerow(row)
