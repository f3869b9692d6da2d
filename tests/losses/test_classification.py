"""Cross-entropy against values worked out by hand."""

import jax.numpy as jnp
import numpy as np

from mmer_jax.losses.classification import cross_entropy


def test_by_hand():
    # softmax of (ln 3, 0, 0, 0) is (1/2, 1/6, 1/6, 1/6)
    logits = jnp.array([[np.log(3.0), 0, 0, 0], [np.log(3.0), 0, 0, 0]])
    values, _ = cross_entropy(logits, jnp.array([0, 2]), jnp.array([True, True]))
    np.testing.assert_allclose(values, [np.log(2), np.log(6)], rtol=1e-6)


def test_a_masked_row_is_zero():
    values, mask = cross_entropy(jnp.ones((2, 4)), jnp.array([0, 1]), jnp.array([True, False]))
    assert values[1] == 0 and values[0] > 0
    np.testing.assert_array_equal(mask, [True, False])
