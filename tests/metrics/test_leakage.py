"""Which transcripts are known from training, and rates apart for them."""

import pytest

from mmer_jax.data.text import normalized
from mmer_jax.metrics import leakage


@pytest.mark.parametrize(
    "text", ["I don't know.", "i dont know", "[BREATHING] I don\u2019t  know!", "I DON'T KNOW..."]
)
def test_case_punctuation_and_events_do_not_hide_a_transcript(text):
    assert normalized(text) == "i dont know"


def test_seen_is_by_whole_transcript():
    train = ["Yes.", "I know that.", "[LAUGHTER]"]
    test = ["yes", "I know", "[LAUGHTER]", "that I know", "I KNOW that"]
    assert leakage.seen(train, test).tolist() == [True, False, False, False, True]


def test_rates_of_either_part_by_hand():
    found = leakage.split_rates([1, 1, 0, 0, 0], [0, 1, 0, 1, 1], [0, 1, 1, 1, 0], 2)
    assert found["share"] == 0.4
    assert found["seen"]["wa"] == 1.0 and found["seen"]["count"] == 2
    assert found["unseen"]["wa"] == pytest.approx(1 / 3)
    assert found["unseen"]["ua"] == pytest.approx(0.25)
    assert leakage.split_rates([0], [1], [1], 2)["seen"] is None
