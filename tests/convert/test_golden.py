"""The Flax model, filled through the converter, is the published model: values and gradients."""

import importlib.util
import pathlib

import jax
import numpy as np
import pytest
from flax import traverse_util

from mmer_jax.convert import mapping
from mmer_jax.losses.total import total_loss

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"


def _golden():
    spec = importlib.util.spec_from_file_location("golden_numbers", GOLDEN / "golden.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


golden_numbers = _golden()


@pytest.fixture(scope="module")
def converted():
    return mapping.convert(golden_numbers.weights())


@pytest.fixture(scope="module")
def compute(converted):
    """A jitted (params, batch) -> ((total, (losses, out)), gradients)."""

    def loss_fn(params, batch):
        _, out = converted.model.apply({"params": params}, batch)
        total, parts = total_loss(out, batch, golden_numbers.loss_options())
        return total, (parts, out)

    return jax.jit(jax.value_and_grad(loss_fn, has_aux=True))


@pytest.fixture(scope="module", params=["equal", "padded"])
def case(request, converted, compute):
    """Expected numbers, and ours: outputs, losses, gradient norms by released key."""
    golden = golden_numbers.case(request.param)
    (total, (losses, out)), grads = jax.device_get(
        compute(converted.params, golden_numbers.batch(golden))
    )
    flat = traverse_util.flatten_dict(grads, sep="/")
    norms = {key: np.linalg.norm(flat[path]) for key, path in converted.names.items()}
    return golden, out, losses | {"total": total}, norms


def _relative(ours, theirs):
    """Largest difference over largest magnitude."""
    assert np.shape(ours) == np.shape(theirs)
    return float(np.abs(np.asarray(ours, np.float64) - theirs).max() / np.abs(theirs).max())


@pytest.mark.parametrize("name", golden_numbers.OUTPUTS)
def test_intermediate_values(case, name):
    golden, out, _, _ = case
    assert _relative(out[name], golden[name]) < 1e-4


@pytest.mark.parametrize("name", golden_numbers.LOSSES)
def test_losses(case, name):
    golden, _, losses, _ = case
    assert _relative(losses[name], golden[golden_numbers.LOSSES[name]]) < 1e-4


def test_gradient_norms(case):
    golden, _, _, norms = case
    expected = dict(zip(golden["grad_names"].tolist(), golden["grad_norms"]))
    assert len(expected) == 125
    off = {
        k: abs(norms[k] - v) / v
        for k, v in expected.items()
        if not golden_numbers.has_no_gradient(k)
    }
    assert len(off) == 118
    assert max(off.values()) < 1e-3, max(off, key=off.get)


def test_gradients_that_are_zero_but_for_rounding(case):
    golden, _, _, norms = case
    everything = np.linalg.norm(golden["grad_norms"])
    for key in filter(golden_numbers.has_no_gradient, golden["grad_names"].tolist()):
        assert norms[key] < 1e-7 * everything, key


def test_masked_padding_is_what_differs(converted):
    """By default padding stays out of the encoder, so the padded case's numbers are not met."""
    golden = golden_numbers.case("padded")
    encoder = converted.model.audio_encoder.clone(original_padding=False)
    audio = golden["in_audio"], golden["in_audio_length"].astype(np.int32)
    hidden, mask = encoder.apply({"params": converted.params["audio_encoder"]}, *audio)
    whole = golden["in_audio_length"] == golden["in_audio"].shape[1]
    assert _relative(hidden[whole], golden["audio_hidden"][whole]) < 1e-4
    assert _relative(hidden[~whole] * mask[~whole, :, None],
                     golden["audio_hidden"][~whole] * mask[~whole, :, None]) > 1e-2  # fmt: skip


def test_every_key_is_used_or_explained(converted):
    assert set(converted.unused) == set(mapping.UNUSED)
    assert set(converted.names) | set(converted.unused) == set(golden_numbers.weights())
