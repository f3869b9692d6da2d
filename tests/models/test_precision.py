"""`model.precision` reaches every product of every program; some are always the highest."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import common
from mmer_jax import configuration
from mmer_jax.inference import stablehlo
from mmer_jax.losses import contrastive
from mmer_jax.losses.per_row import ctc
from mmer_jax.models import factory
from mmer_jax.models.encoders.whisper import log_mel
from mmer_jax.models.mmer import make_forward
from mmer_jax.training.trainer import Trainer

# StableHLO's names of what the options ask for.
NAMES = {"default": "DEFAULT", "tensorfloat32": "HIGH", "float32": "HIGHEST"}
CLASSES, SYMBOLS = common.CLASSES, common.SYMBOLS


def _model(precision, audio="wav2vec2"):
    c = configuration.default()
    c.audio.family, c.text.family, c.audio.conv_channels = audio, "bert", 8
    for size in (c.audio.size, c.text.size):
        size.width, size.layers, size.heads, size.ffn = 16, 1, 2, 16
    c.model.width, c.model.heads, c.model.ffn = 16, 2, 16
    c.model.precision = precision
    return factory.build_model(c, CLASSES, SYMBOLS, 60), c


def _batch():
    rng = np.random.default_rng(0)
    return common.make_batch([0.5, 0.6], [0.6, 0.5], 60, rng)


def _programs(precision, audio):
    """Name -> text of each program that applies the model, before any compilation."""
    model, config = _model(precision, audio)
    batch, shapes = _batch(), factory.param_shapes(model)
    trainer = Trainer(config, range(CLASSES), 60)
    speech, text = ({k: batch[k] for k in batch if k.startswith(x)} for x in ("audio", "text"))
    encode = make_forward(model, ("audio_hidden", "audio_mask", "log_probs"))
    encoded = jax.eval_shape(encode, shapes, speech)
    encoded.pop("log_probs")
    lowered = {
        "train": trainer.train_step.function.lower(trainer.shapes, batch),
        "eval": make_forward(model, ("logits", "symbols")).lower(shapes, batch),
        "encode": encode.lower(shapes, speech),
        "decide": make_forward(model).lower(shapes, encoded | text),
    }
    return {name: x.as_text() for name, x in lowered.items()}


def _found(text):
    """Precisions of the products and convolutions in a program."""
    lines = [x for x in text.splitlines() if re.search(r"stablehlo\.(dot_general|convolution)", x)]
    return [sorted(set(re.findall(r"\b(DEFAULT|HIGH|HIGHEST)\b", x))) for x in lines]


@pytest.mark.parametrize("audio, precision", [
    ("wav2vec2", "float32"), ("whisper", "tensorfloat32"), ("whisper", "default"),
])  # fmt: skip
def test_every_product_of_every_program_has_the_configs_precision_or_the_highest(audio, precision):
    for name, text in _programs(precision, audio).items():
        found = _found(text)
        own = [x for x in found if x in ([], [NAMES[precision]])]
        highest = [x for x in found if x == ["HIGHEST"]]
        assert len(found) > 4 and own and highest, name
        if precision == "default":
            assert len(own) + len(highest) == len(found), name
        else:
            assert all(x in ([NAMES[precision]], ["HIGHEST"]) for x in found), name
        if precision == "tensorfloat32":  # else everything might be the highest
            assert len(own) > len(highest), name


def test_the_exported_program_has_it_too():
    model, _ = _model("float32")
    batch = {k: _batch()[k] for k in ("audio", "audio_length", "text_ids", "text_mask")}
    bucket = stablehlo.Bucket(2, batch["audio"].shape[1], batch["text_ids"].shape[1])
    exported = stablehlo.exported(model, factory.param_shapes(model), bucket)
    found = _found(exported.mlir_module())
    assert len(found) > 4 and all(x == ["HIGHEST"] for x in found)


def test_similarities_ctc_and_log_mel_are_always_the_highest():
    z, label, valid = jnp.ones((4, 8)), jnp.zeros(4, int), jnp.ones(4, bool)
    for loss in (contrastive.supervised_contrastive, contrastive.supervised_contrastive_original):
        text = jax.jit(jax.grad(lambda z, f=loss: f(z, label, valid)[0].sum())).lower(z).as_text()
        assert _found(text) and all(x == ["HIGHEST"] for x in _found(text))
    for loss in (contrastive.augmented_contrastive, contrastive.augmented_contrastive_original):
        text = jax.jit(jax.grad(lambda z, f=loss: f(z, z, valid)[0].sum())).lower(z).as_text()
        assert _found(text) and all(x == ["HIGHEST"] for x in _found(text))
    logits, symbols = jnp.ones((1, 9, 5)), jnp.ones((1, 3), int)
    loss = lambda x: ctc(x, jnp.ones((1, 9)), symbols, jnp.array([3]), jnp.array([True]))[0].sum()  # noqa: E731
    text = jax.jit(jax.grad(loss)).lower(logits).as_text()
    assert _found(text) and all(x == ["HIGHEST"] for x in _found(text))
    audio, length = jnp.ones((1, 1_600)), jnp.array([1_600])
    text = jax.jit(log_mel, static_argnums=2).lower(audio, length, 80).as_text()
    assert _found(text) == [["HIGHEST"]]
