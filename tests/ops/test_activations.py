"""GELU equals its plain twin and the formula by hand, and stores its input alone."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from mmer_jax.ops import gelu
from mmer_jax.ops.activations import plain_gelu

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
