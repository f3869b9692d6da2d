"""Compiled forward passes: stages, names, precision of what is kept."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmer_jax import configuration
from mmer_jax.models import factory
from mmer_jax.models.mmer import best_path, make_forward

SPEECH, TEXT = ("audio", "audio_length"), ("text_ids", "text_mask")


def _model(*modalities):
    c = configuration.default()
    c.audio.family, c.text.family, c.model.modalities = "whisper", "bert", modalities
    for size in (c.audio.size, c.text.size):
        size.width, size.layers, size.heads, size.ffn = 16, 1, 2, 16
    c.model.width, c.model.heads, c.model.ffn = 16, 2, 16
    model = factory.build_model(c, 4, 32, 50)
    return model, factory.init_params(model, c, 0)


def _batch(rows=3):
    rng = np.random.default_rng(0)
    return {
        "audio": rng.standard_normal((rows, 6_400)).astype(np.float32),
        "audio_length": np.full(rows, 6_400, np.int32),
        "text_ids": rng.integers(3, 50, (rows, 5)).astype(np.int32),
        "text_mask": np.ones((rows, 5), np.int32),
    }


@pytest.mark.parametrize("modalities", [("audio", "text"), ("audio",)])
def test_speech_encoded_once_gives_the_logits_of_the_whole(modalities):
    model, params = _model(*modalities)
    batch = _batch()
    whole = make_forward(model, ("logits", "log_probs", "frames"))(params, batch)
    encode = make_forward(model, ("audio_hidden", "audio_mask", "log_probs"))
    speech = encode(params, {k: batch[k] for k in SPEECH})
    np.testing.assert_allclose(speech.pop("log_probs"), whole["log_probs"], atol=1e-5)
    decided = make_forward(model)(params, speech | {k: batch[k] for k in TEXT})
    np.testing.assert_allclose(decided["logits"], whole["logits"], atol=1e-5)
    np.testing.assert_array_equal(whole["frames"], speech["audio_mask"].sum(-1))


def test_what_a_model_has_no_output_for_is_left_out():
    names = ("logits", "symbols", "frames", "attention", "mean_gate")
    for modalities, lacking in ((("text",), names[1:]), (("audio",), names[3:])):
        model, params = _model(*modalities)
        found = jax.eval_shape(make_forward(model, names), params, _batch())
        assert set(found) == set(names) - set(lacking)


def test_attention_and_gate_are_means():
    model, params = _model("audio", "text")
    batch = _batch()
    batch["text_mask"][0, 3:] = 0
    found = make_forward(model, ("attention", "mean_gate"))(params, batch)
    out = jax.jit(lambda p, b: model.apply({"params": p}, b)[1])(params, batch)
    np.testing.assert_allclose(found["attention"].sum(-1), 1, atol=1e-5)
    np.testing.assert_allclose(
        found["attention"], out["text_to_audio_attention"].mean(1), atol=1e-5
    )
    np.testing.assert_allclose(found["mean_gate"][0], out["gate"][0, :3].mean(), rtol=1e-5)


def test_rows_that_do_not_match_are_an_error():
    model, params = _model("audio", "text")
    batch = _batch() | {"text_ids": np.ones((2, 5), np.int32)}
    with pytest.raises(AssertionError, match="shape"):
        jax.eval_shape(make_forward(model), params, batch)


def test_the_best_path_drops_repeats_blanks_and_padding():
    path = [2, 2, 0, 2, 3, 3]
    best = best_path(jax.nn.one_hot(jnp.array([path]), 4), jnp.array([[1, 1, 1, 1, 1, 0]]))
    assert [s for s in best[0].tolist() if s] == [2, 2, 3]
