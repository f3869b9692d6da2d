"""Cleaning and tokens of transcripts."""

import json

import numpy as np
import pytest
import transformers

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


def _of_kind(kind, folder):
    folder.mkdir()
    letters = [chr(97 + i) for i in range(26)]
    if kind == "bert":
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters]
        (folder / "vocab.txt").write_text("\n".join([*words, *(f"##{x}" for x in letters)]))
        return transformers.BertTokenizerFast(str(folder / "vocab.txt"))
    symbols = ["<s>", "<pad>", "</s>", "<unk>", "\u0120", *letters, "<mask>"]
    (folder / "vocab.json").write_text(json.dumps({x: i for i, x in enumerate(symbols)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return transformers.RobertaTokenizerFast(
        str(folder / "vocab.json"), str(folder / "merges.txt"),
        add_prefix_space=kind == "roberta with a blank in front",
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["bert", "roberta", "roberta with a blank in front"])
def test_a_saved_tokenizer_is_the_same(kind, tmp_path):
    _of_kind(kind, tmp_path / "files").save_pretrained(tmp_path / "source")
    before = text.load_tokenizer(str(tmp_path / "source"))
    text.save_tokenizer(before, "source", str(tmp_path / "saved"))
    file = str(tmp_path / "saved" / "tokenizer.json")
    texts = ["it was you", "you broke the jacket", "a <mask> b", "a [MASK] b"]
    expected = before(texts, padding=True)
    for source in (file, str(tmp_path / "saved")):
        after = text.load_tokenizer(source)
        found = after(texts, padding=True)
        assert found["input_ids"] == expected["input_ids"]
        assert found["attention_mask"] == expected["attention_mask"]
        assert after.special_tokens_map == before.special_tokens_map
    ours = [text.Tokenizer(x, 16) for x in (file, str(tmp_path / "source"))]
    assert ours[0].pad_id == ours[1].pad_id == (0 if kind == "bert" else 1)
    assert ours[0].vocab_size == ours[1].vocab_size


def test_special_tokens_beside_a_tokenizer_are_data(tmp_path):
    """Whatever stands there adds no token, and no class is chosen by it."""
    text.save_tokenizer(_of_kind("bert", tmp_path / "files"), "x", str(tmp_path / "saved"))
    path = tmp_path / "saved" / "tokenizer_config.json"
    size = text.Tokenizer(str(tmp_path / "saved" / "tokenizer.json"), 8).vocab_size
    for content in ('{"pad_token": "[NEW]", "cls_token": 3, "tokenizer_class": "Evil"}', "[", "[]"):
        path.write_text(content)
        found = text.Tokenizer(str(tmp_path / "saved" / "tokenizer.json"), 8)
        assert (found.vocab_size, found.pad_id) == (size, 0)


def test_a_tokenizers_digest_is_its_content(prepared, tmp_path):
    source = str(prepared / "corpus" / "tokenizer")
    first = text.Tokenizer(source, 8)
    before = first.digest()
    first.ids("words that are cut because there are more of them than eight")
    assert first.digest() == text.Tokenizer(source, 16).digest() == before
    _of_kind("bert", tmp_path / "files").save_pretrained(tmp_path / "other")
    assert text.Tokenizer(str(tmp_path / "other"), 8).digest() != before


@pytest.mark.parametrize(
    "transcript",
    ["I don't know.", "i dont know", "[BREATHING] I don\u2019t  know!", "I DON'T KNOW..."],
)
def test_case_punctuation_and_events_do_not_hide_a_transcript(transcript):
    assert text.normalized(transcript) == "i dont know"


def test_vowels_that_are_marks_do_not_part_words():
    assert text.normalized("हिन्दी, हाँ!") == "हिन्दी हाँ"


def test_an_event_alone_is_nothing_spoken():
    assert text.spoken(["Yes.", "[LAUGHTER]", "yes"]) == {"yes"}
