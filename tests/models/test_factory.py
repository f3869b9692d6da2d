"""An encoder that isn't trained gives the same features in every step."""

import jax
import numpy as np
import pytest

from mmer_jax import configuration
from mmer_jax.models import factory


def _config(*frozen):
    c = configuration.default()
    c.audio.family, c.text.family = "whisper", "bert"
    for size in (c.audio.size, c.text.size):
        size.width, size.layers, size.heads, size.ffn = 16, 1, 2, 16
    c.model.width, c.model.heads, c.model.ffn = 16, 2, 16
    c.optimizer.frozen = frozen
    return c


@pytest.mark.parametrize(
    "patterns, frozen",
    [
        ((), ()),
        (("text_encoder/.*",), ("text_encoder",)),
        ((".*encoder/.*",), ("audio_encoder", "text_encoder")),
        (("text_encoder/embeddings/.*", "audio_encoder/conv1/.*"), ()),
    ],
)
def test_which_encoders_are_frozen_as_a_whole(patterns, frozen):
    assert factory.build_model(_config(*patterns), 4, 32, 30).frozen == frozen


def _text_states(*frozen):
    """A function: dropout seed (None: evaluation) -> the text encoder's states, and X above it."""
    config = _config(*frozen)
    config.model.modalities = ("text",)
    model = factory.build_model(config, 4, 32, 30)
    params = factory.init_params(model, config, seed=0)
    batch = {
        "text_ids": np.array([[3, 4, 5]]), "text_mask": np.ones((1, 3)),
    }  # fmt: skip
    apply = jax.jit(model.apply, static_argnames="train")

    def states(seed):
        rngs = None if seed is None else {"dropout": jax.random.key(seed)}
        _, out = apply({"params": params}, batch, train=seed is not None, rngs=rngs)
        return np.asarray(out["text_hidden"]), np.asarray(out["text_self"])

    return states


def test_a_frozen_text_encoder_has_no_dropout_in_training():
    states = _text_states("text_encoder/.*")
    (hidden1, above1), (hidden2, above2), (hidden, _) = states(1), states(2), states(None)
    np.testing.assert_allclose(hidden1, hidden, atol=1e-6)
    np.testing.assert_allclose(hidden2, hidden, atol=1e-6)
    assert np.abs(above1 - above2).max() > 1e-2  # the trained layer above it keeps its dropout


def test_a_trained_text_encoder_has_dropout_in_training():
    states = _text_states()
    assert np.abs(states(1)[0] - states(2)[0]).max() > 1e-2


def test_a_text_of_any_longest_length_has_positions_to_its_padded_end():
    config = _config()
    config.model.modalities = ("text",)
    config.text.max_tokens = 10  # padded to 16
    model = factory.build_model(config, 4, 32, 30)
    params = factory.init_params(model, config, seed=0)
    ids = np.full((1, 16), 3, np.int32)
    mask = (np.arange(16) < 10).astype(np.int32)[None]
    batch = {"text_ids": ids, "text_mask": mask}
    assert np.isfinite(model.apply({"params": params}, batch)[0]).all()
