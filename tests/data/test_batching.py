"""Buckets and the plan of a pass."""

import itertools

import numpy as np
import pytest

from mmer_jax.data import batching

EDGES = (16_000, 32_000, 64_000)


def random_lengths(n, seed=0):
    return np.random.default_rng(seed).integers(6_000, 64_000, n)


def fed(lengths, edges):
    return sum(min(e for e in edges if e >= n) for n in lengths)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_edges_waste_no_more_than_any_other_choice(count):
    lengths = random_lengths(40)
    levels = sorted({max(-(-n // 1600) * 1600, 8000) for n in lengths})
    best = min(
        fed(lengths, choice)
        for choice in itertools.combinations(levels, count)
        if choice[-1] >= max(lengths)
    )
    assert fed(lengths, batching.choose_edges(lengths, count, 210_000)) == best


def test_edges_end_at_the_limit():
    edges = batching.choose_edges([9_000, 500_000], 4, 210_000)
    assert edges[-1] == 210_000
    assert batching.choose_edges([500], 4, 210_000) == (batching.SHORTEST,)


@pytest.mark.parametrize("n", [1, 7, 16, 61])
@pytest.mark.parametrize("shuffled", [True, False])
def test_a_pass_has_every_utterance_once(n, shuffled):
    lengths = random_lengths(n)
    rng = np.random.default_rng(5) if shuffled else None
    plan = batching.plan(lengths, EDGES, 8, rng)
    assert len(plan) == -(-n // 8)
    rows = np.concatenate([rows for _, rows in plan])
    assert all(len(rows) == 8 for _, rows in plan)
    assert sorted(rows[rows != batching.FILL]) == list(range(n))


def test_an_utterance_fits_its_bucket():
    lengths = random_lengths(61)
    for bucket, rows in batching.plan(lengths, EDGES, 8, np.random.default_rng(1)):
        assert all(lengths[i] <= EDGES[bucket] for i in rows if i != batching.FILL)


def test_only_one_batch_is_short():
    plan = batching.plan(random_lengths(61), EDGES, 8, np.random.default_rng(1))
    assert sum((rows == batching.FILL).any() for _, rows in plan) == 1


def test_order_follows_the_rng_alone():
    def rows(seed):
        plan = batching.plan(random_lengths(61), EDGES, 8, np.random.default_rng(seed))
        return np.concatenate([r for _, r in plan]).tolist()

    assert rows(1) == rows(1) != rows(2)


def test_a_bucket_holds_the_texts_of_the_smaller_ones():
    buckets = batching.make_buckets((10, 20), [5, 15], tokens=[30, 7], symbols=[1, 9])
    assert [(b.tokens, b.symbols) for b in buckets] == [(32, 8), (32, 16)]


def test_padding_share_by_hand():
    # Two utterances of 8000 and 16000 in one batch of edge 16000: a quarter is padding.
    assert batching.padding_share(np.array([8_000, 16_000]), (16_000,), 2) == pytest.approx(0.25)
