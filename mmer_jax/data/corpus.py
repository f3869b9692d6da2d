"""The prepared dataset, read without tensorflow: its utterances, and their audio on demand."""

import dataclasses
import itertools
import os
import re

import numpy as np
from etils import epath

from mmer_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Recording:
    """An augmented recording of an utterance.

    Attributes:
      start: where it begins among the utterance's augmented samples.
      samples: how many it has.
      voice: a speaker of the corpus, another name, "" for unknown.
    """

    start: int
    samples: int
    voice: str = ""


@dataclasses.dataclass(frozen=True)
class Utterance:
    """All facts about an utterance but its audio.

    Attributes:
      index: its place in the corpus; also the key of what is drawn for it.
      label: class number.
      samples: of its recording, int16 at 16 kHz.
      aug_transcript: the same in other words; "" for none.
      augmented: its augmented recordings; of a training utterance those that may be drawn.
    """

    index: int
    id: str
    label: int
    dialog: str
    speaker: str
    session: int
    transcript: str
    samples: int
    aug_transcript: str = ""
    augmented: tuple[Recording, ...] = ()

    def has_view(self, modalities) -> bool:
        """Whether there is an augmented view for a model of these modalities.

        Speech needs a recording, text a text; a model of both needs both.
        """
        views = {"audio": self.augmented, "text": self.aug_transcript}
        return all(views[name] for name in modalities)

    def without_voices(self, voices) -> "Utterance":
        """The utterance without its augmented recordings in one of these voices."""
        kept = tuple(r for r in self.augmented if r.voice not in voices)
        return dataclasses.replace(self, augmented=kept)

    def without_view(self) -> "Utterance":
        """The utterance without an augmented view, neither text nor recording."""
        return dataclasses.replace(self, aug_transcript="", augmented=())


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
        sources = {session: _source(builder, session) for session in _sessions(builder)}
        self._rows = [(source, row) for source in sources.values() for row in range(len(source))]
        examples = ((session, example) for session, source in sources.items() for example in source)
        self.utterances = tuple(
            _utterance(index, session, example) for index, (session, example) in enumerate(examples)
        )

    def recordings(self, utterance: Utterance) -> tuple[np.ndarray, list[np.ndarray]]:
        """The utterance's int16 samples [n] and those of each of its augmented recordings."""
        source, row = self._rows[utterance.index]
        example = source[row]
        augmented = np.asarray(example["augmented_audio"])
        others = [augmented[r.start : r.start + r.samples] for r in utterance.augmented]
        return np.asarray(example["audio"]), others


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
        return _sessions(_open(data_dir, dataset, emotions))
    except UserError:
        return ()


def is_synthetic(config) -> bool:
    """Whether a run's corpus is the demo's."""
    return config.data.dataset.startswith("demo") or config.name.startswith("demo")


def _sessions(builder):
    """Numbers of the sessions, each a split; a corpus may be one of fewer than five."""
    sessions = tuple(k for k in range(1, 6) if f"session{k}" in builder.info.splits)
    if not sessions:
        raise UserError(
            f"The dataset in {builder.data_dir} has the splits {sorted(builder.info.splits)}; "
            "expected some of session1, ..., session5. Build it again with `tfds build "
            "datasets/iemocap`."
        )
    return sessions


def _source(builder, session):
    try:
        return builder.as_data_source(f"session{session}")
    except NotImplementedError as e:
        raise UserError(
            f"The dataset in {builder.data_dir} is stored as "
            f"{builder.info.file_format}, which has no random access. Build it again with "
            "`tfds build datasets/iemocap --overwrite --file_format=array_record`."
        ) from e


def _utterance(index, session, example):
    lengths = [int(n) for n in example["augmented_lengths"]]
    starts = itertools.accumulate(lengths[:-1], initial=0)
    # Before version 1.1.0 of the dataset nothing said whose voice it is.
    voices = map(_str, example.get("augmented_voice", [""] * len(lengths)))
    return Utterance(
        index=index,
        id=_str(example["utterance"]),
        label=int(example["label"]),
        dialog=_str(example["dialog"]),
        speaker=_str(example["speaker"]),
        session=session,
        transcript=_str(example["transcript"]),
        samples=len(example["audio"]),
        aug_transcript=_str(example["augmented_transcript"]),
        augmented=tuple(map(Recording, starts, lengths, voices)),
    )


def _str(value):
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)
