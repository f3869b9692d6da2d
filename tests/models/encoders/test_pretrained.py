"""Checkpoints: every format and spelling gives the same weights; what is wrong is said."""

import os
import pathlib
import pickle

import jax
import numpy as np
import pytest
from flax import traverse_util
from transformers import BertConfig, HubertConfig, RobertaConfig, Wav2Vec2Config

from mmer_jax.errors import UserError
from mmer_jax.models.encoders import pretrained
from mmer_jax.models.encoders.text import TextEncoder
from mmer_jax.models.encoders.wav2vec2 import Wav2Vec2Encoder

torch = pytest.importorskip("torch")

AUDIO = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24,
    "conv_dim": (8,) * 7, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2,
    "feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True,
}  # fmt: skip
TEXT = {
    "vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 24, "max_position_embeddings": 12,
}  # fmt: skip
CONV = "encoder.pos_conv_embed.conv."
NEW = {"original0": "weight_g", "original1": "weight_v"}


def _shapes(encoder, *example):
    return jax.eval_shape(encoder.init, jax.random.key(0), *example)["params"]


def _audio_shapes(config):
    return _shapes(Wav2Vec2Encoder(config), np.zeros((1, 800), np.float32), np.array([800]))


@pytest.fixture(scope="module")
def model(perturbed):
    from transformers import Wav2Vec2Model

    return perturbed(Wav2Vec2Model(Wav2Vec2Config(**AUDIO)))


@pytest.fixture(scope="module")
def shapes(model):
    return _audio_shapes(model.config)


@pytest.fixture(scope="module")
def expected(model, shapes, tmp_path_factory):
    """The parameters, flat, as read from safetensors."""
    folder = tmp_path_factory.mktemp("safetensors")
    model.save_pretrained(folder)
    assert os.listdir(folder).count("model.safetensors") == 1
    return _flat(pretrained.load_params(str(folder), shapes))


def _flat(params):
    return traverse_util.flatten_dict(params, sep="/")


def _assert_equal(params, expected):
    flat = _flat(params)
    assert flat.keys() == expected.keys()
    for name, value in flat.items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


def _spelled(state, old):
    """The state dict with weight norm in the old or the new spelling."""
    state = dict(state)
    for new, g_or_v in NEW.items():
        names = f"{CONV}{g_or_v}", f"{CONV}parametrizations.weight.{new}"
        value = next(state.pop(name) for name in names if name in state)
        state[names[0] if old else names[1]] = value
    return state


def test_safetensors_hold_the_models_numbers(model, expected):
    kernel = model.state_dict()["encoder.layers.0.attention.q_proj.weight"].numpy()
    np.testing.assert_array_equal(expected["encoder/layers/0/attention/q_proj/kernel"], kernel.T)
    g = model.encoder.pos_conv_embed.conv.parametrizations.weight.original0.detach().numpy()
    np.testing.assert_array_equal(expected["encoder/pos_conv_embed/conv/weight_g"], g)


@pytest.mark.parametrize("old", [True, False])
def test_pytorch_bin_in_both_spellings_of_weight_norm(model, shapes, expected, tmp_path, old):
    torch.save(_spelled(model.state_dict(), old), tmp_path / "pytorch_model.bin")
    _assert_equal(pretrained.load_params(str(tmp_path), shapes), expected)


@pytest.mark.parametrize("old", [True, False])
def test_safetensors_in_both_spellings_of_weight_norm(model, shapes, expected, tmp_path, old):
    from safetensors.torch import save_file

    save_file(_spelled(model.state_dict(), old), tmp_path / "model.safetensors")
    _assert_equal(pretrained.load_params(str(tmp_path), shapes), expected)


def test_flax_msgpack_as_hugging_face_writes_it(model, shapes, expected, tmp_path):
    from transformers import FlaxWav2Vec2Model

    model.save_pretrained(tmp_path / "torch")
    flax_model = FlaxWav2Vec2Model.from_pretrained(tmp_path / "torch", from_pt=True)
    flax_model.save_pretrained(tmp_path / "flax")
    assert (tmp_path / "flax" / "flax_model.msgpack").exists()
    _assert_equal(pretrained.load_params(str(tmp_path / "flax"), shapes), expected)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("safe", [True, False])
def test_half_precision_becomes_float32(model, shapes, tmp_path, dtype, safe):
    from safetensors.torch import save_file

    state = {k: v.to(getattr(torch, dtype)) for k, v in model.state_dict().items()}
    if safe:
        save_file(state, tmp_path / "model.safetensors")
    else:
        torch.save(state, tmp_path / "pytorch_model.bin")
    params = _flat(pretrained.load_params(str(tmp_path), shapes))
    half = state["feature_projection.projection.bias"].float().numpy()
    assert all(v.dtype == np.float32 for v in params.values())
    np.testing.assert_array_equal(params["feature_projection/projection/bias"], half)


@pytest.mark.parametrize("kind", ["Wav2Vec2ForCTC", "HubertForCTC", "BertForMaskedLM",
                                  "RobertaForMaskedLM"])  # fmt: skip
@pytest.mark.parametrize("form", ["torch", "flax"])
def test_the_encoder_inside_a_larger_model(kind, form, tmp_path, perturbed):
    import transformers

    if kind == "HubertForCTC" and form == "flax":
        pytest.skip("Hugging Face has no Flax HuBERT")
    audio = kind.endswith("CTC")
    family = kind.split("For")[0]
    config = {
        "Wav2Vec2": Wav2Vec2Config, "Hubert": HubertConfig, "Bert": BertConfig,
        "Roberta": RobertaConfig,
    }[family](**(AUDIO if audio else TEXT))  # fmt: skip
    model = perturbed(getattr(transformers, kind)(config))
    model.save_pretrained(tmp_path)
    if form == "flax":
        flax_model = getattr(transformers, f"Flax{kind}").from_pretrained(tmp_path, from_pt=True)
        (tmp_path / "model.safetensors").unlink()
        flax_model.save_pretrained(tmp_path)
        assert (tmp_path / "flax_model.msgpack").exists()
    ids = np.zeros((1, 4), np.int32)
    wanted = _audio_shapes(config) if audio else _shapes(TextEncoder(config), ids, ids)
    params = _flat(pretrained.load_params(str(tmp_path), wanted))
    name = "final_layer_norm" if audio else "output.LayerNorm"
    theirs = model.base_model.encoder.layers[0] if audio else model.base_model.encoder.layer[0]
    scale = theirs.get_submodule(name).weight.detach().numpy()
    path = "layers/0" if audio else "layer/0"
    np.testing.assert_array_equal(params[f"encoder/{path}/{name.replace('.', '/')}/scale"], scale)


def test_what_the_encoder_does_not_need_is_listed_in_the_log(model, shapes, tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr(pretrained.logging, "info", lambda text, *a: lines.append(text % a))
    state = dict(model.state_dict()) | {"lm_head.weight": torch.zeros(2, 2)}
    torch.save(state, tmp_path / "pytorch_model.bin")
    pretrained.load_params(str(tmp_path), shapes)
    assert "all 53 arrays" in lines[0]
    assert "2 arrays not needed: lm_head.weight, masked_spec_embed." in lines[1]


def test_a_missing_weight_is_an_error(model, shapes, tmp_path):
    state = dict(model.state_dict())
    del state["encoder.layers.0.attention.k_proj.bias"]
    torch.save(state, tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"lacks 1 of .*encoder/layers/0/attention/k_proj/bias"):
        pretrained.load_params(str(tmp_path), shapes)


def test_a_weight_of_another_shape_is_an_error(model, shapes, tmp_path):
    state = dict(model.state_dict()) | {"encoder.layer_norm.weight": torch.ones(17)}
    torch.save(state, tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"encoder/layer_norm/scale \(17,\) instead of \(16,\)"):
        pretrained.load_params(str(tmp_path), shapes)


class _Payload:
    """Unpickled, it makes a file: what a malicious checkpoint would do."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return pathlib.Path.touch, (pathlib.Path(self.target),)


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_a_pickled_object_is_refused_and_not_run(model, shapes, tmp_path, writer):
    target = tmp_path / "the payload ran"
    path = tmp_path / "pytorch_model.bin"
    state = dict(model.state_dict()) | {"surprise": _Payload(target)}
    if writer == "torch":
        torch.save(state, path)
        unguarded = lambda: torch.load(path, weights_only=False)  # noqa: E731
    else:
        path.write_bytes(pickle.dumps({"surprise": _Payload(target)}))
        unguarded = lambda: pickle.loads(path.read_bytes())  # noqa: E731
    with pytest.raises(UserError, match="pickled objects, which are never executed"):
        pretrained.load_params(str(tmp_path), shapes)
    assert not target.exists()
    unguarded()  # the payload is real: unpickling the file runs it
    assert target.exists()


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "flax_model.msgpack"])
def test_a_truncated_file_is_an_error(model, shapes, tmp_path, name):
    from flax.serialization import msgpack_serialize

    model.save_pretrained(tmp_path, safe_serialization=name == "model.safetensors")
    path = tmp_path / name
    if name == "flax_model.msgpack":
        (tmp_path / "pytorch_model.bin").unlink()
        path.write_bytes(msgpack_serialize({"a": np.zeros(100, np.float32)}))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=rf"{name} can't be read"):
        pretrained.load_params(str(tmp_path), shapes)


def test_a_file_without_a_table_of_weights_is_an_error(shapes, tmp_path):
    torch.save(torch.zeros(3), tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match="holds no table of weights"):
        pretrained.load_params(str(tmp_path), shapes)


def test_a_folder_without_weights_is_an_error(shapes, tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(UserError, match=r"holds notes.txt; expected one of model.safetensors"):
        pretrained.load_params(str(tmp_path), shapes)


def test_a_name_that_nothing_has_is_an_error(shapes, tmp_path):
    with pytest.raises(UserError, match="Expected a folder in Hugging Face format"):
        pretrained.load_config(str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="No weights could be had for 'nobody/nothing'"):
        pretrained.load_params("nobody/nothing", shapes)
