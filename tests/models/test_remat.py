"""`model.remat`: the same loss and gradients from less memory, dropout on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from transformers import Wav2Vec2Config, WhisperConfig

from benchmarks import common
from mmer_jax import configuration
from mmer_jax.losses.total import total_loss
from mmer_jax.models import factory
from mmer_jax.models.encoders import wav2vec2, whisper
from mmer_jax.models.layers import Layers
from mmer_jax.training import step

LAYERS, VOCABULARY = 3, 40


def _model(remat, audio="wav2vec2", text="roberta", dtype="float32"):
    c = configuration.default()
    c.audio.family, c.text.family = audio, text
    for size in (c.audio.size, c.text.size):
        size.width, size.layers, size.heads, size.ffn = 16, LAYERS, 2, 32
    c.audio.conv_channels = 16
    c.model.width, c.model.heads, c.model.ffn = 16, 2, 32
    c.model.remat, c.model.dtype = remat, dtype
    return factory.build_model(c, common.CLASSES, common.SYMBOLS, VOCABULARY), c


def _batch(seconds=0.6):
    lengths = np.linspace(0.7, 1, 4) * seconds
    return common.make_batch(lengths, lengths[::-1], VOCABULARY, np.random.default_rng(0))


def value_and_grad(model, config):
    """A jitted (params, batch) -> ((loss, outputs), gradients) with dropout."""

    def loss_fn(params, batch):
        rngs = {"dropout": jax.random.key(1)}
        logits, out = model.apply({"params": params}, batch, train=True, rngs=rngs)
        return total_loss(out, batch, config.losses)[0], out

    return jax.jit(jax.value_and_grad(loss_fn, has_aux=True))


@pytest.mark.parametrize("audio, text", [("wav2vec2", "roberta"), ("whisper", "bert")])
def test_same_loss_and_gradients(audio, text):
    batch, found = _batch(), {}
    for remat in ("none", "layers"):
        model, config = _model(remat, audio, text)
        params = factory.init_params(model, config, seed=0)
        (loss, _), grads = value_and_grad(model, config)(params, batch)
        found[remat] = {"loss": loss, "grads": grads}
    largest = max(float(np.abs(g).max()) for g in jax.tree.leaves(found["none"]))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * max(1, largest)),
        found["none"], found["layers"],
    )  # fmt: skip


KINDS = {
    "whisper": (
        whisper.EncoderLayer,
        WhisperConfig(
            d_model=32, encoder_layers=6, encoder_attention_heads=4, encoder_ffn_dim=64
        ),
    ),
    "wav2vec2": (
        wav2vec2.TransformerLayer,
        Wav2Vec2Config(
            hidden_size=32, num_hidden_layers=6, num_attention_heads=4, intermediate_size=64
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_transformer_layers_take_less_memory(name):
    """In the order in which training steps run on CPUs: XLA's own saves nothing there."""
    kind, config = KINDS[name]
    hidden, mask, key = jnp.ones((4, 200, 32)), jnp.ones((4, 200), bool), jax.random.key(0)

    def planned(remat):
        layers = Layers(config, jnp.float32, remat, kind, config.num_hidden_layers)
        params = jax.eval_shape(lambda: layers.init(key, hidden, mask, True))

        def loss(params):
            return jnp.sum(layers.apply(params, hidden, mask, False, rngs={"dropout": key}) ** 2)

        jitted = jax.jit(jax.grad(loss), compiler_options=step.compiler_options())
        return jitted.lower(params).compile().memory_analysis().temp_size_in_bytes

    assert planned("layers") < 0.6 * planned("none")
