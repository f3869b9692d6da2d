"""The builder on its dummy data: TFDS's own checks for each config, then what readers rely on."""

import pathlib
import shutil

import numpy as np
import pytest
import soundfile
import tensorflow_datasets as tfds

from . import audio, speech_emotion_dataset_builder
from .readers import READERS
from .rows import CorpusError

DUMMY = pathlib.Path(__file__).parent / "dummy_data"
# Config -> the folder of its dummy data, utterances in it.
CONFIGS = {
    "table": ("table", 6),
    "crema_d": ("crema_d", 5),
    "crema_d_voted": ("crema_d", 4),
    "emodb": ("emodb", 7),
    "esd_en": ("esd", 6),
    "esd_zh": ("esd", 4),
    "meld": ("meld", 7),
    "ravdess": ("ravdess", 4),
    "savee": ("savee", 7),
    "tess": ("tess", 7),
}


class ConfigTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = speech_emotion_dataset_builder.Builder
    BUILDER_CONFIG_NAMES_TO_TEST = ["table"]
    EXAMPLE_DIR = DUMMY / "table"
    SPLITS = {"utterances": 6}

    def _make_builder(self, config=None):
        # The test case reads with `as_dataset`, which array_record does not have.
        return self.DATASET_CLASS(data_dir=self.tmp_dir, config=config, file_format="tfrecord")


for _name, (_folder, _count) in CONFIGS.items():
    if _name != "table":
        globals()[f"{_name}_Test"] = type(
            f"{_name}_Test",
            (ConfigTest,),
            dict(
                BUILDER_CONFIG_NAMES_TO_TEST=[_name],
                EXAMPLE_DIR=DUMMY / _folder,
                SPLITS={"utterances": _count},
                __module__=__name__,
            ),
        )


def prepare(data_dir, manual_dir, config):
    builder = speech_emotion_dataset_builder.Builder(data_dir=data_dir, config=config)
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=manual_dir)
    )
    return builder


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """The dummy table in the default format."""
    return prepare(tmp_path_factory.mktemp("data"), DUMMY / "table", "table")


@pytest.fixture
def examples(prepared):
    return {x["utterance"].decode(): x for x in prepared.as_data_source("utterances")}


def test_every_corpus_has_dummy_data():
    assert set(CONFIGS) == set(READERS)


def test_random_access_and_labels_by_name(prepared):
    assert prepared.info.full_name == "speech_emotion/table/1.0.0"
    assert prepared.info.file_format is tfds.core.FileFormat.ARRAY_RECORD
    again = tfds.builder_from_directory(prepared.data_path)
    assert again.info.metadata["labels"] == ["joyeux", "sad"]


def test_labels_are_in_the_readers_order(tmp_path):
    labels = prepare(tmp_path, DUMMY / "ravdess", "ravdess").info.metadata["labels"]
    assert labels == ["neutral", "calm", "angry", "surprised"]


def test_features(examples):
    example = examples["zoé-1"]
    groups = ("label", "speaker", "session", "dialog", "language", "split", "fold")
    assert [example[name].decode() for name in groups] == [
        "joyeux", "Zoé", "1", "kitchen", "fr", "validation", "2",
    ]  # fmt: skip
    assert example["transcript"].decode() == 'The kettle, she said, is "on".'
    np.testing.assert_array_equal(example["audio"], audio.load(DUMMY / "table" / "zoé.wav"))
    spoken = audio.load(DUMMY / "table" / "spoken.mp3")
    np.testing.assert_array_equal(example["augmented_audio"], spoken)
    assert example["augmented_lengths"].tolist() == [len(spoken)]
    assert [voice.decode() for voice in example["augmented_voice"]] == ["narrator"]


def test_unknown_is_empty(examples):
    example = examples["long_0.0"]
    assert example["speaker"] == example["split"] == example["augmented_transcript"] == b""
    assert example["augmented_audio"].shape == example["augmented_lengths"].shape == (0,)
    assert len(example["augmented_voice"]) == 0


def test_parts_of_a_longer_recording(examples):
    whole, rate = soundfile.read(DUMMY / "table" / "long.wav", dtype="int16")
    parts = [examples["long_0.0"]["audio"], examples["long_0.2"]["audio"]]
    assert rate == 16_000
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_all_bad_recordings_are_named_and_nothing_is_written(tmp_path):
    manual_dir = tmp_path / "manual"
    manual_dir.mkdir()
    soundfile.write(manual_dir / "good.wav", np.ones(800), 16_000)
    soundfile.write(manual_dir / "silent.wav", np.zeros(800), 16_000)
    soundfile.write(manual_dir / "long.flac", np.ones(1_800_000, np.int16), 1000)
    (manual_dir / "text.wav").write_text("no sound")
    (manual_dir / "table.csv").write_text(
        "audio,label,start,end\ngood.wav,a,,\nsilent.wav,b,,\nlong.flac,a,,\ntext.wav,b,,\n"
        "good.wav,b,0,9\n"
    )
    with pytest.raises(CorpusError) as error:
        prepare(tmp_path / "data", manual_dir, "table")
    message = str(error.value)
    assert message.startswith("4 things cannot be used")
    for number, name, reason in (
        (3, "silent.wav", "silence"),
        (4, "long.flac", "1800 s in one row"),
        (5, "text.wav", "not readable as audio"),
        (6, "good.wav", "seconds 0 to 9 of a recording of 0.05 s"),
    ):
        assert f"line {number}: " in message and f": audio {manual_dir / name}: {reason}" in message
    assert not list((tmp_path / "data").rglob("*.array_record*"))


def test_what_is_left_out_may_be_bad(tmp_path):
    manual_dir = tmp_path / "manual"
    shutil.copytree(DUMMY / "savee", manual_dir)
    (manual_dir / "AudioData/DC/a01.wav").write_bytes(b"")
    (manual_dir / "left_out.txt").write_text("DC_a01\n")
    info = prepare(tmp_path / "data", manual_dir, "savee").info
    assert info.splits["utterances"].num_examples == 6 and "anger" not in info.metadata["labels"]


@pytest.mark.parametrize("config", ["table", "meld"])
def test_nothing_there_says_what_goes_where(config, tmp_path):
    with pytest.raises(CorpusError) as error:
        prepare(tmp_path / "data", tmp_path / "manual", config)
    assert READERS[config].layout in str(error.value)
    assert f"tfds build datasets/speech_emotion --config={config}" in str(error.value)


def test_a_users_mistake_ends_without_a_traceback(capsys):
    said = []
    hook = speech_emotion_dataset_builder._message_alone
    for error in (CorpusError("Mend the table."), ValueError("ours")):
        hook(type(error), error, None, default=lambda *told: said.append(told[1]))
    assert capsys.readouterr().err == "\nMend the table.\n"
    assert [str(error) for error in said] == ["ours"]


if __name__ == "__main__":
    tfds.testing.test_main()


def test_views_beside_a_corpus_are_built_with_it(tmp_path):
    manual = tmp_path / "manual"
    shutil.copytree(DUMMY / "ravdess", manual)
    plain = prepare(tmp_path / "plain", manual, "ravdess").as_data_source("utterances")
    first = plain[0]["utterance"].decode()
    (manual / "augmented" / "wav").mkdir(parents=True)
    sound = np.random.default_rng(0).normal(0, 0.1, 8000)
    soundfile.write(manual / "augmented" / "wav" / "1.wav", sound, 16_000)
    (manual / "augmented" / "augmented.csv").write_text(
        f"utterance,text,audio,voice\n{first},Hi.,wav/1.wav,2\n"
    )
    built = prepare(tmp_path / "views", manual, "ravdess").as_data_source("utterances")
    assert len(built) == len(plain)
    assert built[0]["augmented_transcript"] == b"Hi."
    assert built[0]["augmented_lengths"].tolist() == [8000]
    assert list(built[0]["augmented_voice"]) == [b"2"]
    assert not built[1]["augmented_transcript"] and not len(built[1]["augmented_lengths"])
