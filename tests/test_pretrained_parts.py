"""Pretrained folders in a run: what they may hold, what is refused, and what is kept of them."""

import builtins
import hashlib
import json
import pathlib
import shutil

import pytest
from transformers import AutoConfig, BertConfig, HubertConfig, RobertaConfig, WhisperConfig

import mmer_jax
from mmer_jax import export, main
from mmer_jax.data.text import Tokenizer
from mmer_jax.demo import corpus
from mmer_jax.errors import UserError
from mmer_jax.models import factory
from mmer_jax.models.encoders import ENCODERS, pretrained, weight_files
from mmer_jax.training import checkpoint_io
from tests.inference.tiny_models import made, written

SIZE = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 16}  # fmt: skip
HUBERT = SIZE | {"conv_dim": (8,) * 7, "num_conv_pos_embeddings": 8,
                 "num_conv_pos_embedding_groups": 2}  # fmt: skip
WHISPER = {"d_model": 16, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 16}
EVIL = "import pathlib\npathlib.Path({!r}).touch()\n"


@pytest.mark.parametrize("part, config, options, words", [
    ("text", BertConfig(vocab_size=20, **SIZE), {}, r"ids up to \d+, .* embeddings for 20 tokens"),
    ("text", BertConfig(vocab_size=600, max_position_embeddings=16, **SIZE), {},
     r"max_tokens is 128, .* positions for 16 tokens.*max_tokens=16"),
    ("text", BertConfig(vocab_size=600, max_position_embeddings=60, **SIZE), {"max_tokens": 58},
     r"max_tokens is 58, .* positions for 56 tokens.*max_tokens=56"),
    ("text", RobertaConfig(vocab_size=600, max_position_embeddings=60, pad_token_id=1, **SIZE),
     {"max_tokens": 59}, r"max_tokens is 59, .* positions for 58 tokens.*max_tokens=58"),
    ("audio", WhisperConfig(max_source_positions=40, **WHISPER), {},
     r"max_seconds is 13.125 .* take [\d.]+ s, .* positions for 0.8 s.*max_seconds=0.8"),
], ids=["ids", "positions", "padding", "roberta", "speech"])  # fmt: skip
def test_what_lies_beyond_a_table_is_said_before_the_first_step(
    part, config, options, words, prepared, tiny_config, tmp_path
):
    config.save_pretrained(tmp_path / "encoder")
    c = tiny_config(prepared)
    c[part].pretrained = str(tmp_path / "encoder")
    c[part].update(options)
    with pytest.raises(UserError, match=words):
        main.run(c, str(tmp_path / "run"))
    assert not (tmp_path / "run" / "fold5").exists()


def test_texts_that_just_fit_pass(tmp_path):
    model = made(tmp_path)
    from_zero, from_padding = ("bert", "electra", "distilbert"), ("roberta", "xlm-roberta")
    for name in from_zero + from_padding:
        most, fitting = (66 if name in from_padding else 64), 64
        text = AutoConfig.for_model(
            name, vocab_size=600, max_position_embeddings=most, pad_token_id=1
        )
        module = model.model.clone(text_encoder=ENCODERS[name].cls(text))
        factory.check_limits(module, model.config, Tokenizer(model.tokenizer.source, fitting))
        with pytest.raises(UserError, match="positions"):
            factory.check_limits(module, model.config, Tokenizer(model.tokenizer.source, 65))


def test_a_model_that_is_loaded_is_checked_too(tmp_path):
    folder = pathlib.Path(written(tmp_path))
    path = folder / "config.json"
    stored = json.loads(path.read_text())
    stored["config"]["text"]["max_tokens"] = 64
    path.write_text(json.dumps(stored))
    with pytest.raises(UserError, match=r"max_tokens is 64, .* positions for 32 tokens"):
        mmer_jax.load(folder)


def test_a_tokenizer_that_no_fold_can_keep_is_said_before_the_first_step(
    prepared, tiny_config, tmp_path
):
    c = tiny_config(prepared)
    c.text.tokenizer = str(tmp_path / "slow")
    (tmp_path / "slow").mkdir()
    _edit(tmp_path / "slow" / "tokenizer_config.json", tokenizer_class="CanineTokenizer")
    with pytest.raises(UserError, match="CanineTokenizer, in Python.*fast one"):
        main.run(c, str(tmp_path / "run"))
    assert not (tmp_path / "run" / "fold5").exists()


@pytest.fixture
def says_yes(monkeypatch):
    """Who asks on the terminal is told to go ahead, and it is noted."""
    asked = []
    monkeypatch.setattr(builtins, "input", lambda *a: asked.append(a) or "y")
    return asked


def _edit(path, **entries):
    old = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(old | entries))


def _with_code(folder, marker):
    """Adds code that only a class of its own would need; importing it makes the marker."""
    folder.mkdir(exist_ok=True)
    (folder / "evil.py").write_text(EVIL.format(str(marker)) + "class Evil: pass\n")
    _edit(folder / "tokenizer_config.json", tokenizer_class="Evil",
          auto_map={"AutoTokenizer": ["evil.Evil", "evil.Evil"]})  # fmt: skip
    return folder


def test_code_of_a_pretrained_folder_never_runs(says_yes, tmp_path):
    marker = tmp_path / "it ran"
    corpus.save_tokenizer(["some words"], tmp_path / "words")
    (tmp_path / "words" / "config.json").write_text(
        json.dumps({"model_type": "evil", "auto_map": {"AutoConfig": "evil.Evil"}})
    )
    folder = str(_with_code(tmp_path / "words", marker))
    with pytest.raises(UserError, match="No config.json could be had"):
        pretrained.load_config(folder)
    try:
        Tokenizer(folder, 16)
    except UserError:
        pass  # one message, or a class that transformers has itself: either will do
    assert not marker.exists() and not says_yes


def test_code_beside_what_is_known_is_left_alone(says_yes, tmp_path):
    marker = tmp_path / "it ran"
    HubertConfig(**HUBERT).save_pretrained(tmp_path / "hubert")
    _edit(tmp_path / "hubert" / "config.json", auto_map={"AutoConfig": "evil.Evil"})
    _edit(tmp_path / "hubert" / "preprocessor_config.json", do_normalize=False,
          feature_extractor_type="Evil", auto_map={"AutoFeatureExtractor": "evil.E"})  # fmt: skip
    folder = str(_with_code(tmp_path / "hubert", marker))
    assert pretrained.load_config(folder).do_normalize is False
    assert not marker.exists() and not says_yes


def test_a_model_folders_tokenizer_is_its_tokenizer_json_alone(says_yes, tmp_path):
    marker, model = tmp_path / "it ran", made(tmp_path)
    checkpoint_io.write(model, str(tmp_path / "model"))
    _with_code(tmp_path / "model" / "tokenizer", marker)
    words = "you broke the jacket " * 20
    again = mmer_jax.load(tmp_path / "model").model.tokenizer
    assert (
        list(again.ids(words)) == list(model.tokenizer.ids(words)) and len(again.ids(words)) == 32
    )
    for path in (tmp_path / "model" / "tokenizer").iterdir():
        if path.name != "tokenizer.json":
            path.unlink()
    assert list(mmer_jax.load(tmp_path / "model").model.tokenizer.ids(words)) == list(
        again.ids(words)
    )
    assert not marker.exists() and not says_yes


def test_the_hubs_commit_is_the_revision(monkeypatch, tmp_path):
    path = tmp_path / "models--a--b" / "snapshots" / "0123abc" / "model.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")
    monkeypatch.setattr(weight_files, "find", lambda *_: str(path))
    assert weight_files.provenance("a/b") == {
        "source": "a/b", "file": "model.safetensors", "revision": "0123abc",
        "sha256": hashlib.sha256(b"weights").hexdigest(),
    }  # fmt: skip
    path.write_bytes(b"others")
    assert weight_files.provenance("a/b")["sha256"] == hashlib.sha256(b"others").hexdigest()


def test_a_run_keeps_what_it_began_with(prepared, tiny_config, tmp_path):
    """Weights by their digest, and how waveforms are prepared: both outlive the folders."""
    pytest.importorskip("torch")
    from transformers import BertModel, HubertModel

    audio, text = tmp_path / "hubert", tmp_path / "bert"
    HubertModel(HubertConfig(**HUBERT)).save_pretrained(audio)
    (audio / "preprocessor_config.json").write_text('{"do_normalize": false}')
    BertModel(BertConfig(vocab_size=700, **SIZE)).save_pretrained(text)
    c = tiny_config(prepared)
    c.audio.pretrained, c.text.pretrained = str(audio), str(text)
    c.train.epochs, c.data.max_seconds, c.data.buckets = 1, 1.0, 1
    workdir = tmp_path / "run"
    main.run(c, str(workdir))
    main.run(c, str(workdir))  # read again, nothing computed
    found = json.loads((workdir / "results.json").read_text())["pretrained"]
    for name, folder in (("audio", audio), ("text", text)):
        digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
        assert (found[name]["source"], found[name]["revision"]) == (str(folder), None)
        assert found[name]["sha256"] == digest
    assert mmer_jax.load(workdir / "fold5").preprocessor.normalized is False
    (audio / "preprocessor_config.json").unlink()
    assert mmer_jax.load(workdir / "fold5").preprocessor.normalized is False
    export.run(str(workdir), str(tmp_path / "out"))
    for folder in (audio, text, workdir):
        shutil.rmtree(folder)
    assert mmer_jax.load(tmp_path / "out").preprocessor.normalized is False


def test_nothing_asks_for_code_anywhere():
    """Every call that could run a folder's code says that it must not."""
    root = pathlib.Path(mmer_jax.__file__).parents[1]
    files = [p for d in ("mmer_jax", "datasets", "benchmarks", "notebooks") for p in
             (root / d).rglob("*") if p.suffix in (".py", ".ipynb")]  # fmt: skip
    calls = [
        (p.name, line) for p in files for line in p.read_text().splitlines()
        if "Auto" in line and ".from_pretrained(" in line
    ]  # fmt: skip
    assert calls and all("trust_remote_code=False" in line for _, line in calls)
