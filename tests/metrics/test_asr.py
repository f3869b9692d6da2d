"""WER and CER in the CTC alphabet."""

import pytest

from mmer_jax.data.alphabet import Alphabet
from mmer_jax.metrics import asr


def test_by_hand():
    found = asr.error_rates(["I don't know.", "Yes!"], ["I DONT KNOW", "YES"])
    assert found["utterances"] == 2
    assert found["wer"] == pytest.approx(1 / 4)  # one word of four
    assert found["cer"] == pytest.approx(1 / 15)  # one character of 12 and 3


def test_what_nobody_said_is_left_out_and_silence_is_an_error():
    found = asr.error_rates(["[LAUGHTER]", "no"], ["HA", ""])
    assert found == {"wer": 1.0, "cer": 1.0, "utterances": 1}
    assert asr.error_rates(["..."], ["A"])["wer"] is None


def test_in_a_corpus_own_alphabet():
    texts = ["你好\uff0c你。", "你好\uff01"]
    found = asr.error_rates(texts, ["你好", "你好"], Alphabet.of_transcripts(texts))
    assert found["cer"] == pytest.approx(1 / 5)
    assert found["wer"] == pytest.approx(1 / 2)  # without spaces an utterance is one word
    # What the alphabet lacks, the head can't write: an error, not left out.
    lacking = asr.error_rates(["naïve"], ["nave"], Alphabet("nave"))
    assert lacking["cer"] == pytest.approx(1 / 5)
