"""Prepared datasets of made-up utterances, in the schema of datasets/speech_emotion.

As a program it prepares one, for what prepares a dataset imports tensorflow:
`made_corpora.py DATA_DIR < corpora.json`.
"""

import json
import pathlib
import subprocess
import sys

import numpy as np

TEXTS = ("speaker", "session", "dialog", "language", "split", "fold", "transcript")


def prepare(data_dir: pathlib.Path, corpora: dict[str, list[dict]]) -> None:
    """Prepares `speech_emotion/NAME` of each; a row has `label`, `samples`, and some of `TEXTS`."""
    subprocess.run(
        [sys.executable, __file__, data_dir],
        input=json.dumps(corpora), text=True, check=True, capture_output=True,
    )  # fmt: skip


def people(speakers: int = 12) -> list[dict]:
    """Speakers called by numbers, each twice in four moods; no session, no dialog."""
    rng = np.random.default_rng(0)
    return [
        {"label": label, "speaker": str(s), "samples": int(rng.integers(4000, 8000)),
         "transcript": "Nothing new."}
        for s in range(1, 1 + speakers) for _ in range(2) for label in ("neu", "exc", "hap", "sad")
    ]  # fmt: skip


def abroad(speakers: int = 7) -> list[dict]:
    """Other people called by the same numbers, who speak German, in moods of other names."""
    return [
        {"label": label, "speaker": str(s), "samples": 4000 + 100 * s + 10 * k, "language": "de",
         "transcript": "Nichts Neues." if k else ""}
        for s in range(1, 1 + speakers)
        for k, label in enumerate(("froh", "hap", "sad", "hap", "sad", "bored"))
    ]  # fmt: skip


def _build(data_dir, name, rows):
    import tensorflow_datasets as tfds

    text = tfds.features.Text
    wav = tfds.features.Tensor(shape=(None,), dtype=np.int16, encoding="bytes")
    features = {
        **{column: text() for column in ("utterance", "label", *TEXTS, "augmented_transcript")},
        "audio": wav, "augmented_audio": wav,
        "augmented_lengths": tfds.features.Tensor(shape=(None,), dtype=np.int32),
        "augmented_voice": tfds.features.Sequence(text()),
    }  # fmt: skip
    rng = np.random.default_rng(0)

    def example(i, row):
        audio = (3000 * rng.standard_normal(row["samples"])).clip(-32768, 32767)
        return {
            "utterance": f"u{i}", "label": row["label"], "audio": audio.astype(np.int16),
            **{column: row.get(column, "") for column in TEXTS}, "augmented_transcript": "",
            "augmented_audio": np.zeros(0, np.int16), "augmented_lengths": np.zeros(0, np.int32),
            "augmented_voice": [],
        }  # fmt: skip

    tfds.dataset_builders.store_as_tfds_dataset(
        "speech_emotion", "1.0.0", tfds.features.FeaturesDict(features),
        {"utterances": [(i, example(i, row)) for i, row in enumerate(rows)]},
        config=name, data_dir=data_dir, file_format="array_record", disable_shuffling=True,
    )  # fmt: skip


if __name__ == "__main__":
    for corpus, rows in json.load(sys.stdin).items():
        _build(sys.argv[1], corpus, rows)
