"""Each corpus' reader on a tree of its own names and quirks."""

import collections
import importlib.util
import pathlib
import shutil

import pytest

from . import rows
from .readers import READERS, crema_d, esd, meld, ravdess
from .rows import CorpusError

DUMMY = pathlib.Path(__file__).parent / "dummy_data"
FOLDERS = {"crema_d_voted": "crema_d", "esd_en": "esd", "esd_zh": "esd"}
CORPORA = [name for name in READERS if name != "table"]


def dummy(name):
    return DUMMY / FOLDERS.get(name, name)


def read(name, folder=None):
    return {row.utterance: row for row in READERS[name].read(folder or dummy(name))}


@pytest.fixture
def tree(tmp_path):
    """Makes a corpus' dummy tree that a test may damage."""

    def copy(name):
        return pathlib.Path(shutil.copytree(dummy(name), tmp_path / name))

    return copy


def touch(folder, names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.mark.parametrize("name", CORPORA)
def test_dummy_data_are_a_corpus(name):
    found = list(read(name).values())
    rows.check(found, READERS[name])
    assert all(row.audio.is_file() and row.speaker and row.language for row in found)


@pytest.mark.parametrize("name", CORPORA)
def test_a_folder_of_something_else(name, tmp_path):
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(CorpusError) as error:
        READERS[name].read(tmp_path)
    assert READERS[name].layout in str(error.value) and str(tmp_path) in str(error.value)


@pytest.mark.parametrize(
    "name, stray",
    [
        ("emodb", "wav/03a03Fa.wav"),
        ("crema_d", "AudioWAV/1001_DFA_SUR_XX.wav"),
        ("savee", "AudioData/XX/a01.wav"),
        ("tess", "OAF_calm/OAF_back_calm.wav"),
        ("esd_en", "0011/Bored/0011_000001.wav"),
        ("ravdess", "Actor_01/03-02-01-01-01-01-01.wav"),
    ],
)
def test_unknown_names_are_named(name, stray, tree):
    folder = tree(name)
    touch(folder, [stray])
    with pytest.raises(CorpusError, match=pathlib.Path(stray).name):
        READERS[name].read(folder)


def test_litter_is_no_recording(tree):
    folder = tree("tess")
    touch(folder, ["OAF_angry/._OAF_back_angry.wav", "OAF_angry/Thumbs.db"])
    assert len(read("tess", folder)) == len(read("tess"))


def test_emodb():
    row = read("emodb")["03a01Fa"]
    assert (row.label, row.speaker, row.language) == ("happiness", "03", "de")
    assert row.transcript == "Der Lappen liegt auf dem Eisschrank."


def test_crema_d():
    found = read("crema_d")
    assert "1076_MTI_SAD_XX" not in found
    row = found["1001_DFA_ANG_XX"]
    assert (row.label, row.speaker) == ("anger", "1001")
    assert row.transcript == "Don't forget a jacket."
    assert found["1040_ITH_SAD_XX"].audio.name == "1040_ITH_SAD_X.wav"


def test_crema_d_voted(caplog):
    with caplog.at_level("INFO", logger="absl"):
        found = read("crema_d_voted")
    intended = read("crema_d")
    assert found["1001_DFA_ANG_XX"].label == "anger"
    assert found["1040_ITH_SAD_XX"].label == "neutral" != intended["1040_ITH_SAD_XX"].label
    assert len(found) == len(intended) - 1 and "are left out: their vote is a tie" in caplog.text


def test_crema_d_votes_that_lack(tree):
    folder = tree("crema_d")
    touch(folder, ["AudioWAV/1002_DFA_ANG_XX.wav"])
    with pytest.raises(CorpusError, match="1002_DFA_ANG_XX"):
        read("crema_d_voted", folder)
    (folder / crema_d.VOTES).write_text("a,b\n1,2\n")
    with pytest.raises(CorpusError, match="VoiceVote"):
        read("crema_d_voted", folder)
    (folder / crema_d.VOTES).unlink()
    with pytest.raises(CorpusError, match="summaryTable"):
        read("crema_d_voted", folder)


def test_savee():
    found = read("savee")
    labels = {name: row.label for name, row in found.items()}
    assert labels["DC_a01"] == "anger" and labels["KL_sa15"] == "sadness"
    assert labels["JE_su01"] == "surprise" and found["DC_a01"].speaker == "DC"


def test_tess():
    found = read("tess")
    assert found["OAF_bite_neutral"].audio.name == "OA_bite_neutral.wav"
    row = found["YAF_back_ps"]
    assert (row.label, row.speaker, row.transcript) == ("surprise", "YAF", "Say the word back.")


def test_tess_unpacked_twice(tree):
    folder = tree("tess")
    shutil.copytree(folder / "OAF_Fear", folder / "TESS" / "OAF_Fear")
    with pytest.raises(CorpusError, match="the same utterance 'OAF_back_fear'"):
        rows.check(READERS["tess"].read(folder), READERS["tess"])


def test_meld(caplog):
    with caplog.at_level("INFO", logger="absl"):
        found = read("meld")
    row = found["train_dia0_utt0"]
    assert (row.label, row.speaker, row.split) == ("neutral", "Ada", "train")
    assert (row.dialog, row.session) == ("train_dia0", "s8e21")
    assert row.transcript == "It’s a kettle, isn’t it?"
    parts = collections.Counter(row.split for row in found.values())
    assert parts == {"train": 3, "validation": 2, "test": 2}
    assert not {"train_dia125_utt3", "test_dia38_utt4"} & set(found)
    assert "1 clips in output_repeated_splits_test have no row" in caplog.text
    assert "train_splits/dia125_utt3" in caplog.text and "dia38_utt4" in caplog.text


def test_meld_mended_clip_is_used(tree):
    folder = tree("meld")
    touch(folder, ["train_splits/dia125_utt3.wav"])
    assert "train_dia125_utt3" in read("meld", folder)


def test_meld_without_its_sound(tree):
    folder = tree("meld")
    for path in folder.rglob("*.wav"):
        path.rename(path.with_suffix(".mp4"))
    with pytest.raises(CorpusError) as error:
        read("meld", folder)
    assert "no wav in train_splits" in str(error.value) and "ffmpeg" in str(error.value)


def test_meld_counts(tree, monkeypatch):
    cells = {"train neutral": 3, "train joy": 1, "validation anger": 1, "validation fear": 1}
    monkeypatch.setattr(meld, "COUNTS", cells | {"test joy": 2, "test sadness": 2})
    with pytest.raises(CorpusError) as error:
        read("meld")
    assert "test sadness: 1 utterances, published: 2" in str(error.value)


@pytest.mark.parametrize("text", ["It\x92s", "It’s", " It’s\n"])
def test_meld_texts_are_mended(text):
    assert meld.mend(text) == "It’s"


def test_esd_texts_of_any_encoding():
    english, mandarin = read("esd_en"), read("esd_zh")
    assert english["0011_000351"].transcript == "The kettle’s on the stove."
    assert english["0012_000001"].transcript == "Nobody swept the yard."
    # Lines without one of their tabs.
    assert english["0011_000401"].transcript == "The yard is clean."
    assert english["0012_000021"].transcript == "It rained all day."
    assert mandarin["0001_000351"].transcript == "水壶在炉子上。"
    assert mandarin["0003_000001"].transcript == "没有人扫院子。"
    assert english["0011_000351"].label == "angry" and mandarin["0003_000001"].language == "zh"


def test_esd_parts_are_the_folders_or_the_numbers():
    assert {n: row.split for n, row in read("esd_en").items() if n.startswith("0011")} == {
        "0011_000351": "validation", "0011_000371": "test", "0011_000401": "train",
    }  # fmt: skip
    folders = {n: row.split for n, row in read("esd_en").items() if n.startswith("0012")}
    assert folders == {"0012_000001": "validation", "0012_000021": "test", "0012_000351": "train"}


def test_esd_without_texts(tree, caplog):
    folder = tree("esd_en")
    (folder / "0011" / "0011.txt").unlink()
    assert read("esd_en", folder)["0011_000351"].transcript == ""
    assert "0011.txt is missing" in caplog.text and "3 of 6 recordings have no text" in caplog.text


def test_esd_of_the_other_language_alone(tree):
    folder = tree("esd_zh")
    shutil.rmtree(folder / "0011"), shutil.rmtree(folder / "0012")
    with pytest.raises(CorpusError, match="0011 to 0020"):
        read("esd_en", folder)


def test_ravdess_folds():
    folds = collections.defaultdict(set)
    for actor, fold in ravdess._FOLD_OF.items():
        folds[fold].add(actor)
    assert sorted(folds) == list("123456") and set().union(*folds.values()) == set(range(1, 25))
    row = read("ravdess")["03-01-05-01-02-01-20"]
    assert (row.label, row.speaker, row.fold) == ("angry", "20", "1")
    assert row.transcript == "Dogs are sitting by the door."


def names_of_savee():
    for speaker in ("DC", "JE", "JK", "KL"):
        for emotion in ("a", "d", "f", "h", "n", "sa", "su"):
            for number in range(1, 31 if emotion == "n" else 16):
                yield f"AudioData/{speaker}/{emotion}{number:02d}.wav"


def test_a_whole_corpus_has_the_published_counts(tmp_path):
    reader = READERS["savee"]
    touch(tmp_path, names_of_savee())
    found = reader.read(tmp_path)
    rows.check(found, reader)
    assert rows.count_labels(found, reader) == reader.counts and len(found) == 480
    (tmp_path / "AudioData/JK/sa07.wav").unlink()
    with pytest.raises(CorpusError, match="sadness: 59 utterances, published: 60"):
        rows.check(reader.read(tmp_path), reader)


def test_published_totals():
    totals = {name: sum(READERS[name].counts.values()) for name in CORPORA}
    assert totals == {
        "emodb": 535, "ravdess": 1440, "savee": 480, "tess": 2800, "esd_en": 17_500,
        "esd_zh": 17_500, "crema_d": 0, "crema_d_voted": 0, "meld": 0,
    }  # fmt: skip
    assert sum(crema_d.COUNTS.values()) == 7442
    assert sum(meld.COUNTS.values()) == 13_708
    parts = [sum(n for c, n in meld.COUNTS.items() if c.startswith(p)) for p in meld.PARTS]
    assert parts == [9989, 1109, 2610]


def test_a_part_of_a_corpus_is_not_compared(caplog):
    rows.check_counts({"a": 2, "b": 1}, {"a": 5, "b": 5})
    assert "3 utterances of 10 published" in caplog.text
    with pytest.raises(CorpusError, match="b: 4 utterances, published: 5"):
        rows.check_counts({"a": 5, "b": 4}, {"a": 5, "b": 5})


def test_esd_split_sizes():
    parts = collections.Counter(esd._part(number) for number in range(1, 5 * 350 + 1))
    assert parts == {"train": 1500, "validation": 100, "test": 150}


def test_utterances_can_be_left_out_by_name(tree):
    folder = tree("savee")
    (folder / "left_out.txt").write_text("KL_sa15\r\n\nDC_a01\n")
    found = READERS["savee"].read(folder)
    kept = rows.leave_out(found, folder)
    assert {row.utterance for row in found} - {row.utterance for row in kept} == {
        "KL_sa15", "DC_a01",
    }  # fmt: skip
    (folder / "left_out.txt").write_text("DC_a99\n")
    with pytest.raises(CorpusError, match="no utterance 'DC_a99'"):
        rows.leave_out(found, folder)


def test_every_corpus_has_a_config_to_train_it():
    path = pathlib.Path(__file__).parents[2] / "configs" / "corpus.py"
    spec = importlib.util.spec_from_file_location("corpus", path)
    spec.loader.exec_module(corpus := importlib.util.module_from_spec(spec))
    assert set(corpus.VARIANTS) == set(READERS)
