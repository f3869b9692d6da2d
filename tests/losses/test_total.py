"""The total: weights, switches, and batches without a usable row."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmer_jax import configuration
from mmer_jax.losses.total import total_loss

RNG = np.random.default_rng(0)
B, T, U, C, V, D = 4, 6, 3, 4, 8, 5


def batch_and_out(**changes):
    batch = {
        "label": np.array([0, 0, 1, 2]),
        "valid": np.ones(B, bool),
        "transcript": RNG.integers(1, V, (B, U)),
        "transcript_length": np.array([3, 2, 1, 0]),
        "ctc_valid": np.ones(B, bool),
        "aug_valid": np.ones(B, bool),
    } | changes
    normal = lambda *shape: jnp.asarray(RNG.normal(size=shape), jnp.float32)  # noqa: E731
    out = {
        "logits": normal(B, C), "projection": normal(B, D), "aug_projection": normal(B, D),
        "ctc_logits": normal(B, T, V), "audio_mask": jnp.ones((B, T)),
    }  # fmt: skip
    return batch, out


def original_losses():
    config = configuration.default()
    configuration.original_losses(config)
    return config.losses


BOTH = pytest.mark.parametrize("losses", [configuration.default().losses, original_losses()])


@BOTH
def test_the_total_is_the_weighted_sum(losses):
    batch, out = batch_and_out()
    total, parts = total_loss(out, batch, losses)
    assert set(parts) == {"ce", "ctc", "scl", "acl"}
    expected = parts["ce"] + 0.1 * (parts["ctc"] + parts["scl"] + parts["acl"])
    np.testing.assert_allclose(total, expected, rtol=1e-6)
    assert all(value > 0 for value in parts.values())


@pytest.mark.parametrize(
    "normalization, reduce",
    [
        ("utterance", lambda per_utterance, symbols: per_utterance.mean()),
        ("symbol", lambda per_utterance, symbols: (per_utterance / symbols).mean()),
        ("sum", lambda per_utterance, symbols: per_utterance.sum()),
    ],
)
def test_how_ctc_is_normalised(normalization, reduce):
    losses = configuration.default().losses
    losses.ctc.normalization = normalization
    symbols = np.array([3, 1, 2, 0])  # the last has no transcript, the third is cut
    batch, out = batch_and_out(
        transcript_length=symbols, ctc_valid=np.array([True, True, False, True])
    )
    log_p = np.asarray(jax.nn.log_softmax(out["ctc_logits"]))
    counted = [-log_p_of_all_paths(log_p[i], batch["transcript"][i, : symbols[i]]) for i in (0, 1)]
    value = total_loss(out, batch, losses)[1]["ctc"]
    np.testing.assert_allclose(value, reduce(np.array(counted), symbols[:2]), rtol=1e-4)


def log_p_of_all_paths(log_p, target):
    """By enumeration; see test_ctc.py."""
    total = -np.inf
    for path in itertools.product([0, *set(target.tolist())], repeat=len(log_p)):
        if [s for s, _ in itertools.groupby(path) if s] == target.tolist():
            total = np.logaddexp(total, sum(log_p[t, s] for t, s in enumerate(path)))
    return total


@pytest.mark.parametrize("name", ["ctc", "scl", "acl"])
def test_weight_zero_switches_a_loss_off(name):
    losses = configuration.default().losses
    losses[name].weight = 0.0
    batch, out = batch_and_out()
    assert name not in total_loss(out, batch, losses)[1]


def test_a_model_without_speech_has_no_ctc():
    batch, out = batch_and_out()
    del out["ctc_logits"]
    assert "ctc" not in total_loss(out, batch, configuration.default().losses)[1]


@BOTH
def test_no_usable_row_gives_zero_never_nan(losses):
    none = np.zeros(B, bool)
    batch, out = batch_and_out(valid=none, ctc_valid=none, aug_valid=none)
    total, parts = total_loss(out, batch, losses)
    assert float(total) == 0.0 and all(float(v) == 0.0 for v in parts.values())


def test_fill_rows_count_in_no_mean():
    losses = configuration.default().losses
    batch, out = batch_and_out(valid=np.array([True, True, True, False]))
    half = {k: v[:3] for k, v in batch.items()}, {k: v[:3] for k, v in out.items()}
    for flag in ("ctc_valid", "aug_valid"):
        batch[flag] = batch["valid"]
    np.testing.assert_allclose(
        total_loss(out, batch, losses)[0], total_loss(half[1], half[0], losses)[0], rtol=1e-5
    )


def test_balanced_classes_weight_the_rows_of_ce_alone():
    losses = configuration.default().losses
    batch, out = batch_and_out()
    plain = total_loss(out, batch, losses)[1]
    losses.ce.class_weights = "balanced"
    weight = np.array([0.5, 0.5, 2.0, 1.0], np.float32)
    parts = total_loss(out, batch | {"class_weight": weight}, losses)[1]
    each = -jax.nn.log_softmax(out["logits"])[np.arange(B), batch["label"]]
    np.testing.assert_allclose(parts["ce"], (each * weight).mean(), rtol=1e-6)
    for name in ("ctc", "scl", "acl"):
        np.testing.assert_array_equal(parts[name], plain[name])
