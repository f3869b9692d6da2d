"""bfloat16 computes in bfloat16; parameters, heads, losses and gradients stay float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import common
from mmer_jax import configuration
from mmer_jax.losses.total import total_loss
from mmer_jax.models import factory


def _model(audio, text, dtype):
    c = configuration.default()
    c.audio.family, c.text.family, c.audio.conv_channels = audio, text, 32
    for size in (c.audio.size, c.text.size):
        size.width, size.layers, size.heads, size.ffn = 32, 2, 2, 64
    c.model.width, c.model.heads, c.model.ffn, c.model.dtype = 32, 2, 64, dtype
    return factory.build_model(c, common.CLASSES, common.SYMBOLS, 60), c


def _value_and_grad(model, config, params, batch):
    def loss_fn(params):
        rngs = {"dropout": jax.random.key(1)}
        _, out = model.apply({"params": params}, batch, train=True, rngs=rngs)
        return total_loss(out, batch, config.losses)[0], out

    return jax.jit(jax.value_and_grad(loss_fn, has_aux=True))(params)


@pytest.mark.parametrize("audio, text", [("wav2vec2", "roberta"), ("whisper", "bert")])
def test_close_to_float32_and_float32_where_promised(audio, text):
    rng = np.random.default_rng(0)
    batch = common.make_batch([0.6, 0.8, 0.7, 0.8], [0.8, 0.6, 0.8, 0.5], 60, rng)
    found = {}
    for dtype in ("float32", "bfloat16"):
        model, config = _model(audio, text, dtype)
        params = factory.init_params(model, config, seed=0)
        found[dtype] = _value_and_grad(model, config, params, batch)
    (loss, out), grads = found["bfloat16"]
    (expected, expected_out), expected_grads = found["float32"]
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
    model, c = _model("whisper", "bert", "bfloat16")
    assert model.text_encoder.dtype == model.audio_encoder.dtype == jnp.bfloat16
    c.optimizer.frozen = ("text_encoder/.*",)
    model = factory.build_model(c, common.CLASSES, common.SYMBOLS, 60)
    assert model.text_encoder.dtype == jnp.float32 and model.audio_encoder.dtype == jnp.bfloat16
