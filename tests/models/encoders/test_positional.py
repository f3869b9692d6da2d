"""The positional convolution equals Hugging Face's, and its gradient XLA's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from transformers import Wav2Vec2Config
from transformers.models.wav2vec2.modeling_flax_wav2vec2 import FlaxWav2Vec2PositionalConvEmbedding

from mmer_jax.models.encoders import positional

GROUPS = 4
CASES = [(8, 20), (7, 20), (1, 5), (16, 3)]  # taps; frames, fewer than taps too


def _draw(taps, frames, dtype=jnp.float32):
    rng = np.random.default_rng(0)
    shapes = (3, frames + taps - 1, 16), (taps, 16 // GROUPS, 24), (3, frames, 24)
    return [jnp.asarray(rng.standard_normal(s), dtype) for s in shapes]


def _plain(x, kernel):
    return jax.lax.conv_general_dilated(
        x, kernel, (1,), "VALID", dimension_numbers=("NWC", "WIO", "NWC"),
        feature_group_count=GROUPS,
    )  # fmt: skip


def _gradients(conv, x, kernel, dy):
    return jax.jit(lambda x, k, dy: jax.vjp(conv, x, k)[1](dy))(x, kernel, dy)


def _ours(x, kernel):
    return positional.grouped_conv(x, kernel, GROUPS)


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
    found = positional.kernel_gradient_by_fft(x, dy, GROUPS)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(
        found, np.array(expected).reshape(found.shape), atol=1e-5 * np.abs(expected).max()
    )


@pytest.mark.parametrize("taps", [16, 15])
def test_module_equals_hugging_faces_flax_module(taps):
    config = Wav2Vec2Config(
        hidden_size=16, num_conv_pos_embeddings=taps, num_conv_pos_embedding_groups=GROUPS
    )
    hidden = np.random.default_rng(0).standard_normal((2, 30, 16)).astype(np.float32)
    ours, theirs = positional.PositionalConv(config), FlaxWav2Vec2PositionalConvEmbedding(config)
    params = theirs.init(jax.random.key(0), hidden)
    fresh = ours.init(jax.random.key(0), hidden)
    assert jax.tree.map(jnp.shape, fresh) == jax.tree.map(jnp.shape, params)
    norm = jnp.linalg.norm(fresh["params"]["conv"]["weight_v"], axis=(0, 1))
    np.testing.assert_allclose(fresh["params"]["conv"]["weight_g"][0, 0], norm, rtol=1e-6)

    def loss(module):
        return jax.value_and_grad(lambda p: jnp.sum(jnp.sin(module.apply(p, hidden))))

    (a, grads), (b, expected) = loss(ours)(params), loss(theirs)(params)
    np.testing.assert_allclose(a, b, rtol=1e-5)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-4), grads, expected)


@pytest.mark.parametrize("n, size", [(1, 2), (376, 384), (385, 432), (512, 512), (783, 864)])
def test_fft_sizes(n, size):
    assert positional.fast_size(n) == size
