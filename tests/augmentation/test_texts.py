"""Other words, from a table, the authors' too, or a function: the most similar one is taken."""

import numpy as np
import pytest

from mmer_jax.augmentation import texts
from mmer_jax.data.corpus import Utterance
from mmer_jax.errors import UserError

UTTERANCES = [Utterance(i, name, 0, 1) for i, name in enumerate(("Ses01F_1", "Ses01F_2"))]
IDS = [u.id for u in UTTERANCES]


def test_overlap_is_the_f1_of_the_words():
    scores = texts.overlap(
        ["The cat sat.", "yes", "a a b", "Yes."], ["the CAT ran", "no", "a b b", ""]
    )
    np.testing.assert_allclose(scores, [2 / 3, 0, 2 / 3, 0])


def test_the_most_similar_of_those_with_other_words():
    found = texts.choose("I am here.", ["i am here", "I'm here.", "Far away"], [1.0, 0.8, 0.1], 0.2)
    assert found == ("I'm here.", 0.8, "")
    assert texts.choose("Hi.", ["HI", ""], [1.0, 0.0], 0.2) == ("", 1.0, texts.SAME)
    assert texts.choose("Hi.", ["Ho."], [0.1], 0.2) == ("", 0.1, texts.FAR)
    assert texts.choose("Hi.", [""], [0.0], 0.2) == texts.choose("Hi.", [], [], 0.2)
    assert texts.choose("Hi.", [], [], 0.2)[2] == texts.NONE
    assert texts.choose("a", ["b", "c"], [0.5, 0.5], 0)[0] == "b"  # the first of equal ones


def test_the_authors_table(tmp_path):
    """As they hand it out: an index, the file's name, transcripts twice, the text at the end."""
    path = tmp_path / "iemocap.csv"
    path.write_text(
        ",FileName,Sentences,emotion,transcript,AugmentedText\n"
        '0,Ses01F_1,"Well, no.",ang,WELL NO .,"No, thanks."\n'
        "1,Ses09F_9,Other.,ang,OTHER .,Another.\n"
        "2,Ses01F_2,Yes.,ang,YES .,Yeah.\n"
    )
    table = texts.Table(str(path), IDS)
    assert table.candidates(UTTERANCES, ["", ""], 0) == [["No, thanks."], ["Yeah."]]
    assert table.settings["column"] == "AugmentedText"


def test_a_users_table_may_name_recordings_and_several_texts(tmp_path):
    path = tmp_path / "own.csv"
    path.write_text("file,text\nwav/Ses01F_1.wav,One.\nwav/Ses01F_1.wav,Two.\n", "utf-8-sig")
    assert texts.Table(str(path), IDS).candidates(UTTERANCES, ["", ""], 0) == [["One.", "Two."], []]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("a,b\nSes01F_1,x\n", "expected `text`"),
        ("utterance,text\nx,y\n", "called like Ses01F_1"),
        ("utterance,text\nSes01F_1,Well, no.\n", "row 1"),
        ('utterance,text\nSes01F_1,"x\n', "can't be read"),
        ("", "has the columns"),
    ],
)
def test_a_bad_table_is_refused(content, found, tmp_path):
    path = tmp_path / "own.csv"
    path.write_text(content)
    with pytest.raises(UserError, match=found):
        texts.Table(str(path), IDS)


def test_a_function(tmp_path, monkeypatch):
    (tmp_path / "my_words.py").write_text(
        "def several(texts, seed):\n    return [[t.upper(), f'{t} {seed}'] for t in texts]\n"
        "def one(texts, seed):\n    return [t[::-1] for t in texts]\n"
        "def short(texts, seed):\n    return []\n"
        "def broken(texts, seed):\n    return 1 / 0\n"
    )
    monkeypatch.chdir(tmp_path)
    several = texts.Function("my_words:several")
    assert several.candidates(UTTERANCES, ["a", "b"], 3) == [["A", "a 3"], ["B", "b 3"]]
    assert texts.Function("my_words:one").candidates(UTTERANCES, ["ab", "c"], 3) == [["ba"], ["c"]]
    for name, found in (("short", "returned 0"), ("broken", "ZeroDivisionError")):
        with pytest.raises(UserError, match=found):
            texts.Function(f"my_words:{name}").candidates(UTTERANCES, ["a", "b"], 3)
    for name in ("my_words:none", "no_such_module:f", "my_words"):
        with pytest.raises(UserError, match="function"):
            texts.Function(name)
