"""Writes the texts of the augmented view: each utterance in other words."""

import csv

FOLDER = "augmented"


def wav_path(root, clip):
    """Returns the path of a clip's sound under the corpus folder."""
    return root / FOLDER / "wav" / clip.name


def write_texts(root, turns):
    """Writes augmented.csv, one row for each four-class turn: utterance, text."""
    path = root / FOLDER / "augmented.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["utterance", "text"])
        for turn in sorted(turns, key=lambda turn: turn.utterance):
            if turn.four_class:
                writer.writerow([turn.utterance, turn.text.paraphrase])
