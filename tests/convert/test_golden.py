"""The Flax model, filled through the converter, is the published model: values and gradients."""

import importlib.util
import pathlib

import jax
import ml_collections
import numpy as np
import pytest
from flax import traverse_util

from mmer_jax.convert import released
from mmer_jax.losses.multitask import total_loss

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
OUTPUTS = (
    "audio_hidden", "ctc_logits", "text_self", "text_to_audio", "audio_to_text", "text_to_text",
    "gate_logits", "pooled_multimodal", "fused", "aug_fused", "logits",
)  # fmt: skip
LOSSES = {
    "ce": "loss_ce", "ctc": "loss_ctc_sum", "scl": "loss_scl", "acl": "loss_acl",
    "total": "loss_total",
}  # fmt: skip
RELEASED = ml_collections.ConfigDict(
    {
        "ce": {"weight": 1.0},
        "ctc": {"weight": 0.1, "form": "released"},
        "scl": {"weight": 0.1, "form": "released", "temperature": 0.07},
        "acl": {"weight": 0.1, "form": "released", "temperature": 0.07},
    }
)


def _weights():
    spec = importlib.util.spec_from_file_location("golden_weights", GOLDEN / "weights.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.draw_all(GOLDEN / "keys.tsv")


@pytest.fixture(scope="module")
def converted():
    return released.convert(_weights())


@pytest.fixture(scope="module")
def compute(converted):
    """A jitted (params, batch) -> ((total, (losses, out)), gradients)."""

    def loss_fn(params, batch):
        _, out = converted.model.apply({"params": params}, batch)
        total, parts = total_loss(out, batch, RELEASED)
        return total, (parts, out)

    return jax.jit(jax.value_and_grad(loss_fn, has_aux=True))


@pytest.fixture(scope="module", params=["equal", "padded"])
def case(request, converted, compute):
    """Expected numbers, and ours: outputs, losses, gradient norms by released key."""
    with np.load(GOLDEN / "golden.npz") as f:
        golden = {k.split("/")[1]: f[k] for k in f.files if k.startswith(request.param)}
    (total, (losses, out)), grads = jax.device_get(compute(converted.params, _batch(golden)))
    flat = traverse_util.flatten_dict(grads, sep="/")
    norms = {key: np.linalg.norm(flat[path]) for key, path in converted.names.items()}
    return golden, out, losses | {"total": total}, norms


def _batch(golden):
    symbols = golden["in_ctc"]
    yes = np.ones(len(symbols), bool)
    # Our two views share one length; the tokens added to the second one are masked.
    more = golden["in_text"].shape[1] - golden["in_aug_text"].shape[1]
    return {
        "audio": golden["in_audio"],
        "audio_length": golden["in_audio_length"].astype(np.int32),
        "text_ids": golden["in_text"],  # features: the released model has no text encoder
        "text_mask": golden["in_text_mask"].astype(np.int32),
        "aug_audio": golden["in_aug_audio"],
        "aug_audio_length": golden["in_aug_audio_length"].astype(np.int32),
        "aug_text_ids": np.pad(golden["in_aug_text"], ((0, 0), (0, more), (0, 0))),
        "aug_text_mask": np.pad(golden["in_aug_text_mask"], ((0, 0), (0, more))).astype(np.int32),
        "label": golden["in_labels"].astype(np.int32),
        "transcript": np.maximum(symbols, 0).astype(np.int32),
        "transcript_length": (symbols >= 0).sum(1).astype(np.int32),
        "valid": yes, "ctc_valid": yes, "aug_valid": yes,
    }  # fmt: skip


def _relative(ours, theirs):
    """Largest difference over largest magnitude."""
    assert np.shape(ours) == np.shape(theirs)
    return float(np.abs(np.asarray(ours, np.float64) - theirs).max() / np.abs(theirs).max())


@pytest.mark.parametrize("name", OUTPUTS)
def test_intermediate_values(case, name):
    golden, out, _, _ = case
    assert _relative(out[name], golden[name]) < 1e-4


@pytest.mark.parametrize("name", LOSSES)
def test_losses(case, name):
    golden, _, losses, _ = case
    assert _relative(losses[name], golden[LOSSES[name]]) < 1e-4


def _has_no_gradient(key):
    """Softmax doesn't see what it adds: the same number to all scores of a row."""
    return key.endswith(("key.bias", "k_proj.bias")) or key == "augment_linear_change.2.bias"


def test_gradient_norms(case):
    golden, _, _, norms = case
    expected = dict(zip(golden["grad_names"].tolist(), golden["grad_norms"]))
    assert len(expected) == 125
    off = {k: abs(norms[k] - v) / v for k, v in expected.items() if not _has_no_gradient(k)}
    assert len(off) == 118
    assert max(off.values()) < 1e-3, max(off, key=off.get)


def test_gradients_that_are_zero_but_for_rounding(case):
    golden, _, _, norms = case
    everything = np.linalg.norm(golden["grad_norms"])
    for key in filter(_has_no_gradient, golden["grad_names"].tolist()):
        assert norms[key] < 1e-7 * everything, key


def test_masked_padding_is_what_differs(converted):
    """By default padding stays out of the encoder, so the padded case's numbers are not met."""
    with np.load(GOLDEN / "golden.npz") as f:
        golden = {k.split("/")[1]: f[k] for k in f.files if k.startswith("padded")}
    encoder = converted.model.audio_encoder.clone(published_padding=False)
    audio = golden["in_audio"], golden["in_audio_length"].astype(np.int32)
    hidden, mask = encoder.apply({"params": converted.params["audio_encoder"]}, *audio)
    whole = golden["in_audio_length"] == golden["in_audio"].shape[1]
    assert _relative(hidden[whole], golden["audio_hidden"][whole]) < 1e-4
    assert _relative(hidden[~whole] * mask[~whole, :, None],
                     golden["audio_hidden"][~whole] * mask[~whole, :, None]) > 1e-2  # fmt: skip


def test_every_key_is_used_or_explained(converted):
    assert set(converted.unused) == set(released.UNUSED)
    assert set(converted.names) | set(converted.unused) == set(_weights())
