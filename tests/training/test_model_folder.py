"""A model folder: what is written comes back, and what is wrong with one is one message."""

import dataclasses
import json
import pathlib
import re

import jax
import numpy as np
import pytest
from flax import traverse_util
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from mmer_jax.demo import corpus
from mmer_jax.errors import UserError
from mmer_jax.inference import model_card
from mmer_jax.models import factory, storage
from mmer_jax.training import checkpoint_io
from mmer_jax.training.checkpoint_io import build
from tests.inference.tiny_models import WORDS, batch, made

USAGE = {
    "both": '"speech.wav", text="I told you not to touch it."',
    "audio": '"speech.wav"',
    "text": 'None, text="I told you not to touch it."',
}


def flat(model):
    return traverse_util.flatten_dict(model.params, sep="/")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def model(place):
    return made(place)


@pytest.fixture
def folder(model, tmp_path):
    """A written one that a test may spoil."""
    checkpoint_io.write(model, str(tmp_path / "out"), model_card.markdown(model))
    return tmp_path / "out"


@pytest.mark.parametrize(
    "options",
    [("both",), ("audio",), ("text",), ("both", "wav2vec2", "roberta")],
    ids=["both", "audio", "text", "wav2vec2"],
)
def test_what_is_written_comes_back(place, tmp_path, options):
    model = made(place, *options)
    checkpoint_io.write(model, str(tmp_path / "out"), model_card.markdown(model))
    again = checkpoint_io.read(str(tmp_path / "out"))
    before, after = flat(model), flat(again)
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[k], after[k]) for k in before)
    for name in ("label_names", "text_sources", "card"):
        assert getattr(again, name) == getattr(model, name)
    logits = [jax.jit(m.model.apply)({"params": m.params}, batch())[0] for m in (model, again)]
    np.testing.assert_array_equal(*logits)
    if model.tokenizer:
        np.testing.assert_array_equal(again.tokenizer.ids(WORDS), model.tokenizer.ids(WORDS))
    assert factory.normalizes(again.config) == factory.normalizes(model.config)
    usage = re.findall(r"model.predict\((.*)\)\)", model_card.markdown(model))
    assert usage == [USAGE[options[0]]]
    parts = {p.name for p in (tmp_path / "out").iterdir()}
    audio, text = (m in model.config.model.modalities for m in ("audio", "text"))
    assert ("audio_encoder" in parts, "text_encoder" in parts, "tokenizer" in parts) == (
        audio, text, text,
    )  # fmt: skip


def test_it_travels(model, folder, tmp_path):
    """Nothing of the machine is in it, and it is the same from its second place and writing."""
    texts = [p.read_text() for p in folder.rglob("*") if p.is_file() and p.suffix != ".safetensors"]
    assert not any(str(model.tokenizer.source) in t or "/tmp" in t for t in texts)
    assert not any(str(pathlib.Path.home()) in t for t in texts)
    plain = json.loads((folder / "config.json").read_text())["config"]
    assert (plain["data"]["dir"], plain["init_from"]) == ("~/tensorflow_datasets", "")
    folder.rename(tmp_path / "moved")
    moved = checkpoint_io.read(str(tmp_path / "moved"))
    checkpoint_io.write(moved, str(tmp_path / "third"), model_card.markdown(moved))
    for path in (p for p in (tmp_path / "moved").rglob("*") if p.is_file()):
        again = tmp_path / "third" / path.relative_to(tmp_path / "moved")
        assert again.read_bytes() == path.read_bytes(), path.name


def test_a_frozen_encoder_and_an_uncalibrated_model(place, tmp_path):
    model = made(place)
    model.config.optimizer.frozen = ("text_encoder/.*",)
    model = dataclasses.replace(model, text_sources={}, card={},
                                model=build(model.config, 4, model.tokenizer))  # fmt: skip
    checkpoint_io.write(model, str(tmp_path / "out"), model_card.markdown(model))
    again = checkpoint_io.read(str(tmp_path / "out"))
    assert again.model.frozen == ("text_encoder",) and not again.text_sources
    card = model_card.markdown(again)
    assert "not calibrated" in card and "was not recorded" in card and "demo" not in card


def test_the_card_says_what_is_known(model, folder):
    card = (folder / "README.md").read_text()
    front = card.split("---\n")[1]
    assert "license: other" in front and "library_name: mmer_jax" in front
    for words in ("fold 5, seed 3", "856abdf1ffde", "75.0", "70.0", "hap (happiness)", "1.7",
                  "held-out dialogs", "acted English", "not fit for decisions", "mmer_jax 0",
                  "mmer_jax.load("):  # fmt: skip
        assert words in card
    assert "base_model" not in front and not re.search(r"\bnan\b|None", card)


def test_the_card_of_a_demo_and_of_named_encoders(model, tmp_path):
    config = model.config.copy_and_resolve_references()
    config.name, config.selection = "demo_x", "original"
    config.audio.pretrained, config.text.pretrained = "facebook/wav2vec2-base", "/home/x/roberta"
    card = model_card.markdown(dataclasses.replace(model, config=config, card={}))
    assert "synthetic corpus" in card and "nothing about people" in card
    assert "- facebook/wav2vec2-base" in card and "/home/x" not in card
    assert "the TEST side" in card


def test_the_metadata_has_the_version(folder):
    with safe_open(folder / "model.safetensors", framework="numpy") as f:
        assert f.metadata()["format_version"] == "1"
        assert f.get_tensor("emotion/linear/bias").dtype == np.float32


def test_a_taken_folder_stays_as_it_is(model, folder):
    before = (folder / "config.json").read_bytes()
    for taken in (folder, folder / "config.json"):
        with pytest.raises(UserError, match="exists and is not empty"):
            checkpoint_io.write(model, str(taken))
    assert (folder / "config.json").read_bytes() == before


def test_an_empty_folder_is_taken_over(model, tmp_path):
    (tmp_path / "out").mkdir()
    checkpoint_io.write(model, str(tmp_path / "out"), model_card.markdown(model))
    assert checkpoint_io.is_model_folder(str(tmp_path / "out"))
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, OSError("no space left")])
def test_nothing_is_left_of_a_writing_that_failed(model, tmp_path, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(storage, "save_file", fail)
    expected = error if error is KeyboardInterrupt else UserError
    with pytest.raises(expected, match="no space left" if isinstance(error, OSError) else None):
        checkpoint_io.write(model, str(tmp_path / "out"), model_card.markdown(model))
    assert not list(tmp_path.iterdir())


def change(folder, **entries):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def resave(folder, edit):
    path = folder / "model.safetensors"
    params = load_file(path)
    edit(params)
    save_file(params, path, {"format_version": "1"})


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


SPOILT = {
    "gone": (lambda f: f.rename(f.with_name("x")), "There is no folder"),
    "no parameters": (lambda f: (f / "model.safetensors").unlink(), "holds README.md, audio_enc"),
    "no config": (lambda f: (f / "config.json").unlink(), "holds .*model.safetensors"),
    "no encoder": (lambda f: (f / "audio_encoder/config.json").unlink(), "lacks audio_encoder"),
    "no tokenizer": (lambda f: (f / "tokenizer/tokenizer.json").unlink(), "lacks tokenizer"),
    "half a config": (lambda f: cut(f / "config.json"), "is not JSON"),
    "another config": (lambda f: (f / "config.json").write_text("[]"), "another program's"),
    "a newer one": (lambda f: change(f, format_version=2, mmer_jax="9.9"), r"mmer_jax 9\.9"),
    "no labels": (lambda f: (f / "config.json").write_text('{"format_version": 1}'), "config=None"),
    "no list": (lambda f: change(f, label_names="neut"), "label_names=.neut.*can.t be"),
    "no sizes": (lambda f: change(f, sizes={}), "sizes=.*can.t be"),
    "no characters": (lambda f: change(f, alphabet=[1]), "alphabet=.*can.t be"),
    "no table": (lambda f: change(f, card=[]), "card=.*can.t be"),
    "fewer labels": (lambda f: change(f, label_names=["ang", "hap"]), "another model .*bias"),
    "unknown option": (lambda f: change(f, config={"colour": 1}), "colour=1"),
    "truncated": (lambda f: cut(f / "model.safetensors"), "truncated or damaged"),
    "no header": (lambda f: (f / "model.safetensors").write_bytes(b"x" * 50), "truncated or dam"),
    "missing": (lambda f: resave(f, lambda p: p.pop("ctc/linear/bias")), "another model .*bias"),
    "extra": (lambda f: resave(f, lambda p: p.update(x=np.float32([1]))), "another model .*x"),
    "misshaped": (
        lambda f: resave(f, lambda p: p.update({"ctc/linear/bias": np.ones(3, np.float32)})),
        r"bias.* is \(3,\), not \(32,\)",
    ),
    "halved": (
        lambda f: resave(f, lambda p: p.update({"ctc/linear/bias": np.ones(32, np.float16)})),
        r"bias.* is float16 \(32,\), not \(32,\)",
    ),
    "other encoder": (lambda f: widen(f / "text_encoder/config.json"), "text_encoder.*embeddings"),
}  # fmt: skip


def widen(path):
    path.write_text(json.dumps(json.loads(path.read_text()) | {"hidden_size": 24}))


@pytest.mark.parametrize("name", SPOILT)
def test_a_spoilt_folder_is_one_message(folder, name):
    spoil, words = SPOILT[name]
    change(folder, digests={})  # as of a version before: else they would say no more than that
    spoil(folder)
    with pytest.raises(UserError, match=words):
        checkpoint_io.read(str(folder))


def test_a_folder_of_before_other_alphabets_writes_english(folder):
    path = folder / "config.json"
    stored = json.loads(path.read_text())
    assert stored.pop("alphabet") == ""
    path.write_text(json.dumps(stored))
    model = checkpoint_io.read(str(folder))
    assert model.alphabet.is_english and not model.lacks_ctc


def test_a_tokenizer_of_another_model_is_noticed(folder, tmp_path):
    words = [f"word{chr(97 + i)}{chr(97 + j)}" for i in range(20) for j in range(9)]
    corpus.save_tokenizer([" ".join(words)], tmp_path / "other")
    change(folder, digests={})
    (folder / "tokenizer").rename(tmp_path / "first")
    (tmp_path / "other").rename(folder / "tokenizer")
    with pytest.raises(UserError, match=r"ids up to \d+, but the text encoder has embeddings for"):
        checkpoint_io.read(str(folder))


def test_is_model_folder(folder, tmp_path):
    assert checkpoint_io.is_model_folder(str(folder))
    assert not checkpoint_io.is_model_folder(str(tmp_path))
    assert not checkpoint_io.is_model_folder(str(tmp_path / "nowhere"))
