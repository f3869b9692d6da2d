"""What a config or a checkpoint has that our encoders lack is said; what is harmless passes."""

import json

import jax
import numpy as np
import pytest
from transformers import (
    BertConfig,
    HubertConfig,
    RobertaConfig,
    Wav2Vec2Config,
    WhisperConfig,
)

from mmer_jax.errors import UserError
from mmer_jax.models.encoders import pretrained
from mmer_jax.models.encoders.text import TextEncoder
from mmer_jax.models.encoders.wav2vec2 import Wav2Vec2Encoder
from mmer_jax.models.layers import ACTIVATIONS

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


@pytest.mark.parametrize("config, words", [
    (Wav2Vec2Config(adapter_attn_dim=16), r"adapter_attn_dim=16.*config\.audio\.adapter="),
    (Wav2Vec2Config(add_adapter=True), "add_adapter=True"),
    (HubertConfig(adapter_attn_dim=16), "adapter_attn_dim=16"),
    (HubertConfig(conv_pos_batch_norm=True), "conv_pos_batch_norm=True"),
    (Wav2Vec2Config(hidden_act="xielu"), r"hidden_act='xielu'.*'gelu_fast'"),
    (Wav2Vec2Config(feat_extract_activation="prelu"), "feat_extract_activation='prelu'"),
    (Wav2Vec2Config(feat_extract_norm="batch"), "feat_extract_norm='batch'"),
    (WhisperConfig(activation_function="prelu"), "activation_function='prelu'"),
    (BertConfig(hidden_act="mish"), "hidden_act='mish'"),
    (BertConfig(position_embedding_type="relative_key"), "position_embedding_type='relative_key'"),
    (RobertaConfig(is_decoder=True), "is_decoder=True"),
    (BertConfig(pruned_heads={0: [1]}), "pruned_heads"),
    (BertConfig(hidden_size=20, num_attention_heads=3), "3 attention heads for a width of 20"),
], ids=lambda x: x if isinstance(x, str) else x.model_type)  # fmt: skip
def test_an_option_that_changes_the_function_is_named(config, words, tmp_path):
    config.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=words):
        pretrained.load_config(str(tmp_path))


@pytest.mark.parametrize("changed", [
    Wav2Vec2Config(layerdrop=0.0, apply_spec_augment=False, vocab_size=99),
    HubertConfig(feat_proj_layer_norm=False, mask_time_prob=0.2),
    WhisperConfig(scale_embedding=True, decoder_layers=1, use_cache=False),
    BertConfig(chunk_size_feed_forward=4, classifier_dropout=0.3),
], ids=lambda c: c.model_type)  # fmt: skip
def test_an_option_that_does_not_passes(changed, tmp_path):
    changed.save_pretrained(tmp_path)
    assert pretrained.load_config(str(tmp_path)).model_type == changed.model_type


def _shapes(config):
    example = np.zeros((1, 800), np.float32), np.array([800])
    return jax.eval_shape(Wav2Vec2Encoder(config).init, jax.random.key(0), *example)["params"]


def test_adapters_inside_the_encoder_are_noticed_by_their_weights(tmp_path):
    """As facebook/mms-1b-all has them, with a config.json that does not say so."""
    from transformers import Wav2Vec2ForCTC

    model = Wav2Vec2ForCTC(Wav2Vec2Config(**AUDIO, adapter_attn_dim=4, vocab_size=32))
    model.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    plain = json.loads(path.read_text())
    del plain["adapter_attn_dim"]
    path.write_text(json.dumps(plain))
    config = pretrained.load_config(str(tmp_path))
    with pytest.raises(UserError, match=r"6 weights inside .*layers\.0\.adapter_layer\.linear_1"):
        pretrained.load_params(str(tmp_path), _shapes(config))


@pytest.mark.parametrize("names, prefix, bad", [
    (["lm_head.weight", "wav2vec2.masked_spec_embed", "quantizer.codevectors"], "wav2vec2.", []),
    (["decoder.layers.0.fc1.weight", "proj_out.weight"], "encoder.", []),
    (["pooler.dense.weight", "embeddings.position_ids", "cls.predictions.bias"], "", []),
    (["bert/pooler/dense/kernel", "classifier/bias"], "bert.", []),
    (["sentiment.weight"], "bert.", []),
    (["adapter.layers.0.conv.weight"], "", ["adapter.layers.0.conv.weight"]),
    (["bert/encoder/layer/7/output/dense/kernel"], "bert.", ["bert/encoder/layer/7/output"]),
    (["encoder.layer.0.output.dense.weight.SCB"], "", ["weight.SCB"]),
    (["encoder.layer.0.attention.self.query.lora_A.weight"], "", ["lora_A"]),
])  # fmt: skip
def test_leftovers_and_weights_inside(names, prefix, bad):
    if not bad:
        return pretrained.check_unused(names, prefix, "x")
    with pytest.raises(UserError, match="inside the encoder.*" + bad[0]):
        pretrained.check_unused(names, prefix, "x")


def test_every_activation_is_hugging_faces():
    from transformers.activations import ACT2FN

    x = np.linspace(-12, 12, 481, dtype=np.float32)
    for name in ACTIVATIONS:
        expected = ACT2FN[name](torch.from_numpy(x)).numpy()
        np.testing.assert_allclose(
            ACTIVATIONS[name](x), expected, rtol=1e-6, atol=2e-6, err_msg=name
        )


@pytest.mark.parametrize("act", ["gelu_fast", "gelu_python", "quick_gelu"])
def test_text_encoders_know_activations_by_other_names(act, tmp_path, perturbed, load_encoder):
    from transformers import BertModel

    theirs = perturbed(BertModel(BertConfig(**TEXT, hidden_act=act)))
    theirs.save_pretrained(tmp_path)
    ids = np.arange(1, 9, dtype=np.int32)[None]
    encoder = TextEncoder(pretrained.load_config(str(tmp_path)))
    ours = load_encoder(encoder, tmp_path, ids, np.ones_like(ids))
    with torch.no_grad():
        expected = theirs(torch.from_numpy(ids).long()).last_hidden_state.numpy()
    np.testing.assert_allclose(ours(ids, np.ones_like(ids)), expected, rtol=0, atol=1e-4)
