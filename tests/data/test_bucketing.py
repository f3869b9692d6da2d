"""Buckets and the plan of a pass."""

import itertools

import numpy as np
import pytest

from mmer_jax.data import bucketing

EDGES = (16_000, 32_000, 64_000)


def random_lengths(n, seed=0):
    return np.random.default_rng(seed).integers(6_000, 64_000, n)


def choose_edges(lengths, count, longest=210_000, weights=None):
    return bucketing.edges_by_count(lengths, count, longest, weights)[-1]


def fed(lengths, edges):
    return sum(min(e for e in edges if e >= n) for n in lengths)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_edges_waste_no_more_than_any_other_choice(count):
    lengths = random_lengths(25)
    levels = sorted({max(-(-n // 320) * 320, 8000) for n in lengths})
    best = min(
        fed(lengths, choice)
        for choice in itertools.combinations(levels, count)
        if choice[-1] >= max(lengths)
    )
    assert fed(lengths, choose_edges(lengths, count, 210_000)) == best


def test_edges_end_at_the_limit():
    edges = choose_edges([9_000, 500_000], 4, 210_000)
    assert edges[-1] == 210_000
    assert choose_edges([500], 4, 210_000) == (bucketing.SHORTEST,)


@pytest.mark.parametrize("n", [1, 7, 16, 61])
@pytest.mark.parametrize("shuffled", [True, False])
def test_a_pass_has_every_utterance_once_in_a_bucket_that_holds_it(n, shuffled):
    lengths = random_lengths(n)
    rng = np.random.default_rng(5) if shuffled else None
    plan = bucketing.plan(lengths, EDGES, 8, rng)
    assert len(plan) == -(-n // 8) and all(len(rows) == 8 for _, rows in plan)
    real = [(k, i) for k, rows in plan for i in rows if i != bucketing.FILL]
    assert sorted(i for _, i in real) == list(range(n))
    assert all(lengths[i] <= EDGES[k] for k, i in real)


def test_order_follows_the_rng_alone():
    def rows(seed):
        plan = bucketing.plan(random_lengths(61), EDGES, 8, np.random.default_rng(seed))
        return np.concatenate([r for _, r in plan]).tolist()

    assert rows(1) == rows(1) != rows(2)


def test_a_bucket_holds_the_texts_of_the_smaller_ones():
    buckets = bucketing.make_buckets((10, 20), [5, 15], tokens=[30, 7], symbols=[1, 9])
    assert [(b.tokens, b.symbols) for b in buckets] == [(32, 8), (32, 16)]


def test_one_batch_is_short_and_of_the_shortest():
    plan = bucketing.plan(random_lengths(61), EDGES, 8, np.random.default_rng(1))
    ((bucket, rows),) = [(k, rows) for k, rows in plan if bucketing.FILL in rows]
    assert bucket == 0
    assert (rows[-3:] == bucketing.FILL).all()  # 61 = 8 * 8 - 3, fill rows last


def test_weights_count_an_utterance_as_often_as_it_comes_up():
    lengths, often = [16_000, 32_000, 48_000], [1, 5, 1]
    repeated = np.repeat(lengths, often)
    for count in (1, 2, 3):
        weighted = choose_edges(lengths, count, weights=often)
        assert weighted == choose_edges(repeated, count, 210_000)


def test_edges_by_count_are_the_best_of_each_count():
    lengths = random_lengths(40)
    by_count = bucketing.edges_by_count(lengths, 6, 210_000)
    assert [len(edges) for edges in by_count] == [1, 2, 3, 4, 5, 6]
    assert by_count == [choose_edges(lengths, n) for n in range(1, 7)]


def test_padding_share_by_hand():
    # Two utterances of 8000 and 16000 in one batch of edge 16000: a quarter is padding.
    assert bucketing.padding_share(np.array([8_000, 16_000]), (16_000,), 2) == pytest.approx(0.25)
    # A second view of 12000 each: 4 rows of 16000 hold 48000.
    views = np.array([[8_000, 12_000], [16_000, 12_000]])
    assert bucketing.padding_share(views, (16_000,), 2) == pytest.approx(0.25)
    # In buckets of their own the utterances have rows of 12000 and 16000.
    assert bucketing.least_padding(views, 64_000) == pytest.approx(1 - 48 / 56)
    assert bucketing.least_padding(views, 12_000) == pytest.approx(1 - 44 / 48)
    assert bucketing.least_padding(views[:, 0], 64_000) == 0
    # A row that fills the batch, and a recording that is cut.
    assert bucketing.padding_share([99_000], (16_000,), 2) == pytest.approx(0.5)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n", [3, 16, 61])
def test_padding_share_is_what_a_shuffled_pass_feeds(n, seed):
    rng = np.random.default_rng(seed)
    views = rng.integers(6_000, 70_000, (n, 2))
    edges = choose_edges(views.max(1), 4, 64_000)
    fed = real = 0
    for bucket, rows in bucketing.plan(views.max(1), edges, 8, rng):
        for row in rows:
            fed += 2 * edges[bucket]
            real += 0 if row == bucketing.FILL else sum(min(x, edges[-1]) for x in views[row])
    assert bucketing.padding_share(views, edges, 8) == pytest.approx(1 - real / fed)


def choose(parts, max_padding, passes=0):
    needs = np.concatenate([p.max(1) for p in parts])
    candidates = bucketing.edges_by_count(needs, bucketing.MOST, 210_000)
    return candidates, bucketing.choose(candidates, parts, 8, max_padding, passes)


def test_the_fewest_buckets_that_every_part_is_content_with():
    rng = np.random.default_rng(0)
    parts = [rng.integers(20_000, 64_000, (n, 1)) for n in (200, 300)]
    candidates, choice = choose(parts, 0.12)
    shares = [[bucketing.padding_share(p, e, 8) for p in parts] for e in candidates]
    count = len(choice.edges)
    assert choice.reached and 1 < count < bucketing.MOST
    assert max(shares[count - 1]) == choice.padding <= 0.12
    assert all(max(s) > 0.12 for s in shares[: count - 1])


def test_padding_that_no_number_of_buckets_reaches_is_said():
    # Views of 1 : 2, so that a quarter is padding whatever the buckets.
    lengths = np.random.default_rng(0).integers(20_000, 64_000, 300)
    parts = [np.stack([lengths, 2 * lengths], 1)]
    candidates, choice = choose(parts, 0.10)
    least = min(bucketing.padding_share(parts[0], e, 8) for e in candidates)
    assert not choice.reached and choice.floor == pytest.approx(0.25)
    assert least <= choice.padding <= least + bucketing.NEARLY
    assert len(choice.edges) < len(candidates)


def fed_in_a_pass(lengths, edges):
    """Fill rows too."""
    plan = bucketing.plan(lengths.max(1), edges, 8)
    return lengths.shape[1] * sum(8 * edges[bucket] for bucket, _ in plan)


def test_where_compiling_counts_the_buckets_take_the_least_time_of_both():
    rng = np.random.default_rng(0)
    parts = [rng.integers(20_000, 200_000, (n, 1)) // [[1, 2]] for n in (2000, 3000)]
    wanted = len(choose(parts, 0.30)[1].edges)
    counts = []
    for passes in (1, 30, 100, 10**6):
        candidates, choice = choose(parts, 0.30, passes)
        time = [
            passes * sum(fed_in_a_pass(p, e) for p in parts) + bucketing.COMPILING * len(e)
            for e in candidates[:wanted]
        ]
        assert choice.edges == candidates[int(np.argmin(time))] and choice.wanted == wanted
        counts.append(len(choice.edges))
    assert counts[0] == 1 < counts[1] < counts[2] < counts[3] == wanted


def test_predictions_have_few_shapes():
    assert bucketing.prediction_edges(210_000) == (
        8_000, 11_520, 16_000, 22_720, 32_000, 45_440, 64_000, 90_560, 128_000, 181_120, 210_000,
    )  # fmt: skip
    assert bucketing.prediction_edges(1_600) == (1_600,)
    assert bucketing.prediction_edges(8_000) == (8_000,)
    counts = {(21, (1, 8)): [8, 8, 8], (3, (1, 8)): [1, 1, 1], (0, (1, 8)): [], (5, (1,)): [1] * 5}
    assert {key: bucketing.prediction_batches(*key) for key in counts} == counts
