"""The grouped convolution's gradients are those of its plain twin."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from mmer_jax import ops
from mmer_jax.ops import grouped_conv

GROUPS = 4
CASES = [(8, 20), (7, 20), (1, 5), (16, 3)]  # taps; frames, fewer than taps too


def _draw(taps, frames, dtype=jnp.float32):
    rng = np.random.default_rng(0)
    shapes = (3, frames + taps - 1, 16), (taps, 16 // GROUPS, 24), (3, frames, 24)
    return [jnp.asarray(rng.standard_normal(s), dtype) for s in shapes]


def _plain(x, kernel):
    return ops.plain_grouped_conv(x, kernel, GROUPS)


def _gradients(conv, x, kernel, dy):
    return jax.jit(lambda x, k, dy: jax.vjp(conv, x, k)[1](dy))(x, kernel, dy)


def _ours(x, kernel):
    return grouped_conv(x, kernel, GROUPS)


@pytest.mark.parametrize("taps, frames", CASES)
@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-5), ("bfloat16", 2e-2)])
def test_gradients_are_those_of_xla(taps, frames, dtype, tolerance):
    """bfloat16 keeps 8 bits: XLA's own gradient, summed in it, is no nearer to the truth."""
    args = _draw(taps, frames, dtype)
    for ours, theirs in zip(_gradients(_ours, *args), _gradients(_plain, *args)):
        assert ours.dtype == theirs.dtype == jnp.dtype(dtype)
        scale = float(jnp.abs(theirs.astype(jnp.float32)).max())
        np.testing.assert_allclose(
            np.asarray(ours, np.float32), np.asarray(theirs, np.float32), atol=tolerance * scale
        )


@pytest.mark.parametrize("taps, frames", CASES)
def test_gradients_are_the_numeric_differences(taps, frames):
    x, kernel, _ = _draw(taps, frames)
    check_grads(_ours, (x, kernel), order=1, modes=["rev"], atol=5e-2, rtol=5e-2)


@pytest.mark.parametrize("taps, frames", CASES)
def test_the_fft_is_the_sum_that_it_stands_for(taps, frames):
    """On every backend, by hand in float64: y_j = sum_t x[t + j] dy[t]."""
    x, _, dy = _draw(taps, frames)
    a = np.asarray(x, np.float64).reshape(3, -1, GROUPS, 16 // GROUPS)
    b = np.asarray(dy, np.float64).reshape(3, frames, GROUPS, 24 // GROUPS)
    expected = [np.einsum("btgi,btgo->igo", a[:, j : j + frames], b) for j in range(taps)]
    found = ops.kernel_gradient_by_fft(x, dy, GROUPS)
    plain = ops.plain_kernel_gradient(x, dy, GROUPS)
    assert found.dtype == plain.dtype == jnp.float32
    np.testing.assert_allclose(found, plain, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_allclose(
        found, np.array(expected).reshape(found.shape), atol=1e-5 * np.abs(expected).max()
    )


@pytest.mark.parametrize("n, size", [(1, 2), (376, 384), (385, 432), (512, 512), (783, 864)])
def test_fft_sizes(n, size):
    assert ops.fast_size(n) == size
