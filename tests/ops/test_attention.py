"""Attention equals its plain twin, derivative too, and stores one map of weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from mmer_jax.ops import attend, can_fuse, fused_attend, plain_attend, portable
from mmer_jax.training import step

B, T, S, H, N = 2, 5, 7, 3, 4
LENGTHS = np.array([[7], [4]])
MASK = (np.arange(S) < LENGTHS).astype(np.int32)
SCALE = 1.25


def _drawn(seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    q, k, v = (rng.standard_normal((B, n, H, N)).astype(dtype) for n in (T, S, S))
    return q, k, v, rng.random((B, H, T, S)) < 0.7


def _scalar(function, use):
    """A number that every element of the used results pulls another way."""
    rng = np.random.default_rng(1)
    factors = rng.standard_normal((B, T, H, N)), rng.standard_normal((B, H, T, S))

    def value(*inputs):
        results = function(*inputs)
        return sum(jnp.sum(results[i] * factors[i]) for i in use)

    return value


@pytest.mark.parametrize("dropout", [False, True])
@pytest.mark.parametrize("use", [(0,), (1,), (0, 1)], ids=["result", "weights", "both"])
def test_values_and_gradients_are_the_plain_twins(dropout, use):
    q, k, v, keep = _drawn()
    drawn = (keep, SCALE) if dropout else (None, 1.0)
    ours = lambda q, k, v: attend(q, k, v, MASK, *drawn)  # noqa: E731
    theirs = lambda q, k, v: plain_attend(q, k, v, MASK, *drawn)  # noqa: E731
    for found, expected in zip(ours(q, k, v), theirs(q, k, v)):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    found = jax.grad(_scalar(ours, use), (0, 1, 2))(q, k, v)
    expected = jax.grad(_scalar(theirs, use), (0, 1, 2))(q, k, v)
    for a, b in zip(found, expected):
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-6)
    assert np.abs(expected[0]).max() > 0.1


@pytest.mark.parametrize("use", [(0,), (1,), (0, 1)], ids=["result", "weights", "both"])
def test_relative_positions_add_to_the_scores(use):
    q, k, v, keep = _drawn()
    positions = np.random.default_rng(2).standard_normal((B, H, T, S)).astype(np.float32)
    given = MASK, keep, SCALE
    ours = lambda q, k, v, p: attend(q, k, v, *given, p)  # noqa: E731
    theirs = lambda q, k, v, p: plain_attend(q, k, v, *given, p)  # noqa: E731
    for found, expected in zip(ours(q, k, v, positions), theirs(q, k, v, positions)):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    found = jax.grad(_scalar(ours, use), (0, 1, 2, 3))(q, k, v, positions)
    expected = jax.grad(_scalar(theirs, use), (0, 1, 2, 3))(q, k, v, positions)
    for a, b in zip(found, expected):
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-6)
    assert np.abs(expected[3]).max() > 0.1 and np.all(found[3][1, ..., 4:] == 0)


def test_the_derivative_is_the_numerical_one():
    q, k, v, keep = _drawn()
    value = _scalar(lambda q, k, v: attend(q, k, v, MASK, keep, SCALE), (0, 1))
    check_grads(value, (q, k, v), order=1, modes=["rev"], eps=1e-2)


def test_padded_keys_have_no_weight_and_no_gradient():
    q, k, v, keep = _drawn()
    value = _scalar(lambda q, k, v: attend(q, k, v, MASK, keep, SCALE), (0, 1))
    _, dk, dv = jax.grad(value, (0, 1, 2))(q, k, v)
    assert np.all(attend(q, k, v, MASK)[1][1, :, :, 4:] == 0)
    assert np.all(dk[1, 4:] == 0) and np.all(dv[1, 4:] == 0)
    assert np.all(dk[0] != 0)


def test_one_map_is_stored():
    q, k, v, keep = _drawn()
    _, pull = jax.vjp(lambda q, k, v: attend(q, k, v, MASK, keep, SCALE)[0], q, k, v)
    shape = (q.shape[0], q.shape[2], q.shape[1], k.shape[1])
    assert shape == (B, H, T, S)
    assert [leaf.shape for leaf in jax.tree.leaves(pull)].count(shape) == 1


def test_a_training_step_keeps_one_map_per_layer():
    """As compiled: what XLA computes once for both passes, it keeps between them."""
    layers, shape = 8, (1, 128, 2, 4)
    size = 4 * shape[2] * shape[1] ** 2

    def loss(x, keeps):
        for keep in keeps:
            x = x + attend(x, x, x, jnp.ones((1, 128)), keep, SCALE)[0]
        return jnp.sum(x**2)

    jitted = jax.jit(jax.grad(loss), compiler_options=step.compiler_options())
    keeps = [jnp.ones((1, 2, 128, 128), bool)] * layers
    planned = jitted.lower(jnp.ones(shape), keeps).compile().memory_analysis().temp_size_in_bytes
    assert layers * size < planned < 1.75 * layers * size


def test_bfloat16_comes_back_and_its_softmax_is_float32():
    q, k, v, keep = (jnp.asarray(x) for x in _drawn())
    half = [x.astype(jnp.bfloat16) for x in (q, k, v)]
    merged, weights = attend(*half, MASK, keep, SCALE)
    assert merged.dtype == jnp.bfloat16 and weights.dtype == jnp.float32
    value = _scalar(lambda q, k, v: attend(q, k, v, MASK, keep, SCALE), (0,))
    grads = jax.grad(value, (0, 1, 2))(*half)
    for grad, exact in zip(
        grads, jax.grad(value, (0, 1, 2))(*(x.astype(jnp.float32) for x in half))
    ):
        assert grad.dtype == jnp.bfloat16
        np.testing.assert_allclose(grad.astype(np.float32), exact, rtol=0, atol=0.05)


def _wide(seed=0):
    """Queries, keys and values of a size that cuDNN takes, in bfloat16, and a mask."""
    rng = np.random.default_rng(seed)
    q, k, v = (jnp.asarray(rng.standard_normal((2, 37, 4, 64)), jnp.bfloat16) for _ in "qkv")
    return q, k, v, (np.arange(37) < np.array([[37], [20]])).astype(np.int32)


def test_cudnn_attends_as_the_plain_twin():
    q, k, v, mask = _wide()
    if not can_fuse(q.reshape(2, 37, -1), 4):
        pytest.skip("cuDNN's attention needs an NVIDIA GPU")
    weights = np.random.default_rng(1).standard_normal(q.shape) * mask[..., None, None]
    value = lambda f: lambda *x: jnp.sum(f(*x, mask).astype(jnp.float32) * weights)  # noqa: E731
    plain = lambda *x: plain_attend(*x)[0]  # noqa: E731
    exact = [x.astype(jnp.float32) for x in (q, k, v)]
    with jax.default_matmul_precision("highest"):
        expected = plain(*exact, mask), *jax.grad(value(plain), (0, 1, 2))(*exact)
    found = fused_attend(q, k, v, mask), *jax.grad(value(fused_attend), (0, 1, 2))(q, k, v)
    for a, b in zip(found, expected):
        error = np.linalg.norm(np.float32(a) - b) / np.linalg.norm(b)
        assert error < 0.02


def test_what_is_traced_for_every_platform_never_fuses():
    q = _wide()[0].reshape(2, 37, -1)
    with portable():
        assert not can_fuse(q, 4)
    assert not can_fuse(q.astype(jnp.float32), 4)
    assert can_fuse(q, 4) == (jax.default_backend() == "gpu")


def test_in_bfloat16_the_stored_map_is_too():
    q, k, v, mask = _wide()
    residuals = jax.eval_shape(
        lambda *x: jax.vjp(lambda q, k, v: attend(q, k, v, mask)[0], *x)[1], q, k, v
    )
    maps = [x for x in jax.tree.leaves(residuals) if x.shape == (2, 4, 37, 37)]
    assert [x.dtype for x in maps] == [jnp.bfloat16]
