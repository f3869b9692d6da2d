"""TFDS builder of IEMOCAP: one split a session, random access without tensorflow."""

import dataclasses
import pathlib
import sys
from collections.abc import Iterator

import numpy as np
import tensorflow_datasets as tfds
from absl import logging

from . import audio, augmented, counts, files, release
from .files import ReleaseError, listing

FILE_FORMAT = "array_record"


@dataclasses.dataclass
class IemocapConfig(tfds.core.BuilderConfig):
    """Which labels are kept.

    Attributes:
      labels: the class names, in order of class number.
      merged: label -> the class that it counts as.
    """

    labels: tuple[str, ...] = ()
    merged: dict[str, str] = dataclasses.field(default_factory=dict)

    def class_of(self, label: str) -> str | None:
        """Returns the class that a label of the release counts as, None if it is left out."""
        label = self.merged.get(label, label)
        return label if label in self.labels else None


class Builder(tfds.core.GeneratorBasedBuilder):
    """IEMOCAP from the licensed release in `manual_dir`."""

    VERSION = tfds.core.Version("2.0.0")
    RELEASE_NOTES = {
        "2.0.0": "Labels by name; session, language, split and fold, as speech_emotion has them.",
        "1.1.0": "Whose voice each augmented recording has.",
        "1.0.0": "Two configs, a split a session, optional augmented view.",
    }
    MANUAL_DOWNLOAD_INSTRUCTIONS = files.INSTRUCTIONS
    BUILDER_CONFIGS = [
        IemocapConfig(
            name="emotions4",
            description="Anger, happiness with excitement, neutral, sadness: 5 531 utterances.",
            labels=counts.EMOTIONS4,
            merged=counts.MERGED,
        ),
        IemocapConfig(
            name="all",
            description="Every labelled utterance under its own label: 10 039 utterances.",
            labels=release.LABELS,
        ),
    ]

    def __init__(self, *, file_format=None, **kwargs):
        """Takes what every TFDS builder takes; `file_format` defaults to array_record."""
        super().__init__(file_format=file_format, **kwargs)
        # TFDS's own default, tfrecord, has no random access. What is prepared keeps its format.
        if file_format is None and not self.is_prepared():
            self.info.set_file_format(FILE_FORMAT, override=True)

    def _info(self) -> tfds.core.DatasetInfo:
        text, scalar = tfds.features.Text, tfds.features.Scalar
        # As bytes: TFDS keeps the numbers of a plain tensor as varints, up to 10 bytes each.
        wav = tfds.features.Tensor(shape=(None,), dtype=np.int16, encoding="bytes")
        features = {
            # As datasets/speech_emotion has them.
            "utterance": text(),
            "audio": wav,
            "transcript": text(),
            "label": text(),
            "speaker": text(),
            "session": text(),
            "dialog": text(),
            "language": text(),
            "split": text(),
            "fold": text(),
            "augmented_transcript": text(),
            # All of them in a row: a ragged sequence would need tensorflow to be read.
            "augmented_audio": wav,
            "augmented_lengths": tfds.features.Tensor(shape=(None,), dtype=np.int32),
            "augmented_voice": tfds.features.Sequence(text()),
            # Of IEMOCAP alone.
            "valence": scalar(np.float32),
            "activation": scalar(np.float32),
            "dominance": scalar(np.float32),
            "gender": tfds.features.ClassLabel(names=["F", "M"]),
            "style": tfds.features.ClassLabel(names=["improvised", "scripted"]),
            "start": scalar(np.float32),
            "end": scalar(np.float32),
        }
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("audio", "label"),
            homepage=files.REQUEST_URL,
            disable_shuffling=True,  # In order of id. Readers shuffle, by index.
            metadata=tfds.core.MetadataDict(labels=list(self.builder_config.labels)),
        )

    def _split_generators(self, dl_manager) -> dict[str, Iterator]:
        manual_dir = _manual_dir(dl_manager)
        source = files.find_release(manual_dir)
        utterances = release.read_release(source)
        _report(utterances, source)
        found = {self._class_of(utterance) for utterance in utterances}
        self.info.metadata["labels"] = [x for x in self.builder_config.labels if x in found]
        ids = {utterance.id for utterance in utterances}
        extra = augmented.read_augmented(manual_dir / "augmented", ids)
        _report_views([u for u in utterances if self._class_of(u)], extra)
        logging.info("%d wavs checked.", audio.check_wavs(_wavs(utterances, source, extra)))
        splits = {}
        for session in counts.SESSIONS:
            kept = [u for u in utterances if u.session == session and self._class_of(u)]
            if kept:
                splits[f"session{session}"] = self._generate_examples(kept, source, extra)
            else:  # TFDS refuses a split without examples.
                logging.warning("%s has no utterance for session%d: no split.", source, session)
        return splits

    def _class_of(self, utterance: release.Utterance) -> str | None:
        return self.builder_config.class_of(utterance.label)

    def _generate_examples(self, utterances, source, extra) -> Iterator[tuple[int, dict]]:
        for index, utterance in enumerate(utterances):
            paths = extra.recordings.get(utterance.id, [])
            spoken = [audio.decode(path.read_bytes()) for path in paths]
            yield (
                index,
                {
                    "utterance": utterance.id,
                    "audio": audio.decode(source.read(utterance.wav)),
                    "transcript": utterance.transcript,
                    "label": self._class_of(utterance),
                    "speaker": utterance.speaker,
                    "session": str(utterance.session),
                    "dialog": utterance.dialog,
                    "language": "en",
                    "split": "",  # it has no official division
                    "fold": "",
                    "augmented_transcript": extra.texts.get(utterance.id, ""),
                    "augmented_audio": np.concatenate([np.zeros(0, np.int16), *spoken]),
                    "augmented_lengths": np.array([len(wav) for wav in spoken], np.int32),
                    "augmented_voice": [extra.voices.get(path, "") for path in paths],
                    "valence": utterance.valence,
                    "activation": utterance.activation,
                    "dominance": utterance.dominance,
                    "gender": utterance.gender,
                    "style": utterance.style,
                    "start": utterance.start,
                    "end": utterance.end,
                },
            )


def _manual_dir(dl_manager) -> pathlib.Path:
    try:
        return pathlib.Path(dl_manager.manual_dir)
    except AssertionError as error:  # How TFDS says that it is missing or empty.
        found = str(error).partition(" Create it")[0]
        raise ReleaseError(f"{found}\n\n{files.INSTRUCTIONS}") from None


def _wavs(utterances, source, extra: augmented.Augmented) -> Iterator[tuple[str, bytes]]:
    for utterance in utterances:
        yield utterance.wav, source.read(utterance.wav)
    for paths in extra.recordings.values():
        for path in paths:
            yield str(path), path.read_bytes()


def _report(utterances: list[release.Utterance], source) -> None:
    compared = counts.check_counts(utterances, len(release.label_files(source)))
    status = "as published" if compared else "not compared with the release's, being too few"
    logging.info("Counts of %s, %s:\n%s", source, status, counts.render(utterances))
    known = {utterance.wav for utterance in utterances}
    spare = [path for path in source.paths if path.endswith(".wav") and path not in known]
    unused = sorted([*source.unread, *spare])
    if unused:
        logging.warning("%d files are not used:\n%s", len(unused), listing(unused))
    garbled = sum("\ufffd" in utterance.transcript for utterance in utterances)
    if garbled:
        logging.warning("%d transcripts have bytes that are not UTF-8, read as \ufffd.", garbled)
    silent = sum(not utterance.transcript for utterance in utterances)
    logging.info("%d of %d utterances have an empty transcript.", silent, len(utterances))


def _report_views(utterances: list[release.Utterance], extra: augmented.Augmented) -> None:
    texts = {u.id for u in utterances if extra.texts.get(u.id)}
    spoken = {u.id for u in utterances if extra.recordings.get(u.id)}
    logging.info(
        "Augmented views: of %d utterances %d have a text, %d a recording, %d both.",
        len(utterances), len(texts), len(spoken), len(texts & spoken),
    )  # fmt: skip
    voices = [extra.voices.get(path) for name in spoken for path in extra.recordings[name]]
    named = [augmented.is_speaker(voice) for voice in voices if voice]
    if named:
        logging.info(
            "%d augmented recordings are in the voice of a speaker of the corpus, %d in another.",
            sum(named), len(named) - sum(named),
        )  # fmt: skip
    if not all(voices):
        logging.warning(
            "%d of %d augmented recordings do not say whose voice they have; a column `voice` in "
            "the table would.", voices.count(None), len(voices),
        )  # fmt: skip


def _message_alone(kind, error, trace, default=sys.excepthook):
    """Ends a program at a user's mistake without a traceback, `tfds build` among them."""
    if isinstance(error, ReleaseError):
        print(f"\n{error}", file=sys.stderr)
    else:
        default(kind, error, trace)


sys.excepthook = _message_alone
