"""GELU is its plain twin and the formula by hand; dropout's share, mean and single draws."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmer_jax.models.layers import Dropout
from mmer_jax.ops import gelu, keep_mask, plain_gelu, plain_keep_mask

X = np.linspace(-8, 8, 401)


def _cdf(x):
    return 0.5 * math.erfc(-x / math.sqrt(2))


def test_values():
    expected = [x * _cdf(x) for x in X]
    for function in (gelu, plain_gelu):
        np.testing.assert_allclose(function(X.astype(np.float32)), expected, rtol=0, atol=1e-6)


def test_derivative():
    expected = [_cdf(x) + x * math.exp(-(x**2) / 2) / math.sqrt(2 * math.pi) for x in X]
    for function in (gelu, plain_gelu):
        found = jax.vmap(jax.grad(function))(X.astype(np.float32))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_only_the_input_is_stored():
    x = jnp.ones((3, 5))
    _, pull = jax.vjp(gelu, x)
    assert [leaf.shape for leaf in jax.tree.leaves(pull)] == [(3, 5)]


def test_bfloat16_is_rounded_once():
    x = jnp.asarray(X, jnp.bfloat16)
    expected = gelu(x.astype(jnp.float32)).astype(jnp.bfloat16)
    assert gelu(x).dtype == jnp.bfloat16
    assert np.array_equal(gelu(x), expected)
    assert jax.vjp(gelu, x)[1](x)[0].dtype == jnp.bfloat16


SHAPE = (40, 50, 101)  # no multiple of the four bytes of a word


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_share_and_mean(rate):
    found = np.asarray(
        Dropout(rate).apply({}, jnp.ones(SHAPE), False, rngs={"dropout": jax.random.key(0)})
    )
    assert found.shape == SHAPE
    # 202 000 draws: 0.0035 is three standard deviations of a share, 1/512 the rounding.
    assert abs((found == 0).mean() - rate) < 0.0055
    assert abs(found.mean() - 1) < 0.02
    assert len(np.unique(found)) == 2


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_plain_twin_has_the_same_share_and_scale(rate):
    (fast, scale), (plain, expected) = (
        function(jax.random.key(0), rate, SHAPE) for function in (keep_mask, plain_keep_mask)
    )
    assert fast.shape == plain.shape and fast.dtype == plain.dtype == bool
    assert abs(np.mean(fast) - np.mean(plain)) < 0.0055
    # Both scales keep the mean; the rate is rounded to 1/256.
    assert abs(1 / scale - 1 / expected) <= 1 / 512


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_every_element_is_drawn_for_itself(axis):
    keep, _ = keep_mask(jax.random.key(0), 0.5, SHAPE)
    a, b = np.moveaxis(np.asarray(keep), axis, 0)[:2]
    assert abs((a == b).mean() - 0.5) < 0.05


def test_nothing_happens_without_a_rate_or_in_evaluation():
    x = jnp.ones((2, 3), jnp.bfloat16)
    assert Dropout(0.0).apply({}, x, False) is x  # and asks for no random numbers
    assert Dropout(0.1).apply({}, x, True) is x


def test_dtype_stays():
    x, rngs = jnp.ones((2, 3), jnp.bfloat16), {"dropout": jax.random.key(0)}
    assert Dropout(0.1).apply({}, x, False, rngs=rngs).dtype == jnp.bfloat16


def test_a_rate_that_leaves_nothing_is_an_error():
    with pytest.raises(ValueError, match="rate is 1.0"):
        Dropout(1.0).apply({}, jnp.ones(3), False, rngs={"dropout": jax.random.key(0)})
