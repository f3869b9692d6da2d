"""Intervals that widen with fewer groups, and comparisons that find what is there and no more."""

import numpy as np
import pytest

from mmer_jax.evaluation import bootstrap, metrics


def utterances(seed, accuracy, groups=10, size=40, classes=4, spread=0.0):
    """Counts by group of a system whose groups differ in accuracy by `spread`."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(groups), size)
    label = np.tile(np.arange(classes), groups * size // classes)
    level = np.clip(accuracy + spread * rng.standard_normal(groups), 0, 1)[group]
    right = rng.random(len(label)) < level
    guess = np.where(right, label, (label + rng.integers(1, classes, len(label))) % classes)
    names = [f"g{i}" for i in group]
    return bootstrap.by_group(names, label, guess, classes)


def test_counts_add_up_to_the_confusion_matrix():
    label, guess = [0, 1, 1, 0], [0, 1, 0, 0]
    counts = bootstrap.by_group(["b", "a", "a", "b"], label, guess, 2)
    assert list(counts) == ["a", "b"]
    np.testing.assert_array_equal(sum(counts.values()), metrics.confusion(label, guess, 2))


def test_rates_are_those_of_metrics():
    rng = np.random.default_rng(0)
    matrices = rng.integers(0, 9, (20, 4, 4))
    matrices[0, 2] = 0  # a class without utterances
    matrices[1, :, 3] = 0  # one that is never guessed
    found = bootstrap.rates(matrices)
    for i, matrix in enumerate(matrices):
        expected = metrics.rates(matrix)
        for name in bootstrap.RATES:
            assert found[name][i] == pytest.approx(expected[name]), (i, name)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    covered = [
        low <= 0.7 <= high
        for low, high in (
            bootstrap.intervals(utterances(seed, 0.7, groups=30))["wa"] for seed in range(60)
        )
    ]
    assert 0.85 <= np.mean(covered) <= 1.0


def test_groups_that_differ_widen_the_interval():
    width = {}
    for spread in (0.0, 0.2):
        low, high = bootstrap.intervals(utterances(0, 0.6, spread=spread))["ua"]
        width[spread] = high - low
    assert width[0.2] > 2 * width[0.0]


def test_one_group_has_no_interval():
    assert bootstrap.intervals(utterances(0, 0.5, groups=1))["ua"] is None


def test_a_difference_is_found_where_there_is_one():
    better, worse = utterances(0, 0.8), utterances(1, 0.6)
    found = bootstrap.paired(better, worse)["ua"]
    assert found["difference"] == pytest.approx(0.2, abs=0.08)
    assert found["p"] < 0.01 and found["interval"][0] > 0
    swapped = bootstrap.paired(worse, better)["ua"]
    assert swapped["difference"] == -found["difference"] and swapped["p"] == found["p"]


def test_no_difference_where_there_is_none():
    same = utterances(0, 0.7)
    assert bootstrap.paired(same, same)["wa"] == {"difference": 0.0, "interval": [0, 0], "p": 1.0}
    often = [bootstrap.paired(utterances(s, 0.7), utterances(s + 99, 0.7))["ua"]["p"] < 0.05
             for s in range(40)]  # fmt: skip
    assert np.mean(often) < 0.2


def test_other_utterances_are_an_error():
    with pytest.raises(ValueError, match="same utterances"):
        bootstrap.paired(utterances(0, 0.7), utterances(0, 0.7, size=36))
