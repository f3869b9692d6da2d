"""The builder on its dummy data: TFDS's own checks, then what the readers rely on."""

import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import tensorflow_datasets as tfds

from . import iemocap_dataset_builder
from .files import ReleaseError

READ = """
import json, sys
import tensorflow_datasets as tfds
source = tfds.builder_from_directory(sys.argv[1]).as_data_source("session4+session5")
example = source[len(source) - 1]
assert example["audio"].dtype == "int16" and example["audio"].any()
print(json.dumps([len(source), sorted(m for m in sys.modules if m == "tensorflow")]))
"""


class IemocapTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = iemocap_dataset_builder.Builder
    BUILDER_CONFIG_NAMES_TO_TEST = ["emotions4"]
    SPLITS = {"session1": 4, "session2": 4, "session3": 4, "session4": 4, "session5": 6}

    def _make_builder(self, config=None):
        # The test case reads with `as_dataset`, which array_record does not have.
        return self.DATASET_CLASS(data_dir=self.tmp_dir, config=config, file_format="tfrecord")


class IemocapAllTest(IemocapTest):
    BUILDER_CONFIG_NAMES_TO_TEST = ["all"]
    SPLITS = {"session1": 5, "session2": 6, "session3": 5, "session4": 5, "session5": 7}


def prepare(data_dir, manual_dir, config=None):
    builder = iemocap_dataset_builder.Builder(data_dir=data_dir, config=config)
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=manual_dir)
    )
    return builder


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """The dummy data in the default config and format."""
    dummy = pathlib.Path(__file__).parent / "dummy_data"
    return prepare(tmp_path_factory.mktemp("data"), dummy)


@pytest.fixture
def examples(prepared):
    sources = [prepared.as_data_source(f"session{session}") for session in range(1, 6)]
    return {x["utterance"].decode(): x for source in sources for x in source}


def test_default_is_four_emotions_with_random_access(prepared):
    assert prepared.info.full_name == "iemocap/emotions4/2.0.0"
    assert prepared.info.file_format is tfds.core.FileFormat.ARRAY_RECORD
    assert prepared.info.metadata["labels"] == ["ang", "hap", "neu", "sad"]


def test_examples_are_in_order_of_id(examples):
    assert list(examples) == sorted(examples) and len(examples) == 22


def test_features(examples):
    example = examples["Ses05M_script01_1b_M000"]
    expected = {
        "label": b"hap",  # exc is merged into it.
        "gender": 1,
        "style": 1,
        "speaker": b"Ses05M",
        "session": b"5",
        "dialog": b"Ses05M_script01_1b",
        "language": b"en",
        "split": b"",
        "fold": b"",
    }
    assert {name: example[name] for name in expected} == expected
    assert example["valence"] == example["activation"] - 1 == 2.0
    samples = 16_000 * (example["end"] - example["start"])
    assert len(example["audio"]) == pytest.approx(samples, abs=3)


def test_augmented_wavs_follow_their_utterance(examples, release):
    example = examples["Ses01F_impro01_F000"]
    wavs = [release.wav(path) for path in sorted(release.augmented.rglob("*_impro01_F000.wav"))]
    assert example["augmented_transcript"] == b"Well, the kettle stands on the stove."
    assert example["augmented_lengths"].tolist() == [len(wav) for wav in wavs]
    np.testing.assert_array_equal(example["augmented_audio"], np.concatenate(wavs))
    voices = [voice.decode() for voice in example["augmented_voice"]]
    assert voices == ["Ses03F", "narrator"]


def test_no_augmented_data_are_empty(examples):
    example = examples["Ses02F_impro02_F000"]
    assert example["augmented_transcript"] == b""
    assert example["augmented_audio"].shape == example["augmented_lengths"].shape == (0,)
    assert len(example["augmented_voice"]) == 0


def test_a_voice_that_nobody_named_is_empty(examples):
    assert list(examples["Ses05M_script01_1_F000"]["augmented_voice"]) == [b""]


def test_reading_imports_no_tensorflow(prepared):
    command = [sys.executable, "-c", READ, str(prepared.data_path)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert json.loads(out.splitlines()[-1]) == [10, []]


def test_archive_prepares_the_same_examples(prepared, release, tmp_path):
    # Not the files' bytes: protobuf orders an example's fields anew in every process.
    release.pack()
    again = prepare(tmp_path / "data", release.manual_dir)
    for split in prepared.info.splits:
        folder, archive = prepared.as_data_source(split), again.as_data_source(split)
        assert len(folder) == len(archive)
        for expected, found in zip(folder, archive):
            np.testing.assert_equal(found, expected)


def test_the_log_counts_the_views_and_names_what_is_not_used(release, tmp_path, caplog):
    spare = release.root / "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000 (1).wav"
    spare.write_bytes(b"x")
    with caplog.at_level("INFO", logger="absl"):
        prepare(tmp_path, release.manual_dir)
    line = "Augmented views: of 22 utterances 3 have a text, 3 a recording, 3 both."
    assert line in caplog.text
    assert "1 files are not used" in caplog.text and spare.name in caplog.text
    assert "1 augmented recordings are in the voice of a speaker of the corpus, 1" in caplog.text
    assert "2 of 4 augmented recordings do not say whose voice" in caplog.text


def test_flac_is_augmented_data_as_well(release, tmp_path):
    path = release.augmented / "bass" / "bass_Ses01F_impro01_F000.wav"
    expected = release.wav(path)
    soundfile.write(path.with_suffix(".flac"), expected, 16_000, subtype="PCM_16")
    path.unlink()
    table = release.augmented / "text.csv"
    table.write_text(table.read_text().replace(path.name, path.stem + ".flac"))
    example = prepare(tmp_path, release.manual_dir).as_data_source("session1")[0]
    assert example["utterance"] == b"Ses01F_impro01_F000"
    np.testing.assert_array_equal(example["augmented_audio"][-len(expected) :], expected)


def test_a_failed_build_leaves_nothing_and_the_next_one_is_whole(release, tmp_path):
    wav = release.root / "Session3/sentences/wav/Ses03M_script01_1/Ses03M_script01_1_F000.wav"
    whole = wav.read_bytes()
    wav.write_bytes(whole[:-100])
    with pytest.raises(ReleaseError, match=wav.name):
        prepare(tmp_path, release.manual_dir)
    assert not list(tmp_path.glob("iemocap/emotions4/*"))
    wav.write_bytes(whole)
    assert prepare(tmp_path, release.manual_dir).info.splits.total_num_examples == 22


def test_a_session_without_utterances_has_no_split(release, tmp_path):
    shutil.rmtree(release.root / "Session2")
    for path in release.augmented.rglob("*Ses02*"):
        path.unlink()
    splits = prepare(tmp_path, release.manual_dir).info.splits
    assert sorted(splits) == ["session1", "session3", "session4", "session5"]


@pytest.mark.parametrize("made", [False, True])
def test_no_release_says_where_to_get_it(made, tmp_path):
    manual_dir = tmp_path / "manual"
    if made:
        (manual_dir / "IEMOCAP").mkdir(parents=True)
    with pytest.raises(ReleaseError) as error:
        prepare(tmp_path / "data", manual_dir)
    for part in (str(manual_dir), "https://sail.usc.edu/iemocap/", "tfds build datasets/iemocap"):
        assert part in str(error.value)


def test_a_users_mistake_ends_without_a_traceback(capsys):
    said = []
    for error in (ReleaseError("Unpack it again."), ValueError("ours")):
        iemocap_dataset_builder._message_alone(
            type(error), error, None, default=lambda *told: said.append(told[1])
        )
    assert capsys.readouterr().err == "\nUnpack it again.\n"
    assert [str(error) for error in said] == ["ours"]


if __name__ == "__main__":
    tfds.testing.test_main()
