"""The prepared dataset: what is read, without tensorflow, and what is said where it is missing."""

import dataclasses
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from mmer_jax.data import corpus as data_corpus
from mmer_jax.data import prepared as data_prepared
from mmer_jax.data.corpus import Corpus
from mmer_jax.errors import UserError


def test_every_utterance_with_its_recordings(prepared):
    corpus = Corpus(str(prepared / "tfds"))
    assert corpus.label_names == ("ang", "hap", "neu", "sad")
    assert len(corpus.utterances) == 80 == len({u.id for u in corpus.utterances})
    for u in corpus.utterances:
        audio, augmented = corpus.recordings(u)
        assert len(audio) == u.samples
        assert [len(a) for a in augmented] == [r.samples for r in u.augmented] != []
        assert all(r.voice.startswith("espeak-") for r in u.augmented)
        assert u.session == u.id[4] and u.dialog == u.id[:-5]
        assert u.speaker.endswith(u.id[-4])


def test_reading_batches_imports_no_tensorflow(prepared):
    program = f"""
import sys
from mmer_jax import configuration
from mmer_jax.data import loader, text
from mmer_jax.data.corpus import Corpus
from mmer_jax.data.preprocessing import Preprocessor
corpus = Corpus({str(prepared / "tfds")!r})
tokenizer = text.Tokenizer({str(prepared / "corpus" / "tokenizer")!r}, 32)
preprocessor = Preprocessor(tokenizer, 210_000, False)
collator = loader.Collator(configuration.default(), corpus, preprocessor, True)
batches = loader.Batches(collator, corpus.utterances, 4, seed=0)
with loader.DeviceIterator(batches, dict, 2, 2) as iterator:
    next(iterator)
assert "tensorflow" not in sys.modules, "tensorflow was imported"
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


OLD = """
import sys
import tensorflow_datasets as tfds
new = tfds.builder_from_directory(sys.argv[1])
features = dict(new.info.features)
for name in ("session", "language", "split", "fold", "augmented_voice"):
    del features[name]
names = new.info.metadata["labels"]
features["label"] = tfds.features.ClassLabel(names=names)
def example(x):
    return {k: names.index(x[k].decode()) if k == "label" else x[k] for k in features}
tfds.dataset_builders.store_as_tfds_dataset(
    "iemocap", "1.0.0", tfds.features.FeaturesDict(features),
    {s: [(i, example(x)) for i, x in enumerate(new.as_data_source(s))] for s in new.info.splits},
    config="emotions4", data_dir=sys.argv[2], file_format="array_record", disable_shuffling=True,
)
"""


def test_a_dataset_of_an_older_version_is_the_same_with_unknown_voices(prepared, tmp_path):
    (folder,) = (prepared / "tfds" / "iemocap" / "emotions4").iterdir()
    subprocess.run([sys.executable, "-c", OLD, folder, tmp_path], check=True, capture_output=True)
    old, new = Corpus(str(tmp_path)), Corpus(str(prepared / "tfds"))
    assert (old.version, new.version) == ("1.0.0", "2.0.0")
    assert old.label_names == new.label_names and len(old.utterances) == len(new.utterances)
    for u, now in zip(old.utterances, new.utterances):
        assert {r.voice for r in u.augmented} == {""}
        assert dataclasses.replace(u, augmented=now.augmented, language="en") == now
    np.testing.assert_array_equal(
        old.recordings(old.utterances[-1])[0], new.recordings(new.utterances[-1])[0]
    )


def test_no_dataset_is_a_way_to_one(tmp_path):
    with pytest.raises(UserError, match="No prepared dataset iemocap/emotions4"):
        Corpus(str(tmp_path))


def test_the_newest_version_is_read_and_no_other_folder(prepared, tmp_path):
    """Names are compared as versions: 1.10.0 is newer than 1.9.0, and 1.0.0_old is none."""
    folder = tmp_path / "iemocap" / "emotions4"
    shutil.copytree(prepared / "tfds" / "iemocap" / "emotions4", folder)
    (version,) = (p for p in folder.iterdir() if p.name[0].isdigit())
    version.rename(folder / "1.10.0")
    for name in ("1.9.0", "1.10.0_old", "2.0.0.incompleteABC", "9"):
        (folder / name).mkdir()
    corpus = Corpus(str(tmp_path))
    assert len(corpus.utterances) == 80
    shutil.rmtree(folder / "1.10.0")
    with pytest.raises(UserError, match="No prepared dataset"):
        Corpus(str(tmp_path))


PEOPLE = "speech_emotion/people"


def test_a_table_of_numbered_speakers(people):
    corpus = Corpus(str(people), PEOPLE)
    assert corpus.label_names == ("exc", "hap", "neu", "sad") and corpus.left_out == {}
    assert len(corpus.utterances) == 96
    assert {u.speaker for u in corpus.utterances} == {str(s) for s in range(1, 13)}
    for u in corpus.utterances[:9]:
        assert (u.session, u.dialog, u.part, u.fold, u.augmented) == ("", "", "", "", ())
        assert len(corpus.recordings(u)[0]) == u.samples


def test_labels_are_selected_ordered_and_merged(people):
    every = Corpus(str(people), PEOPLE)
    corpus = Corpus(str(people), PEOPLE, ("sad", "hap"), {"exc": "hap"})
    assert corpus.label_names == ("sad", "hap") and corpus.left_out == {"neu": 24}
    assert len(corpus.utterances) == 72
    for u in corpus.utterances:
        before = every.utterances[u.index]  # its place in the whole dataset
        assert before.id == u.id
        assert (u.label == 0) == (every.label_names[before.label] == "sad")
        assert len(corpus.recordings(u)[0]) == u.samples
    renamed = Corpus(str(people), PEOPLE, (), {"exc": "joy", "hap": "joy"})
    assert renamed.label_names == ("joy", "neu", "sad")


@pytest.mark.parametrize(
    "labels, label_map, named",
    [
        (("sad", "angry"), {}, "angry.*exc, hap, neu, sad"),
        ((), {"calm": "neu"}, "calm"),
        (("exc", "sad"), {"exc": "hap"}, "'exc'.*with the map hap, neu, sad"),
        (("sad",), {}, "two classes"),
        (("sad", "xxx"), {}, "xxx"),
    ],
)
def test_a_label_that_names_nothing_is_refused(people, labels, label_map, named):
    with pytest.raises(UserError, match=named):
        Corpus(str(people), PEOPLE, labels, label_map)


BOTH = (PEOPLE, "speech_emotion/abroad")


def test_several_corpora_never_mix_up(people):
    parts = [Corpus(str(people), name) for name in BOTH]
    corpus = Corpus(str(people), BOTH, (), {"froh": "hap"})
    assert corpus.label_names == ("exc", "hap", "neu", "sad", "bored")
    assert corpus.version == "people 1.0.0, abroad 1.0.0"
    every = [(part, u) for part in parts for u in part.utterances]
    assert len(corpus.utterances) == len(every) == 96 + 42
    for i, (u, (part, alone)) in enumerate(zip(corpus.utterances, every)):
        name = "people" if part is parts[0] else "abroad"
        assert (u.index, u.corpus, u.id) == (i, name, f"{name}:{alone.id}")
        assert u.speaker == f"{name}:{alone.speaker}" and u.session == u.dialog == ""
        assert (u.language, u.transcript) == (alone.language, alone.transcript)
        label = part.label_names[alone.label]
        assert corpus.label_names[u.label] == {"froh": "hap"}.get(label, label)
        if i % 20 == 0:
            assert (corpus.recordings(u)[0] == part.recordings(alone)[0]).all()
    assert len({u.speaker for u in corpus.utterances}) == 12 + 7


def test_a_voice_of_one_corpus_is_no_speaker_of_another():
    row = {"id": "u", "speaker": "3", "augmented": [(0, 9, "3"), (9, 8, "")]}
    named = data_corpus._with_corpus(row, "people")
    assert (named["id"], named["speaker"]) == ("people:u", "people:3")
    assert named["augmented"] == [(0, 9, "people:3"), (9, 8, "")] and "session" not in named
    # By whichever name, it is the same recording.
    alone = data_corpus.recording("u", "3", "", "")
    assert data_corpus.recording("people:u", "people:3", "", "people") == alone
    assert data_corpus.recording("people:u", "people:3", "", "abroad") != alone


def test_corpora_that_can_not_be_joined_are_refused(people, tmp_path):
    for name in ("people", "again"):
        shutil.copytree(people / PEOPLE, tmp_path / "speech_emotion" / name)
    with pytest.raises(UserError, match="96 utterances are in both again and people"):
        Corpus(str(tmp_path), (PEOPLE, "speech_emotion/again"))
    with pytest.raises(UserError, match="No utterance of speech_emotion/abroad.*bored, froh"):
        Corpus(str(people), BOTH, ("exc", "neu"))
    with pytest.raises(UserError, match="'calm'.*abroad.*exc, hap, neu, sad, bored, froh"):
        Corpus(str(people), BOTH, (), {"calm": "neu"})


def test_a_model_s_classes_may_be_lacking(people):
    corpus = Corpus(str(people), BOTH[1], ("sad", "exc", "hap"), {"froh": "exc"}, given=True)
    assert corpus.label_names == ("sad", "exc", "hap") and corpus.left_out == {"bored": 7}
    lacking = Corpus(str(people), BOTH[1], ("sad", "exc", "hap"), given=True)
    assert {u.label for u in lacking.utterances} == {0, 2}
    for label_map, message in (
        ({"bored": "calm"}, "maps to 'calm'.*the classes sad, exc, hap"),
        ({"calm": "sad"}, "maps 'calm'"),
        ({"hap": "sad", "froh": "sad"}, "Less than two"),
    ):
        with pytest.raises(UserError, match=message):
            Corpus(str(people), BOTH[1], ("sad", "exc", "hap"), label_map, given=True)


@pytest.fixture
def copied(people, tmp_path):
    """A copy of it without an index."""
    shutil.copytree(people, tmp_path / "data")
    (folder,) = (tmp_path / "data").glob("speech_emotion/people/*.*.*")
    (folder / "index.json").unlink(missing_ok=True)
    data_prepared._index.cache_clear()
    return tmp_path / "data", folder / "index.json"


def test_the_index_is_made_once(copied, people, monkeypatch):
    data_dir, index = copied
    made = Corpus(str(data_dir), PEOPLE)
    assert index.exists() and made.utterances == Corpus(str(people), PEOPLE).utterances
    data_prepared._index.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(data_prepared, "_make_index", lambda _: pytest.fail("it was made again"))
        again = Corpus(str(data_dir), PEOPLE)
    assert again.utterances == made.utterances and again.label_names == made.label_names
    # Other shards are another dataset, and half an index is none.
    for change in (
        lambda: (index.parent / "more.array_record-00001-of-00002").write_text("x"),
        lambda: index.write_text(index.read_text()[:100]),
    ):
        change()
        data_prepared._index.cache_clear()
        assert Corpus(str(data_dir), PEOPLE).utterances == made.utterances
        assert json.loads(index.read_text())["files"].keys() >= {"features.json"}


def test_a_feature_that_a_flipped_bit_made_unknown_is_a_damage(copied):
    data_dir, index = copied
    features = index.parent / "features.json"
    features.write_text(features.read_text().replace("text_feature.", "text_featuse."))
    with pytest.raises(UserError, match=f"{index.parent} can't be read.*damaged"):
        Corpus(str(data_dir), PEOPLE)


def test_opening_reads_the_index_and_no_audio(copied):
    """However many utterances there are: shards that nobody can read any more don't matter."""
    data_dir, index = copied
    made = Corpus(str(data_dir), PEOPLE)
    for shard in index.parent.glob("*.array_record*"):
        shard.write_bytes(b"?" * shard.stat().st_size)
    data_prepared._index.cache_clear()
    again = Corpus(str(data_dir), PEOPLE)
    assert again.utterances == made.utterances and again.label_names == made.label_names
    with pytest.raises(Exception):  # noqa: B017 - of array_record
        again.recordings(again.utterances[0])


def test_a_dataset_that_can_only_be_read_has_its_index_in_memory(copied, monkeypatch):
    data_dir, index = copied

    def refused(*_):
        raise OSError("read-only file system")

    monkeypatch.setattr(data_prepared.files, "replace_file", refused)
    corpus = Corpus(str(data_dir), PEOPLE)
    assert len(corpus.utterances) == 96 and not index.exists()
    monkeypatch.setattr(data_prepared, "_make_index", lambda _: pytest.fail("it was made again"))
    assert Corpus(str(data_dir), PEOPLE).utterances == corpus.utterances
