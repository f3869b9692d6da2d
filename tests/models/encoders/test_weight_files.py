"""Weights in several files, and the files that a checkpoint has for single languages."""

import copy
import hashlib
import json
import shutil

import jax
import numpy as np
import pytest
from flax import traverse_util
from transformers import BertConfig, Wav2Vec2Config

from mmer_jax.errors import UserError
from mmer_jax.models.encoders import pretrained, weight_files
from mmer_jax.models.encoders.text import TextEncoder
from mmer_jax.models.encoders.wav2vec2 import Wav2Vec2Encoder

torch = pytest.importorskip("torch")

TEXT = BertConfig(vocab_size=60, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                  intermediate_size=24, max_position_embeddings=12)  # fmt: skip
MMS = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
    "conv_dim": (8,) * 7, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2,
    "feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True,
    "adapter_attn_dim": 4,
}  # fmt: skip
INDEX = "model.safetensors.index.json"


def _flat(params):
    return traverse_util.flatten_dict(params, sep="/")


def _assert_equal(params, expected):
    params, expected = _flat(params), _flat(expected)
    assert params.keys() == expected.keys()
    for name, value in params.items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


@pytest.fixture(scope="module")
def bert(perturbed):
    """HF's model, its parameters' shapes and its parameters."""
    from transformers import BertModel

    model, ids = perturbed(BertModel(TEXT)), np.zeros((1, 4), np.int32)
    shapes = jax.eval_shape(TextEncoder(TEXT).init, jax.random.key(0), ids, ids)["params"]
    state = {name: p.numpy() for name, p in model.state_dict().items()}
    return model, shapes, pretrained.from_state(state, shapes, "state")


@pytest.mark.parametrize("form", ["safetensors", "bin", "msgpack"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_several_files_give_the_same_weights(bert, tmp_path, form, dtype):
    model, shapes, expected = bert
    if dtype == torch.float16:
        model = copy.deepcopy(model).to(dtype)
        expected = jax.tree.map(lambda x: x.astype(np.float16).astype(np.float32), expected)
    if form == "msgpack":
        from transformers import FlaxBertModel

        model.float().save_pretrained(tmp_path / "whole")
        theirs = FlaxBertModel.from_pretrained(tmp_path / "whole", from_pt=True)
        theirs.save_pretrained(tmp_path, max_shard_size="9KB")
    else:
        safe = form == "safetensors"
        model.save_pretrained(tmp_path, max_shard_size="9KB", safe_serialization=safe)
    assert len(list(tmp_path.glob(f"*-of-*.{form}"))) > 1
    _assert_equal(pretrained.load_params(str(tmp_path), shapes), expected)


@pytest.fixture
def sharded(bert, tmp_path):
    """A folder of several safetensors, and the parameters' shapes."""
    bert[0].save_pretrained(tmp_path, max_shard_size="9KB")
    return tmp_path, bert[1]


def test_a_missing_file_is_named(sharded):
    folder, shapes = sharded
    name = sorted(p.name for p in folder.glob("*-of-*.safetensors"))[1]
    (folder / name).unlink()
    with pytest.raises(UserError, match=name):
        pretrained.load_params(str(folder), shapes)


@pytest.mark.parametrize("content", [
    "{", "[]", "{}", '{"weight_map": {}}', '{"weight_map": {"a": "../a.safetensors"}}',
    '{"weight_map": {"a": "/etc/passwd"}}', '{"weight_map": {"a": 1}}',
])  # fmt: skip
def test_an_index_that_is_none_is_an_error(sharded, content):
    folder, shapes = sharded
    (folder / INDEX).write_text(content)
    with pytest.raises(UserError, match=f"{INDEX} can't be read"):
        pretrained.load_params(str(folder), shapes)


def test_the_digest_is_of_all_files(sharded):
    folder, _ = sharded
    paths = sorted(folder.glob("*-of-*.safetensors"))
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    expected = hashlib.sha256("".join(digests).encode()).hexdigest()
    found = weight_files.provenance(str(folder))
    assert (found["file"], found["sha256"]) == (INDEX, expected)


def test_a_languages_file_has_a_digest_of_its_own(mms):
    found = weight_files.provenance(str(mms), pretrained.adapter_files("deu"))
    expected = hashlib.sha256((mms / "adapter.deu.safetensors").read_bytes()).hexdigest()
    assert (found["file"], found["sha256"]) == ("adapter.deu.safetensors", expected)


@pytest.fixture(scope="module")
def mms(tmp_path_factory, perturbed):
    """A folder as facebook/mms-1b-all has it, with adapters of two languages besides."""
    from safetensors.torch import save_file
    from transformers import Wav2Vec2ForCTC

    folder = tmp_path_factory.mktemp("mms")
    model = perturbed(Wav2Vec2ForCTC(Wav2Vec2Config(**MMS, vocab_size=32)))
    model.save_pretrained(folder)
    for seed, language in enumerate(("deu", "fra"), 1):
        head = {f"lm_head.{k}": v for k, v in model.lm_head.state_dict().items()}
        own = {k: v * (1 + seed) for k, v in model._get_adapters().items() if k not in head}
        save_file({k: v.detach() for k, v in (own | head).items()},
                  folder / f"adapter.{language}.safetensors")  # fmt: skip
    return folder


def _encoder(folder, adapter):
    config = pretrained.load_config(str(folder), adapter)
    encoder = Wav2Vec2Encoder(config)
    audio = np.random.default_rng(0).standard_normal((1, 2_000)).astype(np.float32)
    inputs = audio, np.array([2_000], np.int32)
    shapes = jax.eval_shape(encoder.init, jax.random.key(0), *inputs)["params"]
    params = pretrained.load_params(str(folder), shapes, adapter)
    return params, jax.jit(encoder.apply)({"params": params}, *inputs)[0], audio


@pytest.mark.parametrize("language", ["deu", "fra", "none"])
def test_the_adapters_are_those_of_the_language(mms, language):
    from transformers import Wav2Vec2ForCTC

    params, hidden, audio = _encoder(mms, language)
    model = Wav2Vec2ForCTC.from_pretrained(mms, target_lang=None, ignore_mismatched_sizes=True)
    if language == "none":
        for layer in model.wav2vec2.encoder.layers:
            layer.adapter_layer = None
    else:
        model.load_adapter(language)
    with torch.no_grad():
        expected = model.eval().wav2vec2(torch.from_numpy(audio)).last_hidden_state.numpy()
    assert any("adapter_layer" in name for name in _flat(params)) == (language != "none")
    np.testing.assert_allclose(hidden, expected, rtol=0, atol=1e-4)


def test_the_encoder_alone_takes_them_too(mms, tmp_path):
    """Its names lack the prefix that the adapters' have."""
    from transformers import Wav2Vec2Model

    Wav2Vec2Model.from_pretrained(mms).save_pretrained(tmp_path)
    shutil.copy(mms / "adapter.fra.safetensors", tmp_path)
    _assert_equal(_encoder(tmp_path, "fra")[0], _encoder(mms, "fra")[0])


def test_adapters_that_are_not_there_or_not_chosen_are_an_error(mms, tmp_path):
    with pytest.raises(UserError, match=r"config\.audio\.adapter=none"):
        pretrained.load_config(str(mms))
    with pytest.raises(UserError, match=r"adapter\.spa\.safetensors"):
        _encoder(mms, "spa")
    plain = json.loads((mms / "config.json").read_text())
    del plain["adapter_attn_dim"]
    (tmp_path / "config.json").write_text(json.dumps(plain))
    with pytest.raises(UserError, match="has no adapters"):
        pretrained.load_config(str(tmp_path), "deu")
    assert pretrained.load_config(str(tmp_path), "none").adapter_attn_dim is None
