"""SpecAugment and LayerDrop are Hugging Face's, act in training alone and where they are on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from transformers import (
    Data2VecAudioConfig,
    HubertConfig,
    Wav2Vec2Config,
    WavLMConfig,
    WhisperConfig,
)

from mmer_jax import configuration
from mmer_jax.errors import UserError
from mmer_jax.models import factory, layers
from mmer_jax.models.encoders import ENCODERS, audio, pretrained
from mmer_jax.models.encoders.whisper import WhisperEncoder, log_mel

torch = pytest.importorskip("torch")

SMALL = {
    "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24,
    "conv_dim": (8,) * 7, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2,
    "hidden_dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0,
    "feat_proj_dropout": 0.0,
}  # fmt: skip
LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
CONFIGS = {
    "wav2vec2": Wav2Vec2Config(**SMALL, **LARGE),
    "hubert": HubertConfig(**SMALL),
    "wavlm": WavLMConfig(**SMALL, num_buckets=16, max_bucket_distance=20),
    "data2vec-audio": Data2VecAudioConfig(**SMALL | {"num_conv_pos_embeddings": 2}),
}
WHISPER = WhisperConfig(
    d_model=16, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=24, decoder_layers=1,
    decoder_ffn_dim=24, decoder_attention_heads=2, max_source_positions=25, vocab_size=60,
    max_target_positions=8, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    decoder_start_token_id=1, dropout=0.0,
)  # fmt: skip
AUDIO = np.random.default_rng(0).standard_normal((2, 8_000)).astype(np.float32)
LENGTH = np.full(2, 8_000, np.int32)
FRAMES = 24
KEY = {"dropout": jax.random.key(3)}


@pytest.mark.parametrize("size, length, share, least", [
    (50, 10, 0.5, 0), (50, 10, 0.05, 2), (37, 4, 0.65, 0), (23, 10, 0.9, 2), (11, 10, 0.3, 2),
    (11, 1, 0.5, 0),
])  # fmt: skip
def test_spans_are_distributed_as_hugging_faces(size, length, share, least):
    from transformers.models.wav2vec2.modeling_wav2vec2 import _compute_mask_indices

    draws = 4_000
    np.random.seed(0)
    theirs = np.concatenate([
        _compute_mask_indices((1, size), share, length, min_masks=least) for _ in range(draws)
    ])  # fmt: skip
    keys = jax.random.split(jax.random.key(0), draws)
    sizes = np.array([size])
    draw = jax.vmap(lambda key: audio.draw_spans(key, sizes, size + 9, share, length, least))
    ours = np.array(jax.jit(draw)(keys))[:, 0]
    assert not ours[:, size:].any()
    ours = ours[:, :size]
    np.testing.assert_allclose(ours.mean(0), theirs.mean(0), rtol=0, atol=0.05)
    counts = [np.bincount(x.sum(1), minlength=size + 1) / draws for x in (ours, theirs)]
    np.testing.assert_allclose(*counts, rtol=0, atol=0.05)


def test_each_row_has_spans_of_its_own_in_its_own_frames():
    sizes = np.array([100, 40, 12, 9, 0])
    spans = np.array(audio.draw_spans(jax.random.key(1), sizes, 120, 0.5, 10, 2))
    for row, size in zip(spans, sizes):
        assert not row[size:].any()
        assert row.any() == (size >= 10)  # a row that is shorter than a span has none
    assert (spans[0, :40] != spans[1, :40]).any()


def _forced(monkeypatch, frames, features):
    """Makes ours and theirs mask these frames and features."""
    drawn = lambda _, sizes, count, *a: jnp.array(frames if count == frames.shape[1] else features)  # noqa: E731
    monkeypatch.setattr(audio, "draw_spans", drawn)
    for name in ("wav2vec2", "hubert", "wavlm", "data2vec", "whisper"):
        part = "_audio" if name == "data2vec" else ""
        monkeypatch.setattr(
            f"transformers.models.{name}.modeling_{name}{part}._compute_mask_indices",
            lambda shape, **_: frames if shape[1] == frames.shape[1] else features,
        )


def _pair(kind, perturbed, **options):
    """HF's model as in training, our encoder, and its parameters."""
    from transformers import AutoModel

    config = CONFIGS[kind]
    config.update({"mask_time_prob": 0.5, "mask_feature_prob": 0.5, "layerdrop": 0.0})
    config.mask_feature_min_masks = 0  # WavLM's model reads it, and its config has none
    theirs = perturbed(AutoModel.from_config(config)).train()
    ours = ENCODERS[kind].cls(config, **options)
    shapes = jax.eval_shape(ours.init, jax.random.key(0), AUDIO, LENGTH)["params"]
    state = {name: p.detach().numpy() for name, p in theirs.named_parameters()}
    return theirs, ours, pretrained.from_state(state, shapes, "state")


@pytest.mark.parametrize("kind", CONFIGS)
def test_masked_frames_and_features_are_hugging_faces(kind, perturbed, monkeypatch):
    frames, features = np.zeros((2, FRAMES), bool), np.zeros((2, 16), bool)
    frames[0, 3:9], frames[1, 10:], features[1, 4:7] = True, True, True
    _forced(monkeypatch, frames, features)
    theirs, ours, params = _pair(kind, perturbed, mask_time_prob=0.1, mask_feature_prob=0.1)
    expected = theirs(torch.from_numpy(AUDIO)).last_hidden_state
    expected.square().sum().backward()

    def value(params):
        hidden, _ = ours.apply({"params": params}, AUDIO, LENGTH, False, rngs=KEY)
        return jnp.sum(hidden**2), hidden

    (_, hidden), grads = jax.jit(jax.value_and_grad(value, has_aux=True))(params)
    np.testing.assert_allclose(hidden, expected.detach().numpy(), rtol=0, atol=1e-4)
    theirs_grad = theirs.masked_spec_embed.grad.numpy()
    scale = np.abs(theirs_grad).max()
    np.testing.assert_allclose(
        grads["masked_spec_embed"], theirs_grad, rtol=0, atol=1e-3 * scale + 1e-4
    )
    evaluated = jax.jit(ours.apply)({"params": params}, AUDIO, LENGTH)[0]
    with torch.no_grad():
        plain = theirs.eval()(torch.from_numpy(AUDIO)).last_hidden_state.numpy()
    np.testing.assert_allclose(evaluated, plain, rtol=0, atol=1e-4)
    assert np.abs(evaluated - hidden).max() > 1e-2


def test_whispers_masked_features_are_hugging_faces(perturbed, monkeypatch):
    from transformers import WhisperModel

    frames, features = np.zeros((2, 50), bool), np.zeros((2, 80), bool)
    frames[0, 3:9], features[1, 4:7] = True, True
    _forced(monkeypatch, frames, features)
    config = WHISPER
    config.update({"apply_spec_augment": True, "mask_time_prob": 0.5, "mask_feature_prob": 0.5})
    theirs = perturbed(WhisperModel(config)).train()
    ours = WhisperEncoder(config, mask_time_prob=0.1, mask_feature_prob=0.1)
    shapes = jax.eval_shape(ours.init, jax.random.key(0), AUDIO, LENGTH)["params"]
    state = {name: p.detach().numpy() for name, p in theirs.named_parameters()}
    params = pretrained.from_state(state, shapes, "state")
    mel = torch.from_numpy(np.array(log_mel(AUDIO, LENGTH, 80)[0])).transpose(1, 2)
    with torch.no_grad():
        expected = theirs.encoder(theirs._mask_input_features(mel)).last_hidden_state.numpy()
    run = jax.jit(lambda p: ours.apply({"params": p}, AUDIO, LENGTH, False, rngs=KEY)[0])
    np.testing.assert_allclose(run(params), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", CONFIGS)
def test_layers_are_left_out_as_hugging_face_does(kind, perturbed, monkeypatch):
    """WavLM's first layer stays: all others need the distances that it embeds."""
    stay = (0, 1, 0)
    theirs, ours, params = _pair(kind, perturbed, layerdrop=0.5)
    theirs.config.update({"layerdrop": 0.5, "mask_time_prob": 0.0, "mask_feature_prob": 0.0})
    drawn = iter(stay)
    monkeypatch.setattr(torch, "rand", lambda *_: torch.tensor(0.9 if next(drawn) else 0.1))
    monkeypatch.setattr(layers, "draw_layers", lambda *_: jnp.array(stay, bool))
    expected = theirs(torch.from_numpy(AUDIO), output_hidden_states=True).hidden_states
    run = jax.jit(lambda p: ours.apply({"params": p}, AUDIO, LENGTH, False, True, rngs=KEY)[0])
    for state, hidden in zip(run(params), expected, strict=True):
        np.testing.assert_allclose(state, hidden.detach().numpy(), rtol=0, atol=1e-4)


def test_a_share_of_the_layers_is_left_out():
    keys = jax.random.split(jax.random.key(0), 4_000)
    stay = jax.vmap(lambda key: layers.draw_layers(key, 0.3, 5))(keys)
    np.testing.assert_allclose(stay.mean(0), 0.7, rtol=0, atol=0.04)


@pytest.mark.parametrize("kind", ["wavlm", "whisper"])
def test_other_draws_stay_where_it_is_off_or_leaves_nothing_out(kind):
    if kind == "whisper":
        config = WhisperConfig(**WHISPER.to_dict() | {"dropout": 0.3})
    else:
        config = WavLMConfig(**CONFIGS[kind].to_dict() | {"hidden_dropout": 0.3})
    off = ENCODERS[kind].cls(config)
    params = jax.jit(off.init)(jax.random.key(0), AUDIO, LENGTH)
    tiny = ENCODERS[kind].cls(config, layerdrop=1e-9, mask_feature_prob=1e-9)
    shapes = jax.eval_shape(tiny.init, jax.random.key(0), AUDIO, LENGTH)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, shapes)

    def run(encoder, key=3):
        rngs = {"dropout": jax.random.key(key)}
        return jax.jit(lambda p: encoder.apply(p, AUDIO, LENGTH, False, rngs=rngs)[0])(params)

    np.testing.assert_allclose(run(off), run(tiny), rtol=0, atol=1e-5)
    assert np.abs(run(off) - run(off, 4)).max() > 1e-2
    half = ENCODERS[kind].cls(config, layerdrop=0.5)
    assert np.abs(run(off) - run(half)).max() > 1e-2


def _model(tmp_path, **options):
    """A config whose encoder is a folder without the vector of masked frames, and its model."""
    from transformers import Wav2Vec2Model

    config = Wav2Vec2Config(**SMALL, mask_time_prob=0.0)
    Wav2Vec2Model(config).save_pretrained(tmp_path)
    c = configuration.default()
    c.audio.pretrained, c.model.modalities = str(tmp_path), ("audio",)
    c.audio.update(options)
    c.model.width, c.model.heads, c.model.ffn = 16, 2, 16
    return c, factory.build_model(c, 4, 32, 50)


def test_the_options_reach_the_encoder_and_its_parameters(tmp_path):
    c, plain = _model(tmp_path)
    assert pretrained.MASKED not in factory.param_shapes(plain)["audio_encoder"]
    c, model = _model(tmp_path, layerdrop=0.1, mask_time_prob=0.2, mask_time_length=5)
    encoder = model.audio_encoder
    assert (encoder.layerdrop, encoder.mask_time_prob, encoder.mask_time_length) == (0.1, 0.2, 5)
    params = factory.init_params(model, c, seed=0)
    vector = params["audio_encoder"][pretrained.MASKED]
    assert vector.shape == (16,) and np.std(vector) > 0.1 and np.all((0 <= vector) & (vector < 1))
    without = factory.fit_masked(plain, params, seed=0)
    factory.check_params(plain, without, "x")
    factory.check_params(model, factory.fit_masked(model, without, seed=0), "x")
    assert factory.fit_masked(model, params, seed=0) is params


@pytest.mark.parametrize("option", ["layerdrop", "mask_time_prob", "mask_feature_prob"])
def test_a_frozen_encoder_is_not_augmented(option):
    c = configuration.default()
    c.text.tokenizer = "somewhere"
    c.audio[option] = 0.1
    configuration.validate(c)
    c.optimizer.frozen = ("audio_encoder/feature_extractor/.*",)
    configuration.validate(c)
    c.optimizer.frozen = ("audio_encoder/.*",)
    with pytest.raises(UserError, match=rf"config\.audio\.{option}"):
        configuration.validate(c)
