"""Cross-entropy by hand; CTC against enumeration of all paths, and its degenerate cases."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmer_jax.losses.per_row import cross_entropy, ctc


def test_cross_entropy_by_hand():
    # softmax of (ln 3, 0, 0, 0) is (1/2, 1/6, 1/6, 1/6)
    logits = jnp.array([[np.log(3.0), 0, 0, 0], [np.log(3.0), 0, 0, 0]])
    values, _ = cross_entropy(logits, jnp.array([0, 2]), jnp.array([True, True]))
    np.testing.assert_allclose(values, [np.log(2), np.log(6)], rtol=1e-6)


def test_a_masked_row_has_no_cross_entropy():
    values, mask = cross_entropy(jnp.ones((2, 4)), jnp.array([0, 1]), jnp.array([True, False]))
    assert values[1] == 0 and values[0] > 0
    np.testing.assert_array_equal(mask, [True, False])


def by_enumeration(logits, target):
    """-log of the summed probability of every path that collapses to the target."""
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    total = 0.0
    for path in itertools.product(range(logits.shape[1]), repeat=len(logits)):
        collapsed = [s for s, _ in itertools.groupby(path) if s != 0]
        if collapsed == list(target):
            total += np.prod([p[t, s] for t, s in enumerate(path)])
    return -np.log(total)


def loss(logits, frames, target, length, valid=True, normalization="utterance"):
    mask = np.arange(logits.shape[0]) < frames
    values, counted = ctc(
        jnp.asarray(logits)[None], jnp.asarray(mask)[None], jnp.asarray(target)[None],
        jnp.array([length]), jnp.array([valid]), normalization,
    )  # fmt: skip
    return float(values[0]), bool(counted[0])


LOGITS = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)


@pytest.mark.parametrize("target", [[1], [1, 2], [2, 2], [3, 1, 3]])
def test_equals_the_sum_over_all_paths(target):
    value, _ = loss(LOGITS, 5, target + [0] * (3 - len(target)), len(target))
    np.testing.assert_allclose(value, by_enumeration(LOGITS, target), rtol=1e-5)


def test_padded_frames_and_symbols_never_count():
    value, _ = loss(LOGITS, 3, [1, 2, 3], 2)
    np.testing.assert_allclose(value, by_enumeration(LOGITS[:3], [1, 2]), rtol=1e-5)


def test_symbol_divides_by_the_transcript():
    whole, _ = loss(LOGITS, 5, [1, 2, 0], 2)
    shared, _ = loss(LOGITS, 5, [1, 2, 0], 2, normalization="symbol")
    np.testing.assert_allclose(shared, whole / 2, rtol=1e-6)


@pytest.mark.parametrize(
    "frames, target, length, valid",
    [
        (5, [1, 2, 3], 0, True),  # empty transcript
        (2, [1, 2, 3], 3, True),  # more symbols than frames
        (3, [2, 2, 1], 3, True),  # a double symbol needs a blank between: 4 frames
        (5, [1, 2, 3], 3, False),  # cut, or only fills the batch
    ],
)
def test_degenerate_cases_are_a_finite_zero_with_zero_gradient(frames, target, length, valid):
    assert loss(LOGITS, frames, target, length, valid) == (0.0, False)
    mask = jnp.arange(5)[None] < frames

    def total(logits):
        values, _ = ctc(
            logits[None], mask, jnp.array([target]), jnp.array([length]), jnp.array([valid])
        )
        return values.sum()

    np.testing.assert_array_equal(jax.grad(total)(jnp.asarray(LOGITS)), 0)


def test_as_many_frames_as_needed_is_enough():
    value, counted = loss(LOGITS, 4, [2, 2, 1], 3)
    assert counted
    np.testing.assert_allclose(value, by_enumeration(LOGITS[:4], [2, 2, 1]), rtol=1e-5)
