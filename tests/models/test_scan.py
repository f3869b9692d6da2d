"""The speech encoder's layers in a loop of the program: the same numbers, a smaller program."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from transformers import Wav2Vec2Config, WavLMConfig, WhisperConfig

from mmer_jax import configuration
from mmer_jax.models import factory
from mmer_jax.models.encoders import ENCODERS
from mmer_jax.models.layers import Dropout, EncoderPart, Layers

WIDTH, LAYERS = 16, 4
_SIZE = {
    "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": 2,
    "intermediate_size": 24, "conv_dim": (8,) * 7, "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
}  # fmt: skip
CONFIGS = {
    "post-norm": Wav2Vec2Config(**_SIZE),
    "pre-norm": Wav2Vec2Config(**_SIZE, do_stable_layer_norm=True, feat_extract_norm="layer"),
    "shared positions": WavLMConfig(**_SIZE),
    "whisper": WhisperConfig(
        d_model=WIDTH, encoder_layers=LAYERS, encoder_attention_heads=2, encoder_ffn_dim=24,
        max_source_positions=30,
    ),
}  # fmt: skip
LENGTHS = np.array([8000, 5000], np.int32)
AUDIO = np.random.default_rng(0).standard_normal((2, 8000)).astype(np.float32)
WEIGHTS = np.random.default_rng(1).standard_normal(WIDTH).astype(np.float32)
HALF_FROZEN = (r"(.*/)?layers/[01]/.*",)


@functools.cache
def _drawn(name):
    """The encoder's class with its config, and parameters."""
    config = CONFIGS[name]
    encoder = functools.partial(ENCODERS[config.model_type].cls, config)
    return encoder, encoder().init(jax.random.key(0), AUDIO, LENGTHS)["params"]


def _loss(encoder, params, every_state):
    """A number that every state pulls another way."""
    out = encoder.apply({"params": params}, AUDIO, LENGTHS, True, every_state)
    states = out[0] if every_state else [out[0]]
    return sum((i + 1) * jnp.mean(state * WEIGHTS) for i, state in enumerate(states))


def _assert_close(found, expected):
    """To rounding: gradients of the first convolutions are sums of many terms that cancel."""
    error = np.linalg.norm(found - expected)
    assert error <= 5e-4 * np.linalg.norm(expected) + 1e-6 * np.sqrt(expected.size)


@pytest.mark.parametrize("remat", ["none", "layers"])
@pytest.mark.parametrize("name", CONFIGS)
def test_values_and_gradients_are_those_of_the_single_layers(name, remat):
    make, params = _drawn(name)
    every_state = remat == "none"

    def compute(encoder):
        return jax.jit(jax.value_and_grad(lambda x: _loss(encoder, x, every_state)))(params)

    expected, expected_grads = compute(make())
    found, grads = compute(make(remat=remat, scan=True))
    assert found == pytest.approx(float(expected), rel=1e-5)
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(expected_grads), strict=True):
        _assert_close(a, b)


@pytest.mark.parametrize("name", CONFIGS)
def test_its_parameters_have_the_same_names(name):
    make, params = _drawn(name)
    fresh = jax.eval_shape(make(scan=True).init, jax.random.key(0), AUDIO, LENGTHS)["params"]
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, fresh)


class _Drops(EncoderPart):
    """A layer whose state is its dropout mask."""

    @nn.compact
    def __call__(self, hidden, mask, deterministic, shared=None):
        one = self.param("one", nn.initializers.ones, ())
        return Dropout(0.5)(one * jnp.ones_like(hidden), deterministic), shared


def test_every_layer_has_its_own_dropout():
    layers, hidden = Layers(None, kind=_Drops, count=LAYERS, scan=True), jnp.ones((2, 3, 8))
    variables = layers.init(jax.random.key(0), hidden, None, True)

    def masks(key):
        rngs = {"dropout": jax.random.key(key)}
        return np.stack(layers.apply(variables, hidden, None, False, rngs=rngs)[1:])

    drawn = np.concatenate([masks(1), masks(2)])
    assert len(np.unique(drawn.reshape(2 * LAYERS, -1), axis=0)) == 2 * LAYERS
    np.testing.assert_array_equal(masks(1), masks(1))


def test_layers_are_left_out():
    """Of a layer that is, the state is its input."""
    make, params = _drawn("post-norm")

    def stay(key):
        rngs = {"dropout": jax.random.key(key)}
        encoder = make(scan=True, layerdrop=0.5)
        states, _ = encoder.apply({"params": params}, AUDIO, LENGTHS, False, True, rngs=rngs)
        return [bool((a != b).any()) for a, b in zip(states, states[1:])]

    assert 0.2 < np.mean([stay(key) for key in range(8)]) < 0.8


def _loops(function, *args):
    """Lengths of the loops over layers in what a function traces to."""
    found = []

    def walk(jaxpr):
        for equation in jaxpr.eqns:
            if equation.primitive.name == "scan":
                found.append(equation.params["length"])
            for value in jax.tree.leaves(tuple(equation.params.values())):
                if hasattr(value, "eqns") or hasattr(value, "jaxpr"):
                    walk(getattr(value, "jaxpr", value))

    walk(jax.make_jaxpr(function)(*args).jaxpr)
    return found


def test_frozen_layers_have_a_loop_of_their_own_without_gradient():
    make, params = _drawn("post-norm")
    encoder = make(scan=True, frozen=HALF_FROZEN)
    layers = params["encoder"]["layers"]
    frozen = {k: v for k, v in layers.items() if k in "01"}
    trained = {k: v for k, v in layers.items() if k in "23"}

    def loss(trained, of=encoder):
        whole = params | {"encoder": params["encoder"] | {"layers": frozen | trained}}
        return _loss(of, whole, False)

    assert _loops(loss, trained) == [2, 2]
    assert _loops(jax.grad(loss), trained) == [2, 2, 2]  # forward twice, backward once
    expected = jax.grad(functools.partial(loss, of=make()))(trained)
    for a, b in zip(jax.tree.leaves(jax.grad(loss)(trained)), jax.tree.leaves(expected)):
        _assert_close(a, b)


def test_the_option_decides_and_a_cpu_takes_single_layers():
    c = configuration.default()
    c.audio.size.update({"width": 16, "layers": 2, "heads": 2, "ffn": 16})
    c.audio.conv_channels = 8
    c.text.size.update({"width": 16, "layers": 1, "heads": 2, "ffn": 16})
    c.audio.attention_dropout = 0.25
    scans = {}
    for c.model.scan_layers in ("auto", "yes", "no"):
        encoder = factory.build_model(c, 4, 30, 100).audio_encoder
        scans[c.model.scan_layers] = encoder.scan
        assert encoder.config.attention_dropout == 0.25
    assert scans == {"auto": jax.default_backend() != "cpu", "yes": True, "no": False}
