"""The wav2vec 2.0 family beside Hugging Face's; see tests/benchmarks/test_encoders.py, too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from transformers import HubertConfig, Wav2Vec2Config
from transformers.models.wav2vec2.modeling_flax_wav2vec2 import FlaxWav2Vec2PositionalConvEmbedding

from mmer_jax.models.encoders import pretrained, wavlm
from mmer_jax.models.encoders.wav2vec2 import PositionalConv, Wav2Vec2Encoder, frame_count

torch = pytest.importorskip("torch")

SMALL = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
    "conv_dim": (16,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4,
}  # fmt: skip
LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
CONFIGS = {
    "wav2vec2-base": Wav2Vec2Config(**SMALL),
    "wav2vec2-large": Wav2Vec2Config(**SMALL, **LARGE),
    "hubert-base": HubertConfig(**SMALL),
    "hubert-large": HubertConfig(**SMALL, **LARGE),
    "hubert-without-feature-norm": HubertConfig(**SMALL, feat_proj_layer_norm=False),
}
LENGTHS = np.array([6_000, 4_321, 2_800], np.int32)


@pytest.fixture(scope="module", params=CONFIGS)
def pair(request, tmp_path_factory, perturbed, load_encoder):
    """HF's PyTorch model and ours, loaded from the folder that it was saved in."""
    from transformers import HubertModel, Wav2Vec2Model

    config = CONFIGS[request.param]
    kind = HubertModel if config.model_type == "hubert" else Wav2Vec2Model
    theirs = perturbed(kind(config))
    folder = tmp_path_factory.mktemp(request.param)
    theirs.save_pretrained(folder)
    encoder = Wav2Vec2Encoder(config)
    ours = load_encoder(encoder, folder, np.zeros((1, 800), np.float32), np.array([800]))
    return theirs, ours


def _audio(lengths, total, seed=0):
    rng = np.random.default_rng(seed)
    audio = np.zeros((len(lengths), total), np.float32)
    for row, n in zip(audio, lengths):
        row[:n] = rng.standard_normal(n)
    return audio


def _torch_hidden(model, audio, **options):
    with torch.no_grad():
        return model(torch.from_numpy(audio), **options).last_hidden_state.numpy()


def test_layer_norm_models_equal_hugging_face_with_its_attention_mask(pair):
    """HF masks padding right where no group norm sees it; there the two agree batch for batch."""
    theirs, ours = pair
    if theirs.config.feat_extract_norm == "group":
        pytest.skip("HF's group norm runs over the padding: see the test above")
    audio = _audio(LENGTHS, 6_400)
    attended = np.arange(6_400)[None] < LENGTHS[:, None]
    expected = _torch_hidden(theirs, audio, attention_mask=torch.from_numpy(attended).long())
    hidden, mask = ours(audio, LENGTHS)
    np.testing.assert_allclose(hidden[mask], expected[mask], rtol=0, atol=1e-4)


def test_original_padding_equals_hugging_face_without_a_mask(pair):
    """The release calls its encoder so."""
    theirs, _ = pair
    encoder = Wav2Vec2Encoder(theirs.config, original_padding=True)
    state = {k: v.numpy() for k, v in theirs.state_dict().items()}
    audio = _audio(LENGTHS, 6_400)
    shapes = jax.eval_shape(encoder.init, jax.random.key(0), audio, LENGTHS)["params"]
    params = pretrained.from_state(state, shapes, "state")
    hidden, mask = jax.jit(encoder.apply)({"params": params}, audio, LENGTHS)
    np.testing.assert_allclose(hidden, _torch_hidden(theirs, audio), rtol=0, atol=1e-4)
    np.testing.assert_array_equal(mask.sum(1), frame_count(LENGTHS, theirs.config))


@pytest.mark.parametrize("samples", [400, 719, 720, 6_000, 16_000, 210_000])
def test_frame_count_is_hugging_faces(samples):
    from transformers import Wav2Vec2Model

    model = Wav2Vec2Model(CONFIGS["wav2vec2-base"])
    expected = int(model._get_feat_extract_output_lengths(samples))
    assert int(frame_count(samples, model.config)) == expected


@pytest.mark.parametrize("taps", [16, 15])
def test_positional_convolution_equals_hugging_faces_flax_module(taps):
    config = Wav2Vec2Config(
        hidden_size=16, num_conv_pos_embeddings=taps, num_conv_pos_embedding_groups=4
    )
    hidden = np.random.default_rng(0).standard_normal((2, 30, 16)).astype(np.float32)
    ours, theirs = PositionalConv(config), FlaxWav2Vec2PositionalConvEmbedding(config)
    params = theirs.init(jax.random.key(0), hidden)
    fresh = ours.init(jax.random.key(0), hidden)
    assert jax.tree.map(jnp.shape, fresh) == jax.tree.map(jnp.shape, params)
    norm = jnp.linalg.norm(fresh["params"]["conv"]["weight_v"], axis=(0, 1))
    np.testing.assert_allclose(fresh["params"]["conv"]["weight_g"][0, 0], norm, rtol=1e-6)

    def loss(module):
        return jax.value_and_grad(lambda p: jnp.sum(jnp.sin(module.apply(p, hidden))))

    (a, grads), (b, expected) = loss(ours)(params), loss(theirs)(params)
    np.testing.assert_allclose(a, b, rtol=1e-5)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-4), grads, expected)


@pytest.mark.parametrize("count, distance", [(320, 800), (32, 128), (24, 10), (16, 2_000)])
def test_buckets_of_distances_are_hugging_faces(count, distance):
    from transformers.models.wavlm.modeling_wavlm import WavLMAttention

    theirs = WavLMAttention(8, 2, num_buckets=count, max_distance=distance)
    offset = np.arange(-3_000, 3_001)
    expected = theirs._relative_positions_bucket(torch.from_numpy(offset)).numpy()
    np.testing.assert_array_equal(wavlm.buckets(offset, count, distance), expected)
