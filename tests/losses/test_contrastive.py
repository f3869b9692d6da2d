"""Contrastive losses against their formulas in plain loops, and their degenerate cases."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmer_jax.losses import contrastive

RNG = np.random.default_rng(0)
Z = RNG.normal(size=(5, 3)).astype(np.float32)
Z_AUG = RNG.normal(size=(5, 3)).astype(np.float32)
LABEL = np.array([0, 1, 0, 1, 2])
ALL = np.ones(5, bool)
LOSSES = {
    "scl": lambda z, valid: contrastive.supervised_contrastive(z, LABEL, valid),
    "scl original": lambda z, valid: contrastive.supervised_contrastive_original(z, LABEL, valid),
    "acl": lambda z, valid: contrastive.augmented_contrastive(z, Z_AUG, valid),
    "acl original": lambda z, valid: contrastive.augmented_contrastive_original(z, Z_AUG, valid),
}


def unit(z):
    return z / np.linalg.norm(z, axis=-1, keepdims=True)


def test_supervised_is_khoslas_formula():
    values, mask = contrastive.supervised_contrastive(Z, LABEL, ALL, 0.5)
    z = unit(Z)
    for i in range(5):
        others = [a for a in range(5) if a != i]
        positives = [p for p in others if LABEL[p] == LABEL[i]]
        denominator = sum(np.exp(z[i] @ z[a] / 0.5) for a in others)
        terms = [np.log(np.exp(z[i] @ z[p] / 0.5) / denominator) for p in positives]
        expected = -np.mean(terms) if terms else 0.0
        np.testing.assert_allclose(values[i], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(mask, [True, True, True, True, False])


def test_supervised_original_is_the_authors_formula():
    values, mask = contrastive.supervised_contrastive_original(Z, LABEL, ALL, 0.07)
    pairs = [(i, j) for i in range(5) for j in range(5) if LABEL[i] == LABEL[j]]
    terms = [-np.log(np.exp(Z[i] @ Z[j]) / np.exp(Z[i] @ Z.T).sum()) / 0.07 for i, j in pairs]
    assert mask.sum() == len(pairs) == 9  # self pairs are among them
    np.testing.assert_allclose(values.sum() / mask.sum(), np.mean(terms), rtol=1e-5)


def test_augmented_is_symmetric_nt_xent():
    values, _ = contrastive.augmented_contrastive(Z, Z_AUG, ALL, 0.5)
    s = np.exp(unit(Z) @ unit(Z_AUG).T / 0.5)
    expected = [
        -(np.log(s[i, i] / s[i].sum()) + np.log(s[i, i] / s[:, i].sum())) / 2 for i in range(5)
    ]
    np.testing.assert_allclose(values, expected, rtol=1e-5)


def test_augmented_original_is_one_direction():
    values, _ = contrastive.augmented_contrastive_original(Z, Z_AUG, ALL, 0.07)
    s = (Z @ Z_AUG.T / 0.07).astype(np.float64)
    s -= s.max(1, keepdims=True)
    expected = [-np.log(np.exp(s[i, i]) / np.exp(s[i]).sum()) for i in range(5)]
    np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_a_mask_equals_a_slice(name):
    valid = np.array([True, True, True, False, False])
    garbage = Z.copy()
    garbage[3:] = 1e3
    full, full_mask = LOSSES[name](garbage, valid)
    plain, plain_mask = LOSSES[name](Z, valid)
    np.testing.assert_allclose(full, plain, rtol=1e-6)
    np.testing.assert_array_equal(full_mask, plain_mask)
    assert not np.asarray(full)[3:].any()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("z", [np.zeros_like(Z), np.full_like(Z, 1e4)], ids=["zero", "huge"])
def test_gradients_stay_finite(name, z):
    for valid in (ALL, np.zeros(5, bool), np.eye(5, dtype=bool)[0]):

        def total(x, valid=valid):
            return LOSSES[name](x, valid)[0].sum()

        value, gradient = jax.value_and_grad(total)(jnp.asarray(z))
        assert np.isfinite(value) and np.isfinite(gradient).all()


@pytest.mark.parametrize("name", ["scl", "acl"])
def test_nothing_to_contrast_is_zero(name):
    values, mask = LOSSES[name](Z, np.eye(5, dtype=bool)[1])
    assert not np.asarray(values).any() and not np.asarray(mask).any()


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_is_the_numerical_one(name):
    def total(z):
        return LOSSES[name](z, ALL)[0].sum() * 0.07

    direction = RNG.normal(size=Z.shape).astype(np.float32)
    step = 1e-2
    numerical = (total(Z + step * direction) - total(Z - step * direction)) / (2 * step)
    analytical = (jax.grad(total)(jnp.asarray(Z)) * direction).sum()
    np.testing.assert_allclose(analytical, numerical, rtol=2e-2)
