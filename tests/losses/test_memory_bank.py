"""The cross-batch memory: what it holds, and what it does to the contrastive losses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmer_jax.losses import contrastive, memory_bank


def batch(seed, rows=4, first=0):
    rng = np.random.default_rng(seed)
    z = {name: rng.standard_normal((rows, 3)).astype(np.float32)
         for name in ("projection", "aug_projection")}  # fmt: skip
    return z, {
        "label": rng.integers(0, 2, rows).astype(np.int32),
        "valid": np.arange(rows) < rows - 1,
        "aug_valid": np.arange(rows) < rows - 1,
        "index": np.arange(first, first + rows, dtype=np.int32),
    }


def test_no_size_is_no_memory():
    assert memory_bank.create(0, 3) == {}
    assert memory_bank.push({}, *batch(0)) == {}


def test_the_newest_come_first_and_the_oldest_fall_out():
    past = memory_bank.create(6, 3)
    for i in range(3):
        past = memory_bank.push(past, *batch(i, first=4 * i))
    assert past["index"].tolist() == [8, 9, 10, 11, 4, 5]
    z, rows = batch(2, first=8)
    np.testing.assert_array_equal(past["aug_projection"][:4], z["aug_projection"])
    np.testing.assert_array_equal(past["label"][:4], rows["label"])
    assert past["valid"].tolist() == [True, True, True, False, True, True]


def test_a_batch_longer_than_the_memory():
    past = memory_bank.push(memory_bank.create(2, 3), *batch(0))
    assert past["index"].tolist() == [0, 1]


def test_no_gradient_reaches_the_past():
    def loss(z):
        past = memory_bank.push(memory_bank.create(4, 3), {"projection": z}, batch(0)[1])
        return past["projection"].sum()

    assert not jax.grad(loss)(jnp.ones((4, 3))).any()


def both_losses(z, rows, past):
    args = (0.1, past, rows["index"])
    scl = contrastive.supervised_contrastive(z["projection"], rows["label"], rows["valid"], *args)
    pair = z["projection"], z["aug_projection"]
    return scl, contrastive.augmented_contrastive(*pair, rows["aug_valid"], *args)


def test_an_empty_or_unstarted_memory_changes_nothing():
    z, rows = batch(1)
    filled = memory_bank.push(memory_bank.create(6, 3), *batch(0, first=10))
    plain = both_losses(z, rows, {})
    for past in (memory_bank.create(6, 3), memory_bank.usable(filled, jnp.array(False))):
        for found, expected in zip(both_losses(z, rows, past), plain):
            np.testing.assert_allclose(found[0], expected[0], rtol=1e-6)
            np.testing.assert_array_equal(found[1], expected[1])
    assert not np.allclose(both_losses(z, rows, filled)[1][0], plain[1][0])


def test_no_utterance_meets_its_own_past():
    """A memory that holds the batch's own utterances alone is as good as none."""
    z, rows = batch(1)
    past = memory_bank.push(memory_bank.create(4, 3), *batch(1))
    for i in range(4):
        only = {k: v[i : i + 1] for k, v in past.items()}
        for found, plain in zip(both_losses(z, rows, only), both_losses(z, rows, {})):
            assert found[0][i] == pytest.approx(float(plain[0][i]), rel=1e-6)


def test_supervised_contrast_with_a_memory_by_hand():
    z, rows = batch(1)
    past = memory_bank.push(memory_bank.create(4, 3), *batch(0, first=10))
    values, mask = both_losses(z, rows, past)[0]
    unit = lambda x: np.asarray(x) / np.linalg.norm(x, axis=1, keepdims=True)  # noqa: E731
    company = np.concatenate([unit(z["projection"]), unit(past["projection"])])
    labels = np.concatenate([rows["label"], past["label"]])
    valid = np.concatenate([rows["valid"], past["valid"]])
    for i in np.flatnonzero(rows["valid"]):
        others = [j for j in np.flatnonzero(valid) if j != i]
        scores = {j: float(company[i] @ company[j]) / 0.1 for j in others}
        total = np.log(sum(np.exp(s) for s in scores.values()))
        positives = [total - scores[j] for j in others if labels[j] == rows["label"][i]]
        assert mask[i] == bool(positives)
        if positives:
            assert values[i] == pytest.approx(np.mean(positives), rel=1e-4)
    assert mask[:3].any() and not mask[3]


def test_augmented_contrast_with_a_memory_by_hand():
    z, rows = batch(1)
    past = memory_bank.push(memory_bank.create(4, 3), *batch(0, first=10))
    values, mask = both_losses(z, rows, past)[1]
    unit = lambda x: np.asarray(x) / np.linalg.norm(x, axis=1, keepdims=True)  # noqa: E731
    views = [unit(z["projection"])[:3], unit(z["aug_projection"])[:3]]
    old = [unit(past["projection"])[:3], unit(past["aug_projection"])[:3]]
    for i in range(3):
        found = []
        for anchors, other in ((0, 1), (1, 0)):
            company = np.concatenate([views[other], old[other]])
            scores = company @ views[anchors][i] / 0.1
            found.append(np.log(np.exp(scores).sum()) - scores[i])
        assert values[i] == pytest.approx(np.mean(found), rel=1e-4)
    assert mask.tolist() == [True, True, True, False]
