"""The whole model with `model.remat` and in bfloat16, against itself in float32; dropout is on."""

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
from mmer_jax.training.step import compiler_options

VOCABULARY = 60


def _model(audio, text, dtype="float32", remat="none"):
    c = configuration.default()
    c.audio.family, c.text.family, c.audio.conv_channels = audio, text, 32
    for size in (c.audio.size, c.text.size):
        size.width, size.layers, size.heads, size.ffn = 32, 2, 2, 64
    c.model.width, c.model.heads, c.model.ffn = 32, 2, 64
    c.model.dtype, c.model.remat = dtype, remat
    return factory.build_model(c, common.CLASSES, common.SYMBOLS, VOCABULARY), c


def _value_and_grad(audio, text, **options):
    """((loss, outputs), gradients) of one batch."""
    model, config = _model(audio, text, **options)
    rng = np.random.default_rng(0)
    batch = common.make_batch([0.6, 0.8, 0.7, 0.8], [0.8, 0.6, 0.8, 0.5], VOCABULARY, rng)

    def loss_fn(params, batch):
        rngs = {"dropout": jax.random.key(1)}
        _, out = model.apply({"params": params}, batch, train=True, rngs=rngs)
        return total_loss(out, batch, config.losses)[0], out

    params = factory.init_params(model, config, seed=0)
    return jax.jit(jax.value_and_grad(loss_fn, has_aux=True))(params, batch)


@pytest.fixture(scope="module", params=[("wav2vec2", "roberta"), ("whisper", "bert")])
def plain(request):
    """(families, what is expected of their model)."""
    return request.param, _value_and_grad(*request.param)


@pytest.mark.slow
def test_remat_gives_the_same_loss_and_gradients(plain):
    families, ((loss, _), grads) = plain
    (found, _), found_grads = _value_and_grad(*families, remat="layers")
    largest = max(1, *(float(np.abs(g).max()) for g in jax.tree.leaves((loss, grads))))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * largest),
        (loss, grads), (found, found_grads),
    )  # fmt: skip


@pytest.mark.slow
def test_bfloat16_is_close_to_float32_and_float32_where_promised(plain):
    families, ((expected, expected_out), expected_grads) = plain
    (loss, out), grads = _value_and_grad(*families, dtype="bfloat16")
    assert out["audio_hidden"].dtype == out["text_hidden"].dtype == jnp.bfloat16
    promised = (loss, out["logits"], out["ctc_logits"], out["projection"], *jax.tree.leaves(grads))
    assert all(x.dtype == jnp.float32 and jnp.isfinite(x).all() for x in promised)
    # bfloat16 keeps 8 bits (0.4 %), and each layer rounds anew: some percent at the top.
    assert abs(loss - expected) < 0.03 * abs(expected)
    spread = float(np.abs(expected_out["logits"]).max())
    np.testing.assert_allclose(out["logits"], expected_out["logits"], atol=0.08 * spread)
    ours, theirs = (
        np.concatenate([np.ravel(g) for g in jax.tree.leaves(tree)])
        for tree in (grads, expected_grads)
    )
    assert ours @ theirs / np.linalg.norm(ours) / np.linalg.norm(theirs) > 0.97


def test_a_frozen_text_encoder_computes_in_float32():
    model, c = _model("whisper", "bert", dtype="bfloat16")
    assert model.text_encoder.dtype == model.audio_encoder.dtype == jnp.bfloat16
    c.optimizer.frozen = ("text_encoder/.*",)
    model = factory.build_model(c, common.CLASSES, common.SYMBOLS, VOCABULARY)
    assert model.text_encoder.dtype == jnp.float32 and model.audio_encoder.dtype == jnp.bfloat16


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
        layers = Layers(config, remat=remat, kind=kind, count=config.num_hidden_layers)
        params = jax.eval_shape(lambda: layers.init(key, hidden, mask, True))

        def loss(params):
            states = layers.apply(params, hidden, mask, False, rngs={"dropout": key})
            return jnp.sum(states[-1] ** 2)

        jitted = jax.jit(jax.grad(loss), compiler_options=compiler_options())
        return jitted.lower(params).compile().memory_analysis().temp_size_in_bytes

    assert planned("layers") < 0.6 * planned("none")
