"""Writes a corpus's files beside its utterances' sounds: the release tree and the augmented view.

The tree has the blemishes of a real release: marks in transcripts, stray bytes, junk files.
"""

import csv
import struct

import numpy as np

from mmer_jax.demo import plan, ratings, sound

ROOT, AUGMENTED = "IEMOCAP_full_release", "augmented"
RATERS = (("E1", "E2", "E4"), ("E2", "E3", "E4"), ("E2", "E5", "E6"))
DIALOG_WAV_SECONDS = 0.25
BACKCHANNEL_SECONDS = 0.15
# What a Mac leaves beside a file: a valid AppleDouble header and bytes that are not UTF-8.
APPLE_DOUBLE = struct.pack(
    ">II16sHIII", 0x00051607, 0x00020000, b"Mac OS X        ", 1, 9, 38, 120
) + bytes([0xFF, 0xFE, 0xB0, 0xC3, 0x00, 0x05] * 20)
DS_STORE = b"\x00\x00\x00\x01Bud1\x00\x00\x10\x00\xff\xfe\xb0\xc3" + bytes(48)


def wav_path(root, turn):
    """Returns the path of a turn's sound under the folder that holds IEMOCAP_full_release."""
    session = root / ROOT / f"Session{turn.session}"
    return session / "sentences" / "wav" / turn.dialog / f"{turn.utterance}.wav"


def schedule(turns, seconds):
    """Places the turns of one dialog in time.

    Args:
        turns: list of plan.Turn in the order in which they happen.
        seconds: utterance -> duration, whole milliseconds.

    Returns:
        utterance -> (start, end) in seconds, on a grid of 0.1 ms.
    """
    random = plan.stream(turns[0].dialog, "gaps")
    times, clock = {}, 1.0
    for turn in turns:
        start = round(clock + 0.2 + random.rand(), 4)
        clock = round(start + seconds[turn.utterance], 4)
        times[turn.utterance] = (start, clock)
    return times


def write_dialog(root, index, turns, seconds, awkward):
    """Writes everything of one dialog but the sounds of its utterances.

    Args:
        root: Path that holds IEMOCAP_full_release.
        index: of the dialog in its session.
        turns: list of plan.Turn in the order in which they happen.
        seconds: utterance -> duration.
        awkward: some files get CRLF newlines, every dialog gets junk files.
    """
    first = turns[0]
    session = root / ROOT / f"Session{first.session}"
    times = schedule(turns, seconds)
    rated = [ratings.rate(turn, RATERS[index % len(RATERS)]) for turn in turns]
    texts = {
        f"EmoEvaluation/{first.dialog}.txt": ratings.label_file(rated, times),
        f"transcriptions/{first.dialog}.txt": transcription(turns, times),
    }
    for name, text in ratings.rater_files(first.dialog, rated):
        texts[f"EmoEvaluation/{name}"] = text
    for name, text in texts.items():
        _write_text(session / "dialog" / name, text, line_ending(index, awkward))
    _write_dialog_wav(session / "dialog" / "wav" / f"{first.dialog}.wav", index)
    if index == 0 or awkward:
        for path, junk in junk_files(session, first.dialog, first.utterance):
            path.write_bytes(junk)


def transcription(turns, times):
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


def _write_text(path, text, newline):
    path.parent.mkdir(parents=True, exist_ok=True)
    data = text.replace("\n", newline).encode("utf-8", "surrogateescape")
    path.write_bytes(data)


def _write_dialog_wav(path, index):
    """Writes a moment of stereo noise: nothing reads the whole dialogs, which would fill a disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = int(DIALOG_WAV_SECONDS * sound.SAMPLE_RATE)
    sound.write_wav(path, (100 * np.random.RandomState(index).randn(samples, 2)).astype(np.int16))


def shown(turn):
    """Returns the texts that the transcription shows for a turn: one, two for a repeated id.

    A lone surrogate in a text stands for a byte that is no UTF-8 (`surrogateescape`).
    """
    text = turn.text.sentence
    if turn.mark == "repeated":
        words = text.split()
        half = max(1, len(words) // 2)
        return [part for part in (" ".join(words[:half]), " ".join(words[half:])) if part]
    return [_MARKED[turn.mark](text)] if turn.mark in _MARKED else [text]


def joined(turn):
    """Returns the text that a reader of the transcription gets: joined, decoded, stripped."""
    raw = " ".join(shown(turn)).encode("utf-8", "surrogateescape")
    return raw.decode("utf-8", "replace").strip()


def _dashes(text):
    first, _, rest = text.partition(" ")
    return f"{first} -- {first} {rest}"


def _latin1(text):
    if "'" in text:
        return text.replace("'", "\udc92")
    return text + " \udca0"


_MARKED = {
    "space": lambda text: text + "  ",
    "laughter": lambda text: "[LAUGHTER] " + text,
    "breathing": lambda text: text + " [BREATHING]",
    "garbage": lambda text: "[GARBAGE] " + text,
    "dashes": _dashes,
    "dots": lambda text: text.removesuffix(".") + "...",
    "latin1": _latin1,
    "quotes": lambda text: "\u201c" + text.replace("'", "\u2019") + "\u201d",
    "tabs": lambda text: text.replace(" ", "\t", 1).replace(" ", "   ", 1),
    "empty": lambda text: "",
}


def line_ending(dialog_index, awkward):
    """Returns the newline of a dialog's text files: CRLF for some of an awkward corpus."""
    return "\r\n" if awkward and dialog_index % 3 == 1 else "\n"


def junk_files(session_folder, dialog, utterance):
    """Yields (path, bytes) of the files that a Mac leaves in a session's folders."""
    evaluation = session_folder / "dialog" / "EmoEvaluation"
    transcriptions = session_folder / "dialog" / "transcriptions"
    wavs = session_folder / "sentences" / "wav"
    for folder in (evaluation, transcriptions, wavs, wavs / dialog):
        yield folder / ".DS_Store", DS_STORE
    for path in (
        evaluation / f"{dialog}.txt",
        transcriptions / f"{dialog}.txt",
        wavs / dialog / f"{utterance}.wav",
    ):
        yield path.with_name(f"._{path.name}"), APPLE_DOUBLE


def clip_path(root, clip):
    """Returns the path of a clip's sound under the corpus folder."""
    return root / AUGMENTED / "wav" / clip.name


def write_augmented(root, clips):
    """Writes augmented.csv, one row for each clip: utterance, text, audio, voice.

    Args:
        root: Path of the corpus.
        clips: list of plan.Clip; each four-class turn has one or two.
    """
    path = root / AUGMENTED / "augmented.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["utterance", "text", "audio", "voice"])
        for clip in sorted(clips, key=lambda clip: (clip.turn.utterance, clip.name)):
            audio = clip_path(root, clip).relative_to(path.parent).as_posix()
            paraphrase = clip.turn.text.paraphrase
            writer.writerow([clip.turn.utterance, paraphrase, audio, f"espeak-{clip.voice}"])
