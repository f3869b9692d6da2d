"""The augmented view says the same in other words and in a voice that no speaker has."""

import csv
import re
import wave
from collections import Counter

import pytest

from mmer_jax.demo import plan, speech

PROSODY = speech.Prosody(0.0, 0.0, 0.0, 0.0, 0.0)


@pytest.fixture(scope="module")
def rows(plain):
    with (plain / "augmented" / "augmented.csv").open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        assert reader.fieldnames == ["utterance", "text", "audio", "voice"]
        return list(reader)


def test_each_four_class_utterance_has_another_wording(rows):
    turns = {turn.utterance: turn for turn in plan.turns(0, 2, False)}
    texts = {row["utterance"]: row["text"] for row in rows}
    assert texts.keys() == {name for name, turn in turns.items() if turn.four_class}
    assert all(texts[name] and texts[name] != turns[name].text.sentence for name in texts)
    assert all(texts[row["utterance"]] == row["text"] for row in rows)


def test_wavs_end_in_the_utterance_and_some_have_two(plain, rows):
    paths = sorted((plain / "augmented" / "wav").iterdir())
    assert paths == sorted(plain / "augmented" / row["audio"] for row in rows)
    assert all(row["audio"].endswith(f"_as_{row['utterance']}.wav") for row in rows)
    assert set(Counter(row["utterance"] for row in rows).values()) == {1, 2}


def test_no_recording_is_in_a_speakers_voice(rows):
    assert {row["voice"] for row in rows} <= {f"espeak-{name}" for name in speech.AUGMENTED_VOICES}
    cast = {speech.espeak_job("", name, PROSODY, 0)["voice"] for name in speech.VOICES}
    others = {speech.espeak_job("", name, PROSODY, 0)["voice"] for name in speech.AUGMENTED_VOICES}
    assert len(cast) == len(others) == 10 and not cast & others
    for clip in plan.clips(0, plan.turns(0, 2, False)):
        assert speech.espeak_job("", clip.voice, clip.prosody, 0)["voice"] in others


def test_wavs_are_speech_at_16_khz(plain):
    for path in (plain / "augmented" / "wav").iterdir():
        with wave.open(str(path)) as file:
            assert file.getparams()[:3] == (1, 2, 16000)
            assert file.getnframes() > 0.5 * 16000


def slots(template):
    return set(re.findall(r"\{(\w+)\}", template))


@pytest.mark.parametrize("pool", plan.POOLS)
def test_paraphrases_share_the_slots_of_their_sentence(pool):
    for sentence, *others in plan.POOLS[pool]:
        assert others
        for other in others:
            assert slots(other) == slots(sentence), sentence
            assert other != sentence


def test_no_wording_stands_in_two_pools():
    words = [text for rows in plan.POOLS.values() for row in rows for text in row]
    assert len(words) == len(set(words))
