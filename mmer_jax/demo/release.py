"""Writes the text files of the IEMOCAP_full_release tree; the sounds are there before them."""

import numpy as np

from mmer_jax.demo import plan, quirks, ratings, sound

ROOT = "IEMOCAP_full_release"
RATERS = (("E1", "E2", "E4"), ("E2", "E3", "E4"), ("E2", "E5", "E6"))
DIALOG_WAV_SECONDS = 0.25
BACKCHANNEL_SECONDS = 0.15


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
        _write_text(session / "dialog" / name, text, quirks.line_ending(index, awkward))
    _write_dialog_wav(session / "dialog" / "wav" / f"{first.dialog}.wav", index)
    if index == 0 or awkward:
        for path, junk in quirks.junk_files(session, first.dialog, first.utterance):
            path.write_bytes(junk)


def transcription(turns, times):
    """Returns the text of `transcriptions/<dialog>.txt`, which has more lines than turns."""
    lines = []
    for position, turn in enumerate(turns):
        start, end = times[turn.utterance]
        lines += [_line(turn.utterance, start, end, text) for text in quirks.shown(turn)]
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
