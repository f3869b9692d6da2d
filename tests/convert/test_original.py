"""The converter's command: a folder that loads and computes the same, or one clear message."""

import csv
import importlib.util
import json
import pathlib
import re
import shutil

import jax
import numpy as np
import pytest
from flax import traverse_util

import mmer_jax
from mmer_jax import configuration, evaluate, main
from mmer_jax.convert import mapping, original
from mmer_jax.errors import UserError
from mmer_jax.models import factory
from mmer_jax.training.optimizer import merge
from mmer_jax.training.trainer import Trainer

torch = pytest.importorskip("torch")

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
# keys.tsv's sizes made small; one attention head is 64 wide, so the width can't go below.
SMALLER = {768: 64, 1536: 128, 256: 24, 48: 4, 32: 16, 128: 8}
WIDTH, FFN, SYMBOLS = 64, 24, 30


def _small_state(seed=0, symbols=SYMBOLS):
    spec = importlib.util.spec_from_file_location("golden_draw", GOLDEN / "golden.py")
    weights = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(weights)
    state = {}
    for line in (GOLDEN / "keys.tsv").read_text().splitlines()[1:]:
        key, shape = line.split()
        sizes = tuple(SMALLER.get(int(n), int(n)) for n in shape.split("x"))
        if "ctc_linear" in key:
            sizes = (symbols, *sizes[1:])
        state[key] = torch.from_numpy(weights.draw(key, sizes, seed))
    return state


@pytest.fixture(scope="module")
def state():
    return _small_state()


@pytest.fixture(scope="module")
def text_encoder(tmp_path_factory):
    """A folder with a RoBERTa as wide as the small checkpoint's fusion."""
    from transformers import RobertaConfig, RobertaModel

    folder = tmp_path_factory.mktemp("roberta")
    config = RobertaConfig(
        vocab_size=40, hidden_size=WIDTH, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=24, max_position_embeddings=20,
    )  # fmt: skip
    RobertaModel(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def folder(state, text_encoder, tmp_path_factory):
    """What the command made of the small checkpoint."""
    root = tmp_path_factory.mktemp("converted")
    torch.save({"state_dict": state, "epoch": 3}, root / "small.pt")
    arguments = [str(root / "small.pt"), str(root / "out"), "--text-encoder", text_encoder]
    assert original.main(arguments) == 0
    return root / "out"


def _batch():
    rng = np.random.default_rng(0)
    return {
        "audio": rng.standard_normal((2, 4_000)).astype(np.float32),
        "audio_length": np.array([4_000, 3_000], np.int32),
        "text_ids": rng.integers(3, 40, (2, 6)).astype(np.int32),
        "text_mask": np.array([[1] * 6, [1] * 4 + [0] * 2], np.int32),
    }


def _loaded(folder):
    config, params = original.load(folder)
    classes, symbols = (len(params[head]["linear"]["bias"]) for head in ("emotion", "ctc"))
    return factory.build_model(config, classes, symbols, vocab_size=0), params, config


def test_the_folder_holds_the_checkpoints_numbers(folder, state):
    _, params = original.load(folder)
    flat = traverse_util.flatten_dict(params, sep="/")
    for key, path in mapping.convert({k: v.numpy() for k, v in state.items()}).names.items():
        value = np.asarray(flat[path])
        if path.startswith("emotion/"):  # hap, ang, neu, sad there; ang, hap, neu, sad here
            value = value[..., [1, 0, 2, 3]]
        theirs = state[key].numpy()
        np.testing.assert_array_equal(value if path[-6:] != "kernel" else value.T, theirs)


def test_the_loaded_model_computes_what_the_converted_one_does(folder, state):
    model, params, _ = _loaded(folder)
    batch = _batch()
    _, out = jax.jit(model.apply)({"params": params}, batch)
    converted = mapping.convert({k: v.numpy() for k, v in state.items()})
    given = batch | {"text_ids": np.asarray(out["text_hidden"])}
    logits, _ = jax.jit(converted.model.apply)({"params": converted.params}, given)
    np.testing.assert_allclose(out["logits"], logits[:, [1, 0, 2, 3]], rtol=1e-5, atol=1e-5)


def test_sizes_are_found_in_the_file(folder):
    model, _, config = _loaded(folder)
    assert (config.model.width, config.model.heads, config.model.ffn) == (WIDTH, 1, FFN)
    assert (model.classes, model.symbols) == (4, SYMBOLS)
    audio = model.audio_encoder.config
    assert (audio.num_hidden_layers, audio.intermediate_size) == (2, FFN)
    assert tuple(audio.conv_dim) == (16,) * 7 and audio.feat_extract_norm == "group"
    assert (audio.num_conv_pos_embeddings, audio.num_conv_pos_embedding_groups) == (8, 16)


def test_the_commands_old_name():
    from mmer_jax.convert import released

    assert released.main is original.main and released.load_config is original.load_config


def test_the_config_is_the_original_recipe(folder):
    config, _ = original.load(folder)
    configuration.validate(config)
    assert config.model.padding == config.selection == "original"
    assert config.losses.ctc.normalization == "sum"
    assert config.losses.scl.form == config.losses.acl.form == "original"


def test_dropouts_are_those_that_it_was_trained_with(folder):
    """wav2vec2-base's own config: transformers' class has activation 0.1 and projection 0.0."""
    model, _, config = _loaded(folder)
    audio = model.audio_encoder.config
    assert (audio.hidden_dropout, audio.attention_dropout) == (0.1, 0.1)
    assert (audio.activation_dropout, audio.feat_proj_dropout) == (0.0, 0.1)
    assert (audio.final_dropout, audio.layerdrop) == (0.0, 0.0)
    assert config.model.dropout == model.dropout == 0.1


def test_both_spellings_of_weight_norm_give_the_same_parameters(state):
    new = {
        key.replace("weight_g", "parametrizations.weight.original0").replace(
            "weight_v", "parametrizations.weight.original1"
        ): value.numpy()
        for key, value in state.items()
    }
    assert set(new) != set(state)
    expected = mapping.convert({k: v.numpy() for k, v in state.items()}).params
    assert jax.tree.all(jax.tree.map(np.array_equal, mapping.convert(new).params, expected))


def test_the_report_accounts_for_every_key(state, text_encoder, tmp_path, capsys):
    torch.save({"state_dict": state | {"model_mmi.new": torch.ones(2)}}, tmp_path / "c.pt")
    out = tmp_path / "out"
    assert original.main([str(tmp_path / "c.pt"), str(out), "--text-encoder", text_encoder]) == 0
    printed = capsys.readouterr().out
    assert f"{len(state) - 2} keys used" in printed and "3 not used:" in printed
    assert "model_mmi.new: unknown" in printed
    assert "model_mmi.weights: weights of encoder layers" in printed
    assert "masked_spec_embed: SpecAugment" in printed


class _Payload:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return pathlib.Path.touch, (pathlib.Path(self.target),)


def _without(state, key):
    return {k: v for k, v in state.items() if k != key}


FAULTS = {
    "no_fusion": (lambda s, _: _without(s, "model_mmi.gate.weight"), "lacks 1 .*gate/kernel"),
    "no_sizes": (lambda s, _: _without(s, "model_mmi.gate.bias"), "no model_mmi.gate.bias"),
    "no_audio": (
        lambda s, _: _without(s, "model_mmi.wav2vec2.encoder.layer_norm.bias"),
        "encoder/layer_norm/bias",
    ),
    "wrong_shape": (
        lambda s, _: s | {"model_mmi.vismap2text.weight": torch.ones(64, 65)},
        r"fusion/audio_keys/kernel \(65, 64\) instead of \(64, 64\)",
    ),
    "another_model": (lambda s, _: {"bert.pooler.bias": torch.ones(2)}, "authors' code"),
    "pickled": (lambda s, t: s | {"x": _Payload(t)}, "pickled objects, which are never executed"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_checkpoint_is_one_message_and_leaves_nothing(
    fault, state, text_encoder, tmp_path, capsys
):
    spoil, message = FAULTS[fault]
    torch.save({"state_dict": spoil(state, tmp_path / "the payload ran")}, tmp_path / "c.pt")
    arguments = [str(tmp_path / "c.pt"), str(tmp_path / "out"), "--text-encoder", text_encoder]
    assert original.main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert re.search(message, error), error
    assert [p.name for p in tmp_path.iterdir()] == ["c.pt"]


def test_a_truncated_or_absent_file_is_one_message(state, tmp_path, capsys):
    path = tmp_path / "c.pt"
    assert original.main([str(path), str(tmp_path / "out")]) == 1
    assert "There is no file" in capsys.readouterr().err
    torch.save({"state_dict": state}, path)
    path.write_bytes(path.read_bytes()[:10_000])
    assert original.main([str(path), str(tmp_path / "out")]) == 1
    assert "can't be read as plain weights" in capsys.readouterr().err


def test_an_existing_folder_is_not_overwritten(folder, text_encoder, capsys):
    before = sorted(p.name for p in folder.iterdir())
    arguments = [str(folder.parent / "small.pt"), str(folder), "--text-encoder", text_encoder]
    assert original.main(arguments) == 1
    assert "exists and is not empty" in capsys.readouterr().err
    assert sorted(p.name for p in folder.iterdir()) == before


def test_a_text_encoder_of_another_width_is_refused(state, tmp_path, capsys):
    from transformers import RobertaConfig

    RobertaConfig(hidden_size=32, num_attention_heads=2).save_pretrained(tmp_path / "narrow")
    torch.save({"state_dict": state}, tmp_path / "c.pt")
    arguments = [str(tmp_path / "c.pt"), str(tmp_path / "out")]
    assert original.main([*arguments, "--text-encoder", str(tmp_path / "narrow")]) == 1
    assert "is a roberta 32 wide" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_none_of_ours_is_a_message(tmp_path):
    from mmer_jax.errors import UserError

    with pytest.raises(UserError, match="can't be read as a converted checkpoint"):
        original.load(tmp_path)


def test_outputs_are_put_in_our_order(folder, state):
    params = original.load(folder)[1]
    turned = original.reorder(params, ("neu", "ang", "sad", "hap"))["emotion"]["linear"]
    before = params["emotion"]["linear"]
    np.testing.assert_array_equal(turned["bias"], before["bias"][[1, 3, 0, 2]])
    np.testing.assert_array_equal(turned["kernel"], before["kernel"][:, [1, 3, 0, 2]])


def test_labels_that_are_not_the_four_are_one_message(folder):
    with pytest.raises(UserError, match="--labels is ang,exc"):
        original.reorder(original.load(folder)[1], ("ang", "exc", "neu", "sad"))


@pytest.mark.parametrize(
    "output, options, label",
    [(0, [], "hap"), (1, [], "ang"), (3, ["--labels=neu,ang,sad,hap"], "hap")],
)  # fmt: skip
def test_an_output_gets_the_name_that_the_published_code_gives_it(
    state, text_encoder, prepared, tmp_path, output, options, label
):
    folder = _converted(_favouring(state, output), text_encoder, tmp_path, *options)
    _set_tokenizer(folder, prepared, tmp_path)
    predictor = mmer_jax.load(str(folder), detect_speech=False)
    found = predictor.predict((np.ones(8_000), 16_000), text="i am")
    assert found.label == label and found.probabilities[label] > 0.99


def test_a_folder_of_the_version_that_mixed_up_the_outputs_is_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "old")
    (tmp_path / "old" / "labels.json").unlink()
    with pytest.raises(UserError, match="Convert it again"):
        original.load(str(tmp_path / "old"))


def _favouring(state, output):
    """The weights with an output that always wins."""
    bias = torch.zeros(4)
    bias[output] = 1e4
    return state | {"model_mmi.classifier.linear3.bias": bias}


def _converted(state, text_encoder, tmp_path, *options):
    """A folder that the command wrote."""
    torch.save({"state_dict": state}, tmp_path / "small.pt")
    arguments = [str(tmp_path / "small.pt"), str(tmp_path / "out"), *options]
    assert original.main([*arguments, "--text-encoder", text_encoder]) == 0
    return tmp_path / "out"


def _set_tokenizer(folder, prepared, tmp_path):
    config = json.loads((folder / "config.json").read_text())
    config["text"] |= {"tokenizer": str(_tokenizer(prepared, tmp_path)), "max_tokens": 16}
    (folder / "config.json").write_text(json.dumps(config))


def test_main_starts_from_the_folder(text_encoder, prepared, tmp_path):
    """The config that main takes: untrained, it tests exactly the converted parameters."""
    folder = _converted(_favouring(_small_state(symbols=32), 0), text_encoder, tmp_path)
    _set_tokenizer(folder, prepared, tmp_path)
    config = original.load_config(str(folder))
    config.data.dir = str(prepared / "tfds")
    config.folds, config.train.epochs = (5,), 0
    config.data.max_seconds, config.data.buckets = 1.0, 1
    trainer = Trainer.for_corpus(config)
    expected = original.load(folder)[1]
    state = trainer.initial_state(1)
    jax.tree.map(np.testing.assert_array_equal, merge(state.params, state.frozen), expected)
    run = tmp_path / "run"
    table = main.run(config, str(run))
    assert "Nothing was trained" in table
    assert (run / "log.txt").read_text()
    # The published code's output 0 is happiness, here and when the run is evaluated again.
    assert evaluate.main([str(run), "--text_source=none"]) == 0
    for path in (run / "predictions.csv", run / "text_none" / "predictions.csv"):
        with open(path, newline="") as f:
            assert {row["prediction"] for row in csv.DictReader(f)} == {"hap"}
    config.model.ffn = 32
    with pytest.raises(UserError, match="another model than the config describes"):
        Trainer.for_corpus(config).initial_state(1)


def _tokenizer(prepared, folder):
    """The corpus's tokenizer with few enough tokens for the tiny RoBERTa."""
    from transformers import BertTokenizerFast

    words = (prepared / "corpus" / "tokenizer" / "vocab.txt").read_text().split("\n")[:38]
    (folder / "vocab.txt").write_text("\n".join(words))
    tokenizer = BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=16)
    tokenizer.save_pretrained(folder / "tokenizer")
    return folder / "tokenizer"
