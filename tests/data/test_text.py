"""Cleaning, CTC symbols and tokens of transcripts."""

import numpy as np
import pytest

from mmer_jax.data import text
from mmer_jax.errors import UserError


@pytest.mark.parametrize(
    "raw, expected",
    [
        ("  Excuse   me. ", "Excuse me."),
        ("[LAUGHTER] Yeah [BREATHING]", "Yeah"),
        ("It\u2019s \u201cfine\u201d", 'It\'s "fine"'),
        ("I -- don't know...", "I -- don't know..."),
        ("", ""),
    ],
)
def test_clean(raw, expected):
    assert text.clean(raw) == expected


def test_clean_can_keep_events():
    assert text.clean("[LAUGHTER] Yeah", keep_events=True) == "[LAUGHTER] Yeah"


def test_the_vocabulary_is_wav2vec2s():
    assert len(text.CTC_SYMBOLS) == 32
    known = {"<pad>": 0, "|": 4, "E": 5, "'": 27, "Z": 31}
    assert {s: text.CTC_SYMBOLS.index(s) for s in known} == known


@pytest.mark.parametrize(
    "raw, kept, taken_out",
    [
        ("[LAUGHTER] Yeah (sighs) no.", "Yeah (sighs) no.", "Yeah no."),
        ("[laughs]Oh [so] well", "[laughs]Oh [so] well", "Oh well"),
        ("one (two [three) four", "one (two [three) four", "one four"),
        ("I (think", "I (think", "I (think"),
    ],
)
def test_brackets_are_kept_or_taken_out(raw, kept, taken_out):
    assert text.clean(raw) == kept
    assert text.clean(raw, keep_brackets=False) == taken_out


@pytest.mark.parametrize(
    "raw, spelled",
    [
        ("Excuse me.", "EXCUSE ME"),
        ("[LAUGHTER] It's O.K.", "IT'S OK"),
        ("caf\u00e9 -- well-known", "CAFE WELL KNOWN"),
        ("12 [GARBAGE] ...", ""),
        ("", ""),
    ],
)
def test_ctc_targets_spell_the_transcript(raw, spelled):
    ids = text.ctc_targets(raw)
    assert text.ctc_text(ids) == spelled
    assert not (ids == text.CTC_BLANK).any()


def test_tokenizer_cuts_and_keeps_special_tokens(prepared):
    source = str(prepared / "corpus" / "tokenizer")
    whole = text.Tokenizer(source, 48).ids("I miss Tom so much it hurts.")
    short = text.Tokenizer(source, 5).ids("I miss Tom so much it hurts.")
    assert len(short) == 5 < len(whole)
    assert (short[0], short[-1]) == (whole[0], whole[-1])
    np.testing.assert_array_equal(short[:-1], whole[:4])


def test_tokenizer_of_an_empty_text_is_not_empty(prepared):
    assert len(text.Tokenizer(str(prepared / "corpus" / "tokenizer"), 8).ids("")) >= 1


def test_a_tokenizer_that_is_nowhere_is_one_message():
    with pytest.raises(UserError, match="no-such-tokenizer.*hub name such as roberta-base"):
        text.Tokenizer("no-such-tokenizer", 8)
