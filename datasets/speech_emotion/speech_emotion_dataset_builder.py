"""TFDS builder of open corpora and a user's own table: a config each, one split `utterances`."""

import collections
import pathlib
import sys
from collections.abc import Iterator

import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from tensorflow_datasets.core.utils import tqdm_utils

from . import audio, augmented, rows
from .readers import READERS
from .rows import CorpusError, Row

FILE_FORMAT = "array_record"
_COMMAND = """\
Then, in the folder of the repository:
  tfds build datasets/speech_emotion --config={name} --manual_dir=MANUAL_DIR --data_dir=DATA_DIR
"""
# The columns that say who, where and in which part.
_GROUPS = ("speaker", "session", "dialog", "language", "split", "fold")


class Builder(tfds.core.GeneratorBasedBuilder):
    """A corpus of emotional speech from the files in `manual_dir`."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "A config a corpus, and `table` for one's own."}
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name=name, description=reader.title)
        for name, reader in READERS.items()
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = "\n".join(
        f"{name}: {reader.title} {reader.homepage}\n{reader.layout}\n"
        for name, reader in READERS.items()
    ) + _COMMAND.format(name="NAME")

    def __init__(self, *, file_format=None, **kwargs):
        """Takes what every TFDS builder takes; `file_format` defaults to array_record."""
        super().__init__(file_format=file_format, **kwargs)
        # TFDS's own default, tfrecord, has no random access. What is prepared keeps its format.
        if file_format is None and not self.is_prepared():
            self.info.set_file_format(FILE_FORMAT, override=True)

    @property
    def _reader(self) -> rows.Reader:
        return READERS[self.builder_config.name]

    def _info(self) -> tfds.core.DatasetInfo:
        text = tfds.features.Text
        # As bytes: TFDS keeps the numbers of a plain tensor as varints, up to 10 bytes each.
        wav = tfds.features.Tensor(shape=(None,), dtype=np.int16, encoding="bytes")
        features = {
            "utterance": text(),
            "audio": wav,
            "transcript": text(),
            # By name: a table's labels are known when it is read, not before.
            "label": text(),
            **{name: text() for name in _GROUPS},
            "augmented_transcript": text(),
            # All of them in a row: a ragged sequence would need tensorflow to be read.
            "augmented_audio": wav,
            "augmented_lengths": tfds.features.Tensor(shape=(None,), dtype=np.int32),
            "augmented_voice": tfds.features.Sequence(text()),
        }
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("audio", "label"),
            homepage=self._reader.homepage or None,
            disable_shuffling=True,  # In the reader's order. Readers shuffle, by index.
            metadata=tfds.core.MetadataDict(labels=list(self._reader.labels)),
        )

    def _split_generators(self, dl_manager) -> dict[str, Iterator]:
        manual_dir = _manual_dir(dl_manager, self.builder_config.name)
        found = self._reader.read(manual_dir)
        rows.check(found, self._reader)
        found = augmented.add(rows.leave_out(found, manual_dir), manual_dir)
        labels = rows.count_labels(found, self._reader)
        self.info.metadata["labels"] = list(labels)
        _report(found, labels)
        _check_recordings(found)
        return {"utterances": self._generate_examples(found)}

    def _generate_examples(self, found: list[Row]) -> Iterator[tuple[int, dict]]:
        for index, row in enumerate(found):
            spoken = [audio.load(path) for path in row.augmented_audio]
            yield (
                index,
                {
                    "utterance": row.utterance,
                    "audio": audio.load(row.audio, row.start, row.end),
                    "transcript": row.transcript,
                    "label": row.label,
                    **{name: getattr(row, name) for name in _GROUPS},
                    "augmented_transcript": row.augmented_transcript,
                    "augmented_audio": np.concatenate([np.zeros(0, np.int16), *spoken]),
                    "augmented_lengths": np.array([len(wav) for wav in spoken], np.int32),
                    "augmented_voice": list(row.augmented_voice),
                },
            )


def _manual_dir(dl_manager, name) -> pathlib.Path:
    try:
        return pathlib.Path(dl_manager.manual_dir)
    except AssertionError as error:  # How TFDS says that it is missing or empty.
        found = str(error).partition(" Create it")[0]
        layout = READERS[name].layout
        raise CorpusError(f"{found}\n\n{layout}\n{_COMMAND.format(name=name)}") from None


def _check_recordings(found: list[Row]) -> None:
    """Reads every recording once, so that nothing is written before all are known to be good."""
    problems = []
    for row in tqdm_utils.tqdm(found, desc="Checking", unit=" recordings", leave=False):
        parts = [("audio", row.audio, row.start, row.end)]
        parts += [("augmented_audio", path, None, None) for path in row.augmented_audio]
        for column, *part in parts:
            try:
                audio.read(*part)
            except audio.AudioError as error:
                problems.append(f"{row.place}: {row.utterance}: {column} {part[0]}: {error}")
    rows.refuse(
        problems,
        "Nothing was written. Mend them, or name the utterances that are to be left out, one a "
        f"line, in MANUAL_DIR/{rows.LEFT_OUT}, and build again.",
    )


def _report(found: list[Row], labels: dict[str, int]) -> None:
    listed = ", ".join(f"{label} {count}" for label, count in labels.items())
    logging.info("%d utterances: %s.", len(found), listed)
    for name in _GROUPS:
        counted = collections.Counter(getattr(row, name) for row in found)
        unknown = counted.pop("", 0)
        if counted:
            logging.info(
                "%s: %d, of %d to %d utterances; %d utterances without.",
                name, len(counted), min(counted.values()), max(counted.values()), unknown,
            )  # fmt: skip
    views = [(row.augmented_transcript, row.augmented_audio) for row in found]
    if any(any(view) for view in views):
        logging.info(
            "Augmented views: of %d utterances %d have a text, %d a recording.",
            len(found), sum(bool(text) for text, _ in views), sum(bool(a) for _, a in views),
        )  # fmt: skip
    silent = sum(not row.transcript for row in found)
    logging.info("%d of %d utterances have no transcript.", silent, len(found))


def _message_alone(kind, error, trace, default=sys.excepthook):
    """Ends a program at a user's mistake without a traceback, `tfds build` among them."""
    if isinstance(error, CorpusError):
        print(f"\n{error}", file=sys.stderr)
    else:
        default(kind, error, trace)


sys.excepthook = _message_alone
