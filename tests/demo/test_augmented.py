"""The augmented view says the same in other words and in another voice."""

import csv
import re
import wave
from collections import Counter

import pytest

from mmer_jax.demo import plan, sentences


@pytest.fixture(scope="module")
def rows(plain):
    with (plain / "augmented" / "augmented.csv").open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        assert reader.fieldnames == ["utterance", "text"]
        return {row["utterance"]: row["text"] for row in reader}


def test_each_four_class_utterance_has_another_wording(rows):
    turns = {turn.utterance: turn for turn in plan.turns(0, 2, False)}
    assert rows.keys() == {name for name, turn in turns.items() if turn.four_class}
    assert all(rows[name] and rows[name] != turns[name].text.sentence for name in rows)


def test_wavs_end_in_the_utterance_and_some_have_two(plain, rows):
    paths = sorted((plain / "augmented" / "wav").iterdir())
    names = [re.fullmatch(r"Ses0([1-5][FM])_as_(Ses0\S+)\.wav", path.name) for path in paths]
    assert all(names)
    counts = Counter(match[2] for match in names)
    assert counts.keys() == rows.keys()
    assert set(counts.values()) == {1, 2}
    for match in names:
        assert match[1] != match[2][4] + match[2][-4]


def test_wavs_are_speech_at_16_khz(plain):
    for path in (plain / "augmented" / "wav").iterdir():
        with wave.open(str(path)) as file:
            assert file.getparams()[:3] == (1, 2, 16000)
            assert file.getnframes() > 0.5 * 16000


def slots(template):
    return set(re.findall(r"\{(\w+)\}", template))


@pytest.mark.parametrize("pool", sentences.POOLS)
def test_paraphrases_share_the_slots_of_their_sentence(pool):
    for sentence, *others in sentences.POOLS[pool]:
        assert others
        for other in others:
            assert slots(other) == slots(sentence), sentence
            assert other != sentence


def test_no_wording_stands_in_two_pools():
    words = [text for rows in sentences.POOLS.values() for row in rows for text in row]
    assert len(words) == len(set(words))
