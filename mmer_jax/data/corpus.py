"""The prepared dataset, read without tensorflow: its utterances, and their audio on demand."""

import dataclasses
import os
import re

import numpy as np
from etils import epath

from mmer_jax.errors import UserError

SESSIONS = ("session1", "session2", "session3", "session4", "session5")


@dataclasses.dataclass(frozen=True)
class Utterance:
    """All facts about an utterance but its samples.

    Attributes:
      split, row: where the dataset has it.
      samples: of its recording, int16 at 16 kHz.
      aug_samples: of each of its augmented recordings.
      aug_voices: of each of them: a speaker of the corpus, another name, "" for unknown.
      aug_drawn: numbers of the augmented recordings that may be trained on; None: of all.
    """

    split: str
    row: int
    id: str
    label: int
    dialog: str
    speaker: str
    session: int
    transcript: str
    samples: int
    aug_transcript: str
    aug_samples: tuple[int, ...]
    aug_voices: tuple[str, ...] = ()
    aug_drawn: tuple[int, ...] | None = None

    @property
    def drawable(self) -> tuple[int, ...]:
        """Numbers of the augmented recordings that may be trained on."""
        return tuple(range(len(self.aug_samples))) if self.aug_drawn is None else self.aug_drawn

    def has_view(self, modalities) -> bool:
        """Whether there is an augmented view for a model of these modalities.

        Speech needs a recording, text a text; a model of both needs both.
        """
        views = {"audio": self.drawable, "text": self.aug_transcript}
        return all(views[name] for name in modalities)

    def without_voices(self, voices) -> "Utterance":
        """The utterance, none of its augmented recordings in one of these voices to be drawn."""
        if not voices & set(self.aug_voices):
            return self
        kept = (k for k in self.drawable if self.aug_voices[k] not in voices)
        return dataclasses.replace(self, aug_drawn=tuple(kept))

    def without_view(self) -> "Utterance":
        """The utterance without an augmented view, neither text nor recording."""
        return dataclasses.replace(self, aug_transcript="", aug_drawn=())


class Corpus:
    """The utterances of a prepared dataset, in its order, with random access to their audio.

    Args:
      data_dir: what `tfds build --data_dir` was given.
      dataset: the dataset's name.
      emotions: its builder config.

    Raises:
      UserError: nothing prepared there, or in a format without random access.
    """

    def __init__(self, data_dir: str, dataset: str = "iemocap", emotions: str = "emotions4"):
        builder = _open(data_dir, dataset, emotions)
        self.version = str(builder.version)
        self.label_names = tuple(builder.info.features["label"].names)
        self._sources = {split: _source(builder, split) for split in _splits(builder)}
        self.utterances = tuple(
            _utterance(split, row, example)
            for split, source in self._sources.items()
            for row, example in enumerate(source)
        )

    def recordings(self, utterance: Utterance) -> tuple[np.ndarray, list[np.ndarray]]:
        """The utterance's int16 samples [n] and those of each of its augmented recordings."""
        example = self._sources[utterance.split][utterance.row]
        ends = np.cumsum(utterance.aug_samples)
        augmented = [
            np.asarray(example["augmented_audio"][end - n : end])
            for end, n in zip(ends, utterance.aug_samples)
        ]
        return np.asarray(example["audio"]), augmented


def _open(data_dir, dataset, emotions):
    import tensorflow_datasets as tfds

    folder = os.path.join(os.path.expanduser(data_dir), dataset, emotions)
    try:
        names = (p.name for p in epath.Path(folder).iterdir())
        # Nothing but a version: a folder 1.0.0_old beside it is somebody's own.
        versions = [name for name in names if re.fullmatch(r"\d+\.\d+\.\d+", name)]
        versions.sort(key=lambda name: [int(n) for n in name.split(".")])
        return tfds.builder_from_directory(os.path.join(folder, versions[-1]))
    except (OSError, IndexError, tfds.core.DatasetNotFoundError) as e:
        raise UserError(
            f"No prepared dataset {dataset}/{emotions} in {os.path.expanduser(data_dir)} "
            "(config.data.dir).\n"
            "  1. Without IEMOCAP, run the demo corpus instead: make demo\n"
            "  2. With IEMOCAP (ask for it at https://sail.usc.edu/iemocap/; the licence is free "
            "for research), put IEMOCAP_full_release/ or its .tar.gz into a folder MANUAL and run\n"
            f"       tfds build datasets/iemocap --manual_dir=MANUAL --data_dir={data_dir}\n"
            "  3. If it is prepared elsewhere, say where: --config.data.dir=FOLDER"
        ) from e


def sessions(data_dir: str, dataset: str, emotions: str) -> tuple[int, ...]:
    """Numbers of the sessions that a prepared dataset has; none where there is no dataset."""
    try:
        return tuple(_session(split) for split in _splits(_open(data_dir, dataset, emotions)))
    except UserError:
        return ()


def is_synthetic(config) -> bool:
    """Whether a run's corpus is the demo's."""
    return config.data.dataset.startswith("demo") or config.name.startswith("demo")


def _splits(builder):
    """Those of `SESSIONS` that there are: a corpus may be one of fewer sessions."""
    found = [split for split in SESSIONS if split in builder.info.splits]
    if not found:
        raise UserError(
            f"The dataset in {builder.data_dir} has the splits {sorted(builder.info.splits)}; "
            f"expected some of {', '.join(SESSIONS)}. Build it again with `tfds build "
            "datasets/iemocap`."
        )
    return found


def _session(split):
    return int(split.removeprefix("session"))


def _source(builder, split):
    try:
        return builder.as_data_source(split)
    except NotImplementedError as e:
        raise UserError(
            f"The dataset in {builder.data_dir} is stored as "
            f"{builder.info.file_format}, which has no random access. Build it again with "
            "`tfds build datasets/iemocap --overwrite --file_format=array_record`."
        ) from e


def _utterance(split, row, example):
    lengths = tuple(int(n) for n in example["augmented_lengths"])
    # Before version 1.1.0 of the dataset nothing said whose voice it is.
    voices = tuple(map(_str, example.get("augmented_voice", [""] * len(lengths))))
    return Utterance(
        split=split,
        row=row,
        id=_str(example["utterance"]),
        label=int(example["label"]),
        dialog=_str(example["dialog"]),
        speaker=_str(example["speaker"]),
        session=_session(split),
        transcript=_str(example["transcript"]),
        samples=len(example["audio"]),
        aug_transcript=_str(example["augmented_transcript"]),
        aug_samples=lengths,
        aug_voices=voices,
    )


def _str(value):
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)
