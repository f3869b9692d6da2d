"""Translators of random parameters: as PyTorch's, draws by seed, and no pickle is run."""

import json
import pathlib

import numpy as np
import pytest

from mmer_jax.augmentation import translation
from mmer_jax.data.corpus import Utterance
from mmer_jax.errors import UserError
from tests import tiny_marian

torch = pytest.importorskip("torch")
pytest.importorskip("sentencepiece")

TEXTS = ["I am so glad.", "Get out of my market right now, please.", "Hello there.", ""]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Paths of a model there and of one back."""
    base = tmp_path_factory.mktemp("marian")
    return tiny_marian.save(base / "there", 1), tiny_marian.save(base / "back", 2)


@pytest.fixture(scope="module")
def marian(folders):
    return translation.Marian(*folders, count=3, batch=4)


def test_a_model_equals_pytorchs(folders, marian):
    from transformers import MarianMTModel

    model = MarianMTModel.from_pretrained(folders[0]).eval()
    pad = model.config.pad_token_id
    ids, mask = np.array([[5, 6, 7, 0], [8, 9, 0, pad]]), np.array([[1, 1, 1, 1], [1, 1, 1, 0]])
    decoder = np.array([[pad, 4, 3], [pad, 7, 8]])
    with torch.no_grad():
        expected = model(
            torch.tensor(ids), torch.tensor(mask), decoder_input_ids=torch.tensor(decoder)
        ).logits.numpy()
    ours = marian._there
    found = ours.network(
        ids, attention_mask=mask, decoder_input_ids=decoder, params=ours.params
    ).logits
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_draws_depend_on_the_seed_and_on_nothing_else(marian):
    us = [Utterance(i, str(i), 0, 1) for i in range(len(TEXTS))]
    found = marian.candidates(us, TEXTS, 7)
    assert [len(c) for c in found] == [3] * len(TEXTS)
    assert len({*found[1]}) == 3  # diverse
    assert found == marian.candidates(us, TEXTS, 7) != marian.candidates(us, TEXTS, 8)
    # Of a short batch too.
    assert [len(c) for c in marian.candidates(us[:1], TEXTS[:1], 7)] == [3]


def test_a_folder_of_bin_alone_is_read_as_plain_weights(folders, tmp_path):
    state = {}
    path = pathlib.Path(folders[0])
    import safetensors.torch

    state = safetensors.torch.load_file(path / "model.safetensors")
    # As old checkpoints have them: copies of the embedding, and positions.
    state |= dict.fromkeys(translation._TIED, state["model.shared.weight"])
    state["model.encoder.embed_positions.weight"] = torch.zeros(64, 16)
    plain = _beside(path, tmp_path / "plain")
    torch.save(state, plain / "pytorch_model.bin")
    us = [Utterance(0, "0", 0, 1)]
    draws = [
        translation.Marian(str(folder), folders[1], count=2, batch=2).candidates(us, TEXTS[:1], 0)
        for folder in (path, plain)
    ]
    assert draws[0] == draws[1]

    class Evil:
        def __reduce__(self):
            return pathlib.Path.touch, (tmp_path / "ran",)

    evil = _beside(path, tmp_path / "evil")
    torch.save(state | {"x": Evil()}, evil / "pytorch_model.bin")
    with pytest.raises(UserError, match="pickled objects"):
        translation.Marian(str(evil), folders[1])
    assert not (tmp_path / "ran").exists()

    state["lm_head.weight"] = state["lm_head.weight"] + 1
    other = _beside(path, tmp_path / "other")
    torch.save(state, other / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"lm_head\.weight"):
        translation.Marian(str(other), folders[1])


def _beside(path, folder):
    folder.mkdir()
    for name in path.iterdir():
        if name.suffix != ".safetensors":
            (folder / name.name).write_bytes(name.read_bytes())
    return folder


def test_other_models_are_refused(folders, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(UserError, match="bert model; a translator"):
        translation.Marian(str(tmp_path), folders[1])
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "whisper"}))
    with pytest.raises(UserError, match="text encoder"):
        translation.Meaning(str(tmp_path))


def test_meaning_is_the_cosine_of_mean_states(tmp_path):
    from transformers import BertConfig, BertModel, BertTokenizerFast

    from mmer_jax.demo import corpus

    (tmp_path / "vocab.txt").write_text("\n".join(corpus.vocabulary(TEXTS)))
    tokenizer = BertTokenizerFast(str(tmp_path / "vocab.txt"), do_lower_case=True)
    tokenizer.save_pretrained(tmp_path)
    torch.manual_seed(0)
    model = BertModel(BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=24, max_position_embeddings=64,
    )).eval()  # fmt: skip
    model.save_pretrained(tmp_path)

    def embed(text):
        with torch.no_grad():
            state = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0)
        return state.numpy() / np.linalg.norm(state)

    meaning = translation.Meaning(str(tmp_path), batch=2)
    found = meaning(TEXTS[:2], [TEXTS[2], TEXTS[1]])
    expected = [embed(TEXTS[0]) @ embed(TEXTS[2]), 1.0]
    np.testing.assert_allclose(found, expected, atol=1e-4)
