"""Layers against what is computed by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from mmer_jax.models.layers import subsampled, subsampled_mask


@pytest.mark.parametrize("frames, groups", [(5, 2), (6, 2), (7, 3)])
def test_means_over_frames_are_of_the_utterances_own(frames, groups):
    """What stands in the padding, and how much of it there is, changes nothing."""
    x = np.full((2, frames, 1), np.nan, np.float32)
    x[0, :5, 0], x[1, :1, 0] = [1, 2, 6, 4, 8], 7
    mask = np.isfinite(x)[..., 0]
    means = subsampled(jnp.array(x), jnp.array(mask), 3)[..., 0]
    kept = subsampled_mask(jnp.array(mask), 3)
    expected = np.array([[3, 6, 0], [7, 0, 0]])[:, :groups]
    np.testing.assert_allclose(means, expected)
    np.testing.assert_array_equal(kept, expected > 0)


def test_the_mean_of_one_frame_is_the_frame():
    x = np.random.default_rng(0).standard_normal((1, 4, 2)).astype(np.float32)
    np.testing.assert_array_equal(subsampled(jnp.array(x), jnp.ones((1, 4)), 1), x)
