"""Whisper's encoder and log-mel equal Hugging Face's, and padding changes nothing."""

import numpy as np
import pytest
from transformers import WhisperConfig, WhisperFeatureExtractor

from mmer_jax.models.encoders.whisper import WhisperEncoder, log_mel

torch = pytest.importorskip("torch")

SAMPLES = 8_000
FRAMES = SAMPLES // 320


def _config(positions):
    return WhisperConfig(
        d_model=32, encoder_layers=2, encoder_attention_heads=4, encoder_ffn_dim=48,
        decoder_layers=1, decoder_attention_heads=4, decoder_ffn_dim=48, vocab_size=60,
        max_source_positions=positions, max_target_positions=8, num_mel_bins=80,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
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
