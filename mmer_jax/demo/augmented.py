"""Writes the table of the augmented view: each utterance in other words, and who says them."""

import csv

FOLDER = "augmented"


def wav_path(root, clip):
    """Returns the path of a clip's sound under the corpus folder."""
    return root / FOLDER / "wav" / clip.name


def write_table(root, clips):
    """Writes augmented.csv, one row for each clip: utterance, text, audio, voice.

    Args:
        root: Path of the corpus.
        clips: list of plan.Clip; each four-class turn has one or two.
    """
    path = root / FOLDER / "augmented.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["utterance", "text", "audio", "voice"])
        for clip in sorted(clips, key=lambda clip: (clip.turn.utterance, clip.name)):
            audio = wav_path(root, clip).relative_to(path.parent).as_posix()
            paraphrase = clip.turn.text.paraphrase
            writer.writerow([clip.turn.utterance, paraphrase, audio, f"espeak-{clip.voice}"])
