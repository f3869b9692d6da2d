"""The characters that CTC writes: English, and a corpus' own."""

import numpy as np
import pytest

from mmer_jax.data import alphabet
from mmer_jax.data.alphabet import ENGLISH, Alphabet


def test_the_english_symbols_are_wav2vec2s():
    assert len(ENGLISH.symbols) == 32
    known = {"<pad>": 0, "|": 4, "E": 5, "'": 27, "Z": 31}
    assert {s: ENGLISH.symbols.index(s) for s in known} == known


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
def test_the_english_alphabet_spells_a_transcript(raw, spelled):
    ids = ENGLISH.encode(raw)
    assert ENGLISH.decode(ids) == spelled == ENGLISH.reference(raw)
    assert not (ids == alphabet.BLANK).any()


TEXTS = {
    "German": ("Heute abend könnte ich es ihm sagen.", "heute abend könnte ich es ihm sagen"),
    "German in capitals": ("STRASSE, Straße -- a\u0308rger", "strasse strasse ärger"),
    "French": ("« L\u2019été, peut-être ! »", "l'été peut être"),
    "Russian": ("Нет, спасибо\u2014да", "нет спасибо да"),
    "Mandarin": ("你好\uff0c我很高兴\uff01\uff11\uff12", "你好我很高兴12"),
    "Hindi, whose vowels are marks": ("हिन्दी।", "हिन्दी"),
}


@pytest.mark.parametrize("language", TEXTS)
def test_a_corpus_own_alphabet_spells_its_transcripts(language):
    raw, spelled = TEXTS[language]
    own = Alphabet.of_transcripts([raw, raw])
    ids = own.encode(raw)
    assert own.decode(ids) == spelled == own.reference(raw)
    assert ids.min() >= 4 and ids.max() < len(own.symbols)
    assert own.symbols[:5] == ENGLISH.symbols[:5] and not own.is_english
    assert Alphabet.from_json(own.to_json()) == own


def test_characters_come_by_count_and_the_rare_ones_are_left_out(monkeypatch):
    texts = ["\u00e4\u00e4\u00e4 b", "\u00e4 b c c c", "b \u2764 ..."]
    own = Alphabet.of_transcripts(texts)
    assert own.characters == "\u00e4b"  # c is of one utterance alone, however often
    assert own.decode(own.encode(texts[1])) == "\u00e4 b"
    assert own.reference(texts[1]) == "\u00e4 b c c c"  # what it can't write is an error
    assert own.lacking(texts) == ({"c": 3}, pytest.approx(3 / 10))
    monkeypatch.setattr(alphabet, "MOST", 1)
    assert Alphabet.of_transcripts(texts).characters == "\u00e4"
    assert Alphabet.of_transcripts(["[LAUGHTER]", "..."]).characters == ""


def test_what_the_english_alphabet_lacks():
    assert ENGLISH.lacking(["I don't know \u2014 caf\u00e9!", ""]) == ({}, 0.0)
    lacking, share = ENGLISH.lacking(["\u0434\u0430 \u0434", "no 7"])
    assert lacking == {"\u0414": 2, "7": 1, "\u0410": 1} and share == pytest.approx(4 / 6)


def test_what_was_stored_before_there_were_others_is_english():
    for stored in (None, ""):
        assert Alphabet.from_json(stored) == ENGLISH
    assert ENGLISH.to_json() == ""
    np.testing.assert_array_equal(Alphabet().encode("ab"), ENGLISH.encode("AB"))
