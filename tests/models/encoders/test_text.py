"""Text encoders equal Hugging Face's PyTorch, and padding changes nothing."""

import numpy as np
import pytest
from transformers import AutoConfig

from mmer_jax.models.encoders import ENCODERS, pretrained

torch = pytest.importorskip("torch")

SMALL = {
    "vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 48, "max_position_embeddings": 24,
}  # fmt: skip
CONFIGS = {
    "bert": SMALL,
    "roberta": SMALL,
    "xlm-roberta": SMALL,
    "camembert": SMALL,
    "electra": SMALL | {"embedding_size": 16},
    "distilbert": {"vocab_size": 50, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48,
                   "max_position_embeddings": 24},
}  # fmt: skip
LENGTHS = (12, 7, 3)


@pytest.fixture(scope="module", params=CONFIGS)
def pair(request, tmp_path_factory, perturbed, load_encoder):
    """HF's PyTorch model and ours, loaded from the folder that it was saved in."""
    from transformers import AutoModel

    config = AutoConfig.for_model(request.param, **CONFIGS[request.param])
    theirs = perturbed(AutoModel.from_config(config))
    folder = tmp_path_factory.mktemp(request.param)
    theirs.save_pretrained(folder)
    encoder = ENCODERS[request.param].cls(pretrained.load_config(str(folder)))
    ids = np.zeros((1, 4), np.int32)
    return theirs, load_encoder(encoder, folder, ids, np.ones_like(ids))


def _ids(config, length, seed=0):
    ids = np.random.default_rng(seed).integers(3, 50, (len(LENGTHS), length)).astype(np.int32)
    mask = (np.arange(length)[None] < np.array(LENGTHS)[:, None]).astype(np.int32)
    return np.where(mask, ids, config.pad_token_id).astype(np.int32), mask


def _torch_hidden(model, ids, mask):
    with torch.no_grad():
        out = model(torch.from_numpy(ids).long(), attention_mask=torch.from_numpy(mask).long())
    return out.last_hidden_state.numpy()


def test_padded_batch_equals_hugging_face_batched_and_alone(pair):
    theirs, ours = pair
    ids, mask = _ids(theirs.config, 16)
    hidden, batched = ours(ids, mask), _torch_hidden(theirs, ids, mask)
    for i, n in enumerate(LENGTHS):
        alone = _torch_hidden(theirs, ids[i : i + 1, :n], mask[i : i + 1, :n])[0]
        np.testing.assert_allclose(hidden[i, :n], alone, rtol=0, atol=1e-4)
        np.testing.assert_allclose(hidden[i, :n], batched[i, :n], rtol=0, atol=1e-4)


def test_what_stands_in_the_padding_does_not_matter(pair):
    theirs, ours = pair
    ids, mask = _ids(theirs.config, 16)
    other = np.where(mask, ids, 7).astype(np.int32)
    kept = mask > 0
    np.testing.assert_allclose(ours(ids, mask)[kept], ours(other, mask)[kept], rtol=0, atol=1e-6)
