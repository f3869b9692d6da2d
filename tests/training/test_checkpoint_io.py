"""A model by its name: every kind of folder, and one message for anything else."""

import json
import shutil

import jax
import numpy as np
import pytest

import mmer_jax
from mmer_jax import configuration, main
from mmer_jax.errors import UserError
from mmer_jax.training import checkpoint_io
from mmer_jax.training.checkpoint_io import digest
from tests.inference import odd_recordings as odd
from tests.inference.tiny_models import made

RATE = 16_000


@pytest.fixture
def copy(tiny_run, tmp_path):
    return shutil.copytree(tiny_run, tmp_path / "copy")


def edit(folder, change):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


def test_a_fold_needs_no_dataset(copy):
    edit(copy, lambda c: c["data"].update(dir="/nowhere"))
    shutil.rmtree(copy / "fold4")
    found = checkpoint_io.read_fold(str(copy / "fold5"))
    assert (
        found.label_names == ("ang", "hap", "neu", "sad")
        and found.text_sources["gold"]["temperature"] > 0
    )
    assert all(isinstance(x, np.ndarray) for x in jax.tree.leaves(found.params))
    assert found.card["fold"] == 5 and found.card["seed"] == 0 and found.card["name"] == "tiny"
    stored = configuration.from_json(json.loads((copy / "config.json").read_text()))
    assert found.card["fingerprint"] == configuration.fingerprint(stored)
    result = json.loads((copy / "fold5" / "result.json").read_text())
    right = [p["label"] == p["prediction"] for p in result["predictions"]]
    assert found.card["rates"]["wa"] == pytest.approx(np.mean(right))
    # Its workdir names the one fold that is left.
    assert digest(checkpoint_io.read(str(copy))) == digest(found)


def test_folds_differ_and_a_workdir_of_several_names_them(tiny_run):
    four, five = (checkpoint_io.read(str(tiny_run / f"fold{k}")) for k in (4, 5))
    assert digest(four) != digest(five)
    with pytest.raises(UserError, match="2 finished folds.*: fold4, fold5. Name one"):
        mmer_jax.load(str(tiny_run))


def test_a_refit_of_a_seed_gives_the_tested_checkpoint(prepared, tiny_config, tmp_path):
    config = tiny_config(prepared)
    config.seeds, config.refit, config.train.epochs = (3,), True, 1
    main.run(config, str(tmp_path))
    shutil.copytree(tmp_path / "seed3", tmp_path / "seed4")
    with pytest.raises(UserError, match="seed3/fold5, seed4/fold5"):
        checkpoint_io.read(str(tmp_path))
    predictor = mmer_jax.load(str(tmp_path / "seed3" / "fold5"))
    assert predictor.model.card["seed"] == 3
    result = json.loads((tmp_path / "seed3" / "fold5" / "result.json").read_text())
    row = result["predictions"][0]
    (path,) = (prepared / "corpus").glob(f"IEMOCAP*/**/{row['utterance']}.wav")
    found = predictor.predict(path, text=row["transcript"])
    np.testing.assert_allclose(found.logits, row["logits"], atol=1e-5)


def test_what_was_not_trained_is_what_it_started_from(prepared, tiny_config, tmp_path):
    config = tiny_config(prepared)
    config.train.epochs, config.selection = 0, "original"
    main.run(config, str(tmp_path))
    predictor = mmer_jax.load(str(tmp_path / "fold5"))
    assert not predictor.model.text_sources
    row = json.loads((tmp_path / "fold5" / "result.json").read_text())["predictions"][0]
    (path,) = (prepared / "corpus").glob(f"IEMOCAP*/**/{row['utterance']}.wav")
    found = predictor.predict(path, text=row["transcript"])
    np.testing.assert_allclose(found.logits, row["logits"], atol=1e-5)
    assert not found.calibrated


def test_a_converted_checkpoint_is_read(tmp_path):
    torch = pytest.importorskip("torch")
    from transformers import RobertaConfig, RobertaModel

    from mmer_jax.convert import original
    from tests.convert.test_original import WIDTH, _small_state

    words = made(tmp_path).tokenizer.source
    config = RobertaConfig(
        vocab_size=200, hidden_size=WIDTH, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=24, max_position_embeddings=140,
    )  # fmt: skip
    RobertaModel(config).save_pretrained(words)
    torch.save({"state_dict": _small_state(symbols=32)}, tmp_path / "c.pt")
    out = tmp_path / "out"
    assert original.main([str(tmp_path / "c.pt"), str(out), "--text-encoder", words]) == 0
    predictor = mmer_jax.load(str(out))
    assert predictor.model.label_names == original.LABELS
    assert predictor.model.text_sources == {}
    found = predictor.predict(odd.tone(0.5), rate=RATE)
    assert found.text_source == "ctc" and not found.calibrated
    # A training that starts from it has a tokenizer of its own.
    config = original.load_config(str(out))
    edit(out, lambda c: c["text"].update(tokenizer="gone"))
    with pytest.raises(UserError, match="tokenizer .*gone"):
        checkpoint_io.read(str(out))
    model = predictor.model
    params = checkpoint_io.initial_params(model.model, config, model.label_names)
    jax.tree.map(np.testing.assert_array_equal, params, model.params)


def test_a_model_folder_is_the_same_model(tmp_path):
    model = made(tmp_path)
    checkpoint_io.write(model, str(tmp_path / "folder"))
    again = mmer_jax.load(str(tmp_path / "folder"))
    assert digest(again.model) == digest(model)
    found = again.predict(odd.voice(0.5), rate=RATE, text="it was you")
    assert found.label in model.label_names


@pytest.mark.parametrize("part", ["tokenizer", "parameters", "result", "config"])
def test_what_is_gone_is_named(copy, part):
    fold = copy / "fold5"
    if part == "tokenizer":
        shutil.rmtree(copy / "shared" / "tokenizer")
        message = f"there is no {copy}/shared/tokenizer/tokenizer.json. Copy"
    elif part == "parameters":
        (fold / "params.safetensors").unlink()
        message = "The checkpoint .* is gone, and params.safetensors is not in"
    elif part == "result":
        (fold / "result.json").unlink()
        message = "no finished fold is there"
    else:
        (copy / "config.json").unlink()
        message = f"there is no {copy}/config.json. Copy"
    with pytest.raises(UserError, match=message):
        checkpoint_io.read(str(fold))


def test_a_fold_beside_its_like_of_a_seed_is_itself(copy):
    """Seeds may have been added to a run, of which one is its own."""
    beside = copy / "seed0" / "fold5"
    beside.mkdir(parents=True)
    shutil.copy(copy / "config.json", copy / "seed0")
    result = json.loads((copy / "fold5" / "result.json").read_text())
    (beside / "result.json").write_text(json.dumps(result | {"text_sources": {}}))
    assert checkpoint_io.read(str(copy / "fold5")).text_sources == result["text_sources"] != {}


def test_a_fold_may_have_another_name(copy):
    expected = digest(checkpoint_io.read(str(copy / "fold5")))
    (copy / "fold5").rename(copy / "best")
    assert digest(checkpoint_io.read(str(copy / "best"))) == expected


def test_damaged_parameters_are_one_message(copy):
    path = copy / "fold5" / "params.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UserError, match="fold5/params.safetensors can't be read .* truncated"):
        checkpoint_io.read(str(copy / "fold5"))


@pytest.mark.parametrize(
    "name, message",
    [
        ("nowhere", "There is no folder nowhere"),
        ("/no/where/at/all", "There is no folder /no"),
        ("nobody/nothing", "no model of that name could be had"),
        ("../a/b", "There is no folder"),
        (__file__, "is a file"),
    ],
)
def test_a_wrong_name_is_one_message(name, message):
    with pytest.raises(UserError, match=message) as e:
        mmer_jax.load(name)
    assert "\n" not in str(e.value)


def test_another_folder_is_one_message(tmp_path):
    with pytest.raises(UserError, match="holds nothing; expected a finished fold"):
        checkpoint_io.read(str(tmp_path))
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(UserError, match="holds notes.txt; expected"):
        checkpoint_io.read(str(tmp_path))


def test_a_hub_name_is_downloaded_as_a_model_folder(tmp_path, monkeypatch):
    model = made(tmp_path)
    checkpoint_io.write(model, str(tmp_path / "hub"))
    asked = {}

    def snapshot_download(name, allow_patterns):
        asked[name] = allow_patterns
        return str(tmp_path / ("hub" if name == "owner/name" else "other"))

    monkeypatch.setattr(checkpoint_io, "snapshot_download", snapshot_download)
    assert digest(checkpoint_io.read("owner/name")) == digest(model)
    assert not [p for p in asked["owner/name"] if p.endswith((".bin", ".pt", ".pkl", "*"))]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "README.md").write_text("x")
    with pytest.raises(UserError, match="holds README.md; expected"):
        checkpoint_io.read("owner/other")


def test_a_digest_changes_with_any_number(tmp_path):
    model = made(tmp_path)
    before = digest(model)
    assert before == digest(made(tmp_path)) and len(before) == 16
    model.params["emotion"]["linear"]["bias"][1] += 1e-6
    assert digest(model) != before
