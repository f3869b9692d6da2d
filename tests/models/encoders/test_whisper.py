"""Whisper's encoder and log-mel equal Hugging Face's, and padding changes nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from transformers import WhisperConfig, WhisperFeatureExtractor

from mmer_jax.models.encoders import pretrained
from mmer_jax.models.encoders.whisper import EncoderLayer, WhisperEncoder, log_mel
from mmer_jax.models.layers import Layers

torch = pytest.importorskip("torch")

SAMPLES = 8_000
FRAMES = SAMPLES // 320


def _config(positions, **options):
    return WhisperConfig(
        d_model=32, encoder_layers=2, encoder_attention_heads=4, encoder_ffn_dim=48,
        decoder_layers=1, decoder_attention_heads=4, decoder_ffn_dim=48, vocab_size=60,
        max_source_positions=positions, max_target_positions=8, num_mel_bins=80,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1, **options,
    )  # fmt: skip


def _audio(lengths, total, seed=0):
    rng = np.random.default_rng(seed)
    audio = np.zeros((len(lengths), total), np.float32)
    for row, n in zip(audio, lengths):
        loud = np.linspace(0.001, 0.3, n)  # over the 8 decades that log-mel clips
        row[:n] = loud * rng.standard_normal(n)
    return audio


@pytest.fixture(scope="module", params=["WhisperModel", "WhisperForConditionalGeneration"])
def pair(request, tmp_path_factory, perturbed, load_encoder):
    """HF's whole PyTorch model, and our encoder, loaded from the folder it was saved in."""
    import transformers

    config = _config(FRAMES)
    theirs = perturbed(getattr(transformers, request.param)(config))
    folder = tmp_path_factory.mktemp("whisper")
    theirs.save_pretrained(folder)
    ours = load_encoder(
        WhisperEncoder(config), folder, np.zeros((1, 1600), np.float32), np.array([1600])
    )
    return theirs.get_encoder(), ours


def _torch_hidden(encoder, features):
    """HF's encoder on log-mel [b, m, bins]; it wants exactly as many frames as positions."""
    with torch.no_grad():
        return encoder(torch.from_numpy(features).transpose(1, 2)).last_hidden_state.numpy()


def test_encoder_equals_hugging_face_on_the_same_log_mel(pair):
    theirs, ours = pair
    audio, length = _audio([SAMPLES] * 2, SAMPLES), np.array([SAMPLES] * 2, np.int32)
    features, _ = log_mel(audio, length, 80)
    expected = _torch_hidden(theirs, np.array(features))
    hidden, mask = ours(audio, length)
    assert mask.all() and expected.std() > 0.1
    np.testing.assert_allclose(hidden, expected, rtol=0, atol=1e-4)


def test_each_utterance_of_a_padded_batch_equals_hugging_face_alone(pair):
    """HF's encoder with its positions cut to the utterance's own frames."""
    theirs, ours = pair
    lengths = np.array([8_000, 6_400, 3_840], np.int32)
    audio = _audio(lengths, SAMPLES)
    hidden, mask = ours(audio, lengths)
    for i, n in enumerate(lengths):
        features, _ = log_mel(audio[i : i + 1, :n], lengths[i : i + 1], 80)
        alone = _torch_hidden(_with_positions(theirs, n // 320), np.array(features))[0]
        assert mask[i].sum() == len(alone)
        np.testing.assert_allclose(hidden[i][mask[i]], alone, rtol=0, atol=1e-4)


def test_every_hidden_state_in_30_s_is_hugging_faces(tmp_path, perturbed, load_encoder):
    """HF's extractor fills up 30 s with silence, which its encoder attends to."""
    from transformers import WhisperModel

    config = _config(1500)
    theirs = perturbed(WhisperModel(config))
    theirs.save_pretrained(tmp_path)
    example = (np.zeros((1, 1600), np.float32), np.array([1600]))
    ours = load_encoder(WhisperEncoder(config, window="30s"), tmp_path, *example, every=True)
    lengths = np.array([8_000, 5_120], np.int32)
    audio = _audio(lengths, 8_320)
    extract = WhisperFeatureExtractor(feature_size=80)
    features = extract([row[:n] for row, n in zip(audio, lengths)], sampling_rate=16_000,
                       return_tensors="pt").input_features  # fmt: skip
    with torch.no_grad():
        expected = theirs.get_encoder()(features, output_hidden_states=True).hidden_states
    states, mask = ours(audio, lengths)
    assert len(states) == len(expected) == 3 and mask.sum(1).tolist() == [25, 16]
    for state, hidden in zip(states, expected):
        hidden = hidden.numpy()[:, : mask.shape[1]]
        np.testing.assert_allclose(state[mask], hidden[mask], rtol=0, atol=2e-4)


def _with_positions(encoder, count):
    from transformers.models.whisper.modeling_whisper import WhisperEncoder as TorchEncoder

    fresh = TorchEncoder(_config(count)).eval()
    state = encoder.state_dict()
    state["embed_positions.weight"] = state["embed_positions.weight"][:count]
    fresh.load_state_dict(state)
    return fresh


@pytest.mark.parametrize("bins", [80, 128])
def test_log_mel_equals_hugging_faces_extractor(bins):
    """The utterance's frames out of HF's 30 s; the zeros behind it move no maximum."""
    audio = _audio([SAMPLES], SAMPLES)
    extractor = WhisperFeatureExtractor(feature_size=bins)
    theirs = extractor(audio[0], sampling_rate=16_000, return_tensors="np").input_features[0].T
    ours, mask = log_mel(audio, np.array([SAMPLES], np.int32), bins)
    assert mask.sum() == SAMPLES // 160
    np.testing.assert_allclose(ours[0], theirs[: SAMPLES // 160], rtol=0, atol=1e-4)


def test_log_mel_of_a_padded_utterance_is_its_own():
    lengths = np.array([8_000, 5_200], np.int32)
    audio = _audio(lengths, 9_600)
    batched, mask = log_mel(audio, lengths, 80)
    for i, n in enumerate(lengths):
        alone, _ = log_mel(audio[i : i + 1, :n], lengths[i : i + 1], 80)
        np.testing.assert_allclose(batched[i][mask[i]][: n // 160], alone[0], rtol=0, atol=1e-5)


def test_an_utterance_longer_than_the_positions_is_an_error(pair):
    _, ours = pair
    with pytest.raises(ValueError, match="positions for 25"):
        ours(np.zeros((1, 16_000), np.float32), np.array([16_000], np.int32))


def test_every_gradient_is_hugging_faces(perturbed):
    from transformers.models.whisper.modeling_whisper import WhisperEncoder as TorchEncoder

    config = _config(FRAMES)
    theirs, ours = perturbed(TorchEncoder(config)), WhisperEncoder(config)
    audio, length = _audio([SAMPLES] * 2, SAMPLES), np.array([SAMPLES] * 2, np.int32)
    factors = np.random.default_rng(1).standard_normal((2, FRAMES, 32)).astype(np.float32)
    features = torch.from_numpy(np.array(log_mel(audio, length, 80)[0])).transpose(1, 2)
    (theirs(features).last_hidden_state * torch.from_numpy(factors)).sum().backward()
    # The sinusoids are not trained: None there, 0 here.
    torch_grads = {
        k: (torch.zeros_like(p) if p.grad is None else p.grad).numpy()
        for k, p in theirs.named_parameters()
    }
    state = {k: p.detach().numpy() for k, p in theirs.named_parameters()}
    shapes = jax.eval_shape(ours.init, jax.random.key(0), audio, length)["params"]
    params, expected = (pretrained.from_state(s, shapes, "state") for s in (state, torch_grads))

    def value(params):
        return jnp.sum(ours.apply({"params": params}, audio, length)[0] * factors)

    grads = jax.jit(jax.grad(value))(params)
    grads, expected = (traverse_util.flatten_dict(x, sep="/") for x in (grads, expected))
    assert len(grads) == 4 + 1 + 2 * 15 + 2
    for name, grad in grads.items():
        largest = np.abs(expected[name]).max()
        assert (largest > 0) == (name != "embed_positions/embedding"), name
        np.testing.assert_allclose(grad, expected[name], rtol=0, atol=1e-4 * largest, err_msg=name)


def test_positions_from_scratch_are_whispers():
    from transformers.models.whisper.modeling_whisper import sinusoids

    audio, length = _audio([SAMPLES], SAMPLES), np.array([SAMPLES], np.int32)
    params = WhisperEncoder(_config(1500)).init(jax.random.key(0), audio, length)["params"]
    expected = sinusoids(1500, 32).numpy()
    found = params["embed_positions"]["embedding"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-4)  # theirs count in float32


@pytest.mark.parametrize("rate", ["dropout", "attention_dropout", "activation_dropout"])
def test_each_dropout_of_the_config_acts_in_training_alone(rate):
    off = {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0}
    hidden = jax.random.normal(jax.random.key(1), (2, 5, 32))
    mask = jnp.ones((2, 5), bool)

    def run(options, deterministic, seed=0):
        config = _config(FRAMES, **options)
        layers = Layers(config, kind=EncoderLayer, count=config.encoder_layers)
        params = jax.jit(layers.init, static_argnums=3)(jax.random.key(0), hidden, mask, True)
        rngs, apply = {"dropout": jax.random.key(seed)}, jax.jit(layers.apply, static_argnums=3)
        return np.array(apply(params, hidden, mask, deterministic, rngs=rngs))

    plain, dropped = run(off, False), run(off | {rate: 0.5}, False)
    np.testing.assert_array_equal(run(off | {rate: 0.5}, True), run(off, True))
    np.testing.assert_allclose(plain, run(off, True), rtol=0, atol=1e-6)
    assert np.abs(dropped - plain).max() > 1e-4
    assert np.abs(dropped - run(off | {rate: 0.5}, False, seed=1)).max() > 1e-4
