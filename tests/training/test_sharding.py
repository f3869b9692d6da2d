"""Which leaf lies where, and what is said when a rule or a leaf is left over."""

import re

import jax
import pytest
from flax import traverse_util
from jax.sharding import PartitionSpec as P
from transformers import Wav2Vec2Config

from mmer_jax import configuration
from mmer_jax.errors import UserError
from mmer_jax.losses import memory_bank
from mmer_jax.models import encoders, factory
from mmer_jax.training import sharding, step
from mmer_jax.training.optimizer import make_optimizer, split_frozen


def shapes_of(family="whisper", modalities=("audio", "text"), text_width=16, text_family="bert",
              mms=""):  # fmt: skip
    """Of a model from scratch, or with the speech encoder of a folder of MMS."""
    c = configuration.default()
    c.audio.pretrained, c.audio.adapter = mms, "eng" if mms else ""
    c.audio.family, c.text.family, c.model.modalities = family, text_family, modalities
    for size in (c.audio.size, c.text.size):
        size.width, size.layers, size.heads, size.ffn = 16, 2, 2, 32
    c.text.size.width = text_width
    c.audio.conv_channels = 8
    c.model.width, c.model.heads, c.model.ffn = 16, 2, 32
    return factory.param_shapes(factory.build_model(c, 4, 32, 50))


def paths(shapes):
    return traverse_util.flatten_dict(shapes, sep="/")


BOTH = ("audio", "text")


@pytest.mark.parametrize("family, modalities, text_family, text_width", [
    *((name, ("audio",), "bert", 16) for name in encoders.names("audio")),
    *(("whisper", ("text",), name, 8) for name in encoders.names("text")),
    ("wav2vec2", BOTH, "roberta", 8), ("whisper", BOTH, "bert", 16),
])  # fmt: skip
def test_every_model_has_a_rule_for_every_leaf(family, modalities, text_family, text_width):
    shapes = shapes_of(family, modalities, text_width, text_family)
    for path, leaf in paths(shapes).items():
        assert len(sharding.spec(path)) <= len(leaf.shape), path
        if path.endswith(("/bias", "/scale")):
            assert sharding.spec(path) == P(), path


def test_matrices_are_split_and_pairs_match():
    specs = {path: sharding.spec(path) for path in paths(shapes_of())}
    split = [path for path, spec in specs.items() if "model" in spec]
    assert "audio_encoder/layers/0/fc1/kernel" in split
    assert specs["audio_encoder/layers/0/fc1/kernel"] == P("fsdp", "model")
    assert specs["audio_encoder/layers/0/fc2/kernel"] == P("model", "fsdp")
    assert specs["fusion/text_to_audio/query/kernel"] == P("fsdp", "model")
    assert specs["fusion/text_to_audio/attention_output/kernel"] == P("model", "fsdp")
    assert specs["fusion/gate/kernel"] == P("fsdp", None)


@pytest.mark.parametrize("leaf, expected", [
    ("layers/0/attention/rel_attn_embed/embedding", P()),
    ("layers/1/attention/gru_rel_pos_const", P()),
    ("layers/1/attention/gru_rel_pos_linear/kernel", P()),
    ("layers/0/adapter_layer/linear_1/kernel", P("fsdp", None)),
    ("pos_conv_embed/layers/0/conv/kernel", P(None, None, "fsdp")),
])  # fmt: skip
def test_what_some_encoders_have_besides_has_a_rule(leaf, expected):
    assert sharding.spec(f"audio_encoder/encoder/{leaf}") == expected


def test_a_leaf_without_a_rule_is_an_error():
    with pytest.raises(UserError, match="No sharding rule matches the parameter 'adapter/kernel'"):
        sharding.spec("adapter/kernel")


def test_every_rule_has_a_leaf_in_some_model(tmp_path):
    Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, do_stable_layer_norm=True,
        adapter_attn_dim=4,
    ).save_pretrained(tmp_path)  # fmt: skip
    models = [shapes_of(name, ("audio",)) for name in encoders.names("audio")]
    models += [shapes_of("whisper", BOTH, 8, name) for name in encoders.names("text")]
    models += [shapes_of(modalities=("audio",), mms=str(tmp_path)), shapes_of("wav2vec2")]
    everything = {path for shapes in models for path in paths(shapes)}
    for pattern, _ in sharding.rules():
        assert any(re.fullmatch(pattern, path) for path in everything), pattern


def test_a_mesh_that_does_not_use_all_devices_is_an_error():
    with pytest.raises(UserError, match="data=-1, fsdp=3, model=1"):
        sharding.make_mesh({"data": -1, "fsdp": 3, "model": 1})


def test_the_optimizers_leaves_lie_beside_their_parameters():
    """On a mesh of shapes alone: no device is needed to say where leaves would lie."""
    mesh = jax.sharding.AbstractMesh((1, 2, 2), sharding.AXES)
    c = configuration.default()
    optimizer = make_optimizer(c.optimizer)
    trained, frozen = split_frozen(shapes_of(), ("text_encoder/.*",))
    abstract = jax.eval_shape(
        lambda t, f: step.initial_state(t, f, optimizer, 3, memory_bank.create(5, 16), 0),
        trained,
        frozen,
    )
    found = sharding.state_shardings(abstract, mesh)
    adam = found.opt_state[1]
    for kept in (adam.mu, adam.nu):
        assert kept == found.params
    specs = {path: s.spec for path, s in paths(found.params).items()}
    assert specs["audio_encoder/layers/0/fc1/kernel"] == P("fsdp", "model")
    # 4 classes, 3 taps and 5 places in the memory: what an axis doesn't divide stays whole.
    assert specs["audio_encoder/conv1/kernel"] == P(None, None, "fsdp")
    assert found.memory["projection"].spec == P() and adam.count.spec == P()
    odd = jax.ShapeDtypeStruct((5, 16), "float32")
    trained["audio_encoder"]["layers"]["0"]["fc1"]["kernel"] = odd
    spec = sharding.state_shardings(abstract.replace(params=trained), mesh).params
    assert spec["audio_encoder"]["layers"]["0"]["fc1"]["kernel"].spec == P(None, "model")
