"""Views beside a corpus: read for any of them, and refused with what is wrong."""

import pathlib
import shutil

import pytest

from . import augmented
from .readers import READERS
from .rows import CorpusError, Row

HEAD = "utterance,text,audio,voice\n"
ROWS = [
    Row("a", pathlib.Path("a.wav"), "sad", "line 2", speaker="ann"),
    Row("b", pathlib.Path("b.wav"), "joy", "line 3", speaker="bob"),
    Row("c", pathlib.Path("c.wav"), "joy", "line 4"),
]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "augmented" / "wav").mkdir(parents=True)
    for name in ("1_a.wav", "2_a.wav"):
        (tmp_path / "augmented" / "wav" / name).touch()
    return tmp_path


def add(folder, lines):
    (folder / "augmented" / "augmented.csv").write_text(HEAD + lines)
    return augmented.add(ROWS, folder)


def test_a_line_a_recording(folder):
    lines = 'a,"Well, no.",wav/1_a.wav,bob\na,"Well, no.",wav/2_a.wav,\nb,Hi.,,\n'
    a, b, c = add(folder, lines)
    assert a.augmented_transcript == "Well, no." and a.augmented_voice == ("bob", "")
    assert [path.name for path in a.augmented_audio] == ["1_a.wav", "2_a.wav"]
    assert all(path.is_file() for path in a.augmented_audio)
    assert (b.augmented_transcript, b.augmented_audio, b.augmented_voice) == ("Hi.", (), ())
    assert c is ROWS[2]


def test_without_a_table_nothing_is_added(folder):
    assert augmented.add(ROWS, folder) is ROWS
    assert augmented.add(ROWS, folder / "elsewhere") is ROWS


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ("x,Hi.,,\n", "'x'"),
        ("a,Hi.,wav/1_a.wav,\na,Ho.,wav/2_a.wav,\n", "line 3: another text"),
        ("a,Hi.,wav/3_a.wav,\n", "3_a.wav"),
        ("a,Well, no.,wav/1_a.wav,\n", "5 columns"),
        ("a,Hi.,wav,\n", "no recording"),  # a folder
    ],
)
def test_a_bad_line_is_named(lines, found, folder):
    with pytest.raises(CorpusError, match=found):
        add(folder, lines)


def test_a_view_of_the_corpus_own_table_is_not_replaced(folder):
    own = [Row("a", pathlib.Path("a.wav"), "sad", "line 2", augmented_transcript="No.")]
    (folder / "augmented" / "augmented.csv").write_text(HEAD + "a,Hi.,,\n")
    with pytest.raises(CorpusError, match="own table"):
        augmented.add(own, folder)


def test_what_is_not_finished_is_refused(folder):
    (folder / "augmented" / "unfinished.run_augment_again").touch()
    with pytest.raises(CorpusError, match="not whole"):
        add(folder, "a,Hi.,,\n")


def test_views_are_no_recordings_of_the_corpus(folder):
    corpus = pathlib.Path(__file__).parent / "dummy_data" / "tess"
    shutil.copytree(corpus, folder, dirs_exist_ok=True)
    assert len(READERS["tess"].read(folder)) == len(READERS["tess"].read(corpus))
