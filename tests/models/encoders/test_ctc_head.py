"""A checkpoint's own CTC head, in the order of our symbols, says what Hugging Face's says."""

import json

import numpy as np
import pytest

from mmer_jax import configuration
from mmer_jax.data.alphabet import ENGLISH, LETTERS, Alphabet
from mmer_jax.errors import UserError
from mmer_jax.models import factory
from mmer_jax.models.mmer import make_forward

torch = pytest.importorskip("torch")


def saved(folder, perturbed, vocabulary):
    """A random Wav2Vec2ForCTC whose head has the vocabulary's order, and its vocab.json."""
    from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

    config = Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24,
        conv_dim=(8,) * 7, num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2,
        vocab_size=len(vocabulary), pad_token_id=vocabulary["<pad>"],
    )  # fmt: skip
    model = perturbed(Wav2Vec2ForCTC(config))
    model.save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    return model


def config_of(folder):
    c = configuration.default()
    configuration.audio_only(c)
    c.audio.pretrained, c.audio.ctc_head = str(folder), True
    c.data.normalize = "none"
    c.model.width, c.model.heads, c.model.ffn = 16, 2, 16
    return c


def vocabulary_of(symbols, seed=0):
    order = np.random.default_rng(seed).permutation(len(symbols))
    return {str(symbol): int(i) for symbol, i in zip(symbols, order)}


@pytest.mark.parametrize("case", [str.upper, str.lower])
def test_it_says_what_hugging_face_says(case, tmp_path, perturbed):
    symbols = ["<pad>", "<unk>", "|", *map(case, LETTERS)]
    vocabulary = vocabulary_of(symbols)
    theirs, config = saved(tmp_path, perturbed, vocabulary), config_of(tmp_path)
    model = factory.build_model(config, 4, len(ENGLISH.symbols), 1)
    params = factory.init_params(model, config, 0)
    wave = 0.1 * np.random.default_rng(0).standard_normal((1, 8_000)).astype(np.float32)
    batch = {"audio": wave, "audio_length": np.array([8_000])}
    ours = np.asarray(make_forward(model, ("ctc_logits",))(params, batch)["ctc_logits"])
    with torch.no_grad():
        expected = theirs(torch.from_numpy(wave)).logits.numpy()
    for i, symbol in enumerate(ENGLISH.symbols):
        if symbol in ("<s>", "</s>"):  # theirs has none: as from scratch
            config.audio.ctc_head = False
            fresh = factory.init_params(model, config, 0)["ctc"]["linear"]["kernel"]
            np.testing.assert_array_equal(params["ctc"]["linear"]["kernel"][:, i], fresh[:, i])
            continue
        name = symbol if symbol in vocabulary else case(symbol)
        np.testing.assert_allclose(ours[..., i], expected[..., vocabulary[name]], atol=1e-4)


def test_what_it_lacks_stays_fresh_and_another_script_is_refused(tmp_path, perturbed):
    saved(tmp_path, perturbed, vocabulary_of(["<pad>", "|", *"abcdefgh"]))
    config = config_of(tmp_path)
    alphabet = Alphabet("abcdefghé")
    model = factory.build_model(config, 4, len(alphabet.symbols), 1)
    params = factory.init_params(model, config, 0, alphabet)["ctc"]["linear"]
    config.audio.ctc_head = False
    fresh = factory.init_params(model, config, 0, alphabet)["ctc"]["linear"]
    same = (np.asarray(params["kernel"]) == np.asarray(fresh["kernel"])).all(0)
    assert [c for c, s in zip(alphabet.symbols, same) if s] == ["<s>", "</s>", "<unk>", "é"]
    config.audio.ctc_head = True
    other = Alphabet("дея")
    model = factory.build_model(config, 4, len(other.symbols), 1)
    with pytest.raises(UserError, match="other characters"):
        factory.init_params(model, config, 0, other)


def test_a_checkpoint_without_a_head_is_refused(tmp_path, perturbed):
    from transformers import Wav2Vec2ForCTC

    theirs = saved(tmp_path, perturbed, vocabulary_of(["<pad>", "|", *LETTERS]))
    assert isinstance(theirs, Wav2Vec2ForCTC)
    config = config_of(tmp_path)
    model = factory.build_model(config, 4, len(ENGLISH.symbols), 1)
    (tmp_path / "vocab.json").write_text('{"eng": {"a": 0}}')
    with pytest.raises(UserError, match="one language"):
        factory.init_params(model, config, 0)
    (tmp_path / "vocab.json").unlink()
    with pytest.raises(UserError, match="vocab.json"):
        factory.init_params(model, config, 0)
    theirs.wav2vec2.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="trained with CTC"):
        factory.init_params(model, config, 0)


@pytest.mark.parametrize(
    "options",
    [{}, {"audio.pretrained": "x", "audio.layers": "3"}, {"audio.pretrained": "x",
                                                          "audio.subsample": 2}],
)  # fmt: skip
def test_options_that_it_does_not_go_with(options):
    config = configuration.default()
    config.text.tokenizer, config.audio.ctc_head = "roberta-base", True
    config.update_from_flattened_dict(options)
    with pytest.raises(UserError, match="ctc_head"):
        configuration.validate(config)
