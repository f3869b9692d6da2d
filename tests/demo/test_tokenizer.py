"""The tokenizer reads offline and knows every word of its corpus."""

import csv

import pytest
from transformers import AutoTokenizer

from mmer_jax.demo import plan, release, tokenizer


@pytest.fixture(params=["plain", "awkward"])
def made(request):
    root = request.getfixturevalue(request.param)
    options = (0, 2, False) if request.param == "plain" else (3, 3, True)
    return root, plan.turns(*options)


def test_no_text_of_the_corpus_has_an_unknown_token(made):
    root, turns = made
    loaded = AutoTokenizer.from_pretrained(root / "tokenizer", local_files_only=True)
    with (root / "augmented" / "augmented.csv").open(newline="", encoding="utf-8") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    texts += [release.joined(turn) for turn in turns]
    assert all(loaded.unk_token_id not in ids for ids in loaded(texts)["input_ids"])


def test_special_tokens_are_those_of_bert(plain):
    loaded = AutoTokenizer.from_pretrained(plain / "tokenizer", local_files_only=True)
    assert loaded.is_fast and loaded.pad_token_id == 0
    assert len(loaded) <= 600
    tokens = loaded.convert_ids_to_tokens(loaded("STATION, Tom.")["input_ids"])
    assert tokens == ["[CLS]", "station", ",", "tom", ".", "[SEP]"]


def test_vocabulary_is_cut_at_the_rarest_words():
    texts = ["bb bb aa aa cc", "dd"]
    full = tokenizer.vocabulary(texts)
    assert full == [*tokenizer.SPECIAL, *"abcd", "##a", "##b", "##c", "##d", "aa", "bb", "cc", "dd"]
    assert tokenizer.vocabulary(texts, max_tokens=15) == full[:15]
