"""What a finished fold keeps on a disk, and that a crash or an older version loses nothing."""

import json
import pathlib
import shutil

import jax
import numpy as np
import pytest
from etils import epath
from flax import traverse_util

import mmer_jax
from mmer_jax import analyze, configuration, evaluate, export, files, main, runs
from mmer_jax.errors import UserError
from mmer_jax.models import storage
from mmer_jax.reporting import embeddings
from mmer_jax.training import checkpoint, checkpoint_io, cross_validation
from mmer_jax.training.checkpoint_io import digest
from mmer_jax.training.trainer import Trainer
from tests.harness import Killed, killed


def size(folder):
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def nbytes(tree):
    return sum(x.nbytes for x in jax.tree.leaves(tree))


def shared(run):
    return list((run / "shared").glob("*.safetensors"))


def stored(run, fold=5):
    return json.loads((run / f"fold{fold}" / "result.json").read_text())


def check_answers(fold, prepared):
    """The model in a fold's folder gives the logits that the fold was tested with."""
    row = json.loads((fold / "result.json").read_text())["predictions"][0]
    (path,) = (prepared / "corpus").glob(f"IEMOCAP*/**/{row['utterance']}.wav")
    answer = mmer_jax.load(str(fold)).predict(path, text=row["transcript"])
    np.testing.assert_allclose(answer.logits, row["logits"], atol=1e-5)


@pytest.fixture(scope="module")
def pretrained(tiny_config, prepared):
    """A function: folder for two pretrained encoders -> a config that begins with them."""
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torch")

    def make(folder):
        config = tiny_config(prepared)
        words = transformers.AutoTokenizer.from_pretrained(config.text.tokenizer)
        words.save_pretrained(folder / "bert")
        text = transformers.BertConfig(
            vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=16, max_position_embeddings=140,
        )  # fmt: skip
        transformers.BertModel(text).save_pretrained(folder / "bert")
        audio = transformers.WhisperConfig(
            d_model=16, encoder_layers=1, encoder_attention_heads=2, encoder_ffn_dim=16,
            decoder_layers=1, decoder_attention_heads=2, decoder_ffn_dim=16, vocab_size=30,
            pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
        )  # fmt: skip
        transformers.WhisperModel(audio).save_pretrained(folder / "whisper")
        config.audio.pretrained, config.text.pretrained = f"{folder}/whisper", f"{folder}/bert"
        config.text.tokenizer = ""
        config.optimizer.frozen = ("text_encoder/.*",)
        config.train.epochs = 1
        return config

    return make


@pytest.fixture(scope="module")
def run(pretrained, tmp_path_factory):
    """Workdir of two folds of two seeds; the encoders that they began with are deleted."""
    folder = tmp_path_factory.mktemp("pretrained_run")
    config = pretrained(folder / "encoders")
    config.folds, config.seeds = (4, 5), (0, 1)
    main.run(config, str(folder / "run"))
    shutil.rmtree(folder / "encoders")
    return folder / "run"


def test_a_fold_keeps_what_it_trained_and_the_run_the_rest_once(run, checkpointed_run, tiny_run):
    (path,) = shared(run)  # one for two folds of two seeds
    frozen, _ = storage.read_params(str(path), "")
    assert any(k.startswith("text_encoder/") for k in frozen)
    assert path.stat().st_size < nbytes(frozen) + 10_000
    for fold in (run / f"seed{s}" / f"fold{k}" for s in (0, 1) for k in (4, 5)):
        params = checkpoint_io.read_fold(str(fold)).params
        kept = fold / "params.safetensors"
        assert kept.stat().st_size < nbytes(params) - nbytes(frozen) + 20_000
        names = {p.name for p in fold.iterdir()}
        assert names == {"params.safetensors", "result.json", "metrics.jsonl", "tensorboard"}
    before = size(checkpointed_run / "fold5" / "checkpoints")  # of the same training
    after = (tiny_run / "fold5" / "params.safetensors").stat().st_size
    print(f"{before} bytes of checkpoints, {after} of parameters")
    assert before > 2 * after


@pytest.mark.parametrize("metadata", [{}, {"shared": "x"}])
@pytest.mark.parametrize("params", [{}, {"a": {"kernel": np.ones((2, 3), np.float32)}}])
def test_a_file_of_parameters_may_be_empty(params, metadata, tmp_path):
    path = str(tmp_path / "params.safetensors")
    left = tmp_path / ".params.safetensors.tmp.folder"  # of one that was killed
    left.mkdir()
    (left / ".tmpA1b2C3").write_bytes(b"half")
    storage.write_params(path, params, metadata)
    assert [p.name for p in tmp_path.iterdir()] == ["params.safetensors"]
    flat, found = storage.read_params(path, "")
    assert found == metadata == storage.read_metadata(path, "")
    assert list(flat) == (["a/kernel"] if params else [])


def test_a_fold_opens_without_what_it_began_with(run, prepared, tmp_path, monkeypatch):
    fold = run / "seed1" / "fold5"
    monkeypatch.chdir(tmp_path)
    check_answers(fold, prepared)
    analyze.run(str(run), fold=5, out=str(tmp_path / "analysis"))
    assert (tmp_path / "analysis" / "attention.png").exists()
    evaluate.run(str(run), "gold")
    before = [f.result for f in runs.read(str(run)).folds]
    after = json.loads((run / "text_gold" / "results.json").read_text())
    assert [f["confusion"] for f in after["folds"]] == [f.confusion.tolist() for f in before]
    export.run(str(fold), str(tmp_path / "out"))
    check = checkpoint_io.read(str(tmp_path / "out"))
    assert digest(check) == digest(checkpoint_io.read(str(fold)))


def test_a_fold_copied_alone_names_what_it_lacks(run, tmp_path):
    fold = shutil.copytree(run / "seed0" / "fold5", tmp_path / "a" / "b" / "fold5")
    (path,) = shared(run)
    with pytest.raises(UserError) as e:
        checkpoint_io.read(str(fold))
    assert f"{tmp_path}/a/b/config.json" in str(e.value) and "\n" not in str(e.value)
    assert f"{tmp_path}/a/shared/{path.name}" in str(e.value) and "mmer_jax.export" in str(e.value)
    shutil.copy(run / "seed0" / "config.json", fold.parent)
    with pytest.raises(UserError) as e:
        embeddings.open_fold(runs.read(str(fold.parent)).of(0, 5))
    assert f"{fold.parent}/config.json" not in str(e.value)
    assert f"{tmp_path}/a/shared/tokenizer/tokenizer.json" in str(e.value)
    shutil.copytree(run / "shared", tmp_path / "a" / "shared")
    assert digest(checkpoint_io.read(str(fold))) == digest(
        checkpoint_io.read(str(run / "seed0" / "fold5"))
    )


@pytest.mark.parametrize("which", ["fold5/params.safetensors", "shared/*.safetensors"])
def test_a_flipped_bit_of_a_finished_fold_is_told(which, tiny_run, tmp_path):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    (path,) = run.glob(which)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=f"{path} is damaged.*Copy the run again"):
        checkpoint_io.read(str(run / "fold5"))


def test_a_fold_names_no_file_elsewhere(tiny_run, tmp_path):
    """What versions before wrote is read, without a digest of its own; a path that climbs, not."""
    run = shutil.copytree(tiny_run, tmp_path / "a" / "b" / "run")
    path, (frozen,) = str(run / "fold5" / "params.safetensors"), shared(run)
    params, metadata = storage.read_params(path, "")
    params = traverse_util.unflatten_dict(params, sep="/")
    before = checkpoint_io.read(str(run / "fold5"))
    storage.write_params(path, params, {"shared": metadata["shared"].split()[0]})
    assert digest(checkpoint_io.read(str(run / "fold5"))) == digest(before)
    shutil.copytree(run / "shared", tmp_path / "a" / "shared")
    for name in (f"../../../shared/{frozen.name}", str(frozen), f"shared/{frozen.name}"):
        storage.write_params(path, params, {"shared": name})
        with pytest.raises(UserError, match="names no shared parameters"):
            checkpoint_io.read(str(run / "fold5"))


@pytest.fixture(scope="module")
def trainer(prepared, tiny_config):
    """One of `tiny_run`'s config; only to be read."""
    return Trainer.for_corpus(tiny_config(prepared))


@pytest.fixture
def no_training(monkeypatch):
    """Whatever is still to do, no step is trained."""
    made = cross_validation.make_trainer

    def trainer(config):
        found = made(config)
        monkeypatch.setattr(found, "train_step", lambda *_: pytest.fail("it was trained again"))
        return found

    monkeypatch.setattr(cross_validation, "make_trainer", trainer)


def killed_after(function):
    def called(*arguments):
        function(*arguments)
        raise Killed

    return called


# Where it is killed, how, and whether the result is there by then.
MOMENTS = {
    "before the parameters": (checkpoint, "write_params", killed, False),
    "in the parameters": (storage, "save_file", killed, False),
    "before the result": (checkpoint, "write_params", killed_after(checkpoint.write_params), False),
    "before the clean-up": (checkpoint, "clean_up", killed, True),
    "in the clean-up": (files, "remove_folder", killed, True),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_nothing_is_lost_whenever_it_is_killed(
    moment, prepared, tiny_config, tiny_run, tmp_path, monkeypatch, no_training
):
    config = tiny_config(prepared)
    config.train.epochs, config.folds = 1, (5,)
    place, name, replacement, finished_by_then = MOMENTS[moment]
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(cross_validation, "make_trainer", Trainer.for_corpus)
        patch.setattr(place, name, replacement)
        main.run(config, str(tmp_path))
    fold = tmp_path / "fold5"
    assert (fold / "checkpoints").exists()
    assert (fold / "result.json").exists() == finished_by_then
    if finished_by_then:
        monkeypatch.setattr(
            cross_validation, "make_trainer", lambda _: pytest.fail("it was tested again")
        )
        check_answers(fold, prepared)
    main.run(config, str(tmp_path))
    assert not (fold / "checkpoints").exists() and not list(tmp_path.rglob("*.tmp"))
    assert stored(tmp_path) == stored(tiny_run)
    check_answers(fold, prepared)


@pytest.mark.parametrize("lost", ["tokenizer", "audio_encoder", "text_encoder"])
def test_a_lost_part_of_the_run_comes_with_the_next_fold(
    lost, tiny_run, checkpointed_run, trainer, tmp_path
):
    run = shutil.copytree(tiny_run, tmp_path / "copy")
    fold, checkpoints = run / "fold5", run / "fold5" / "checkpoints"
    shutil.copytree(checkpointed_run / "fold5" / "checkpoints", checkpoints)
    expected = digest(checkpoint_io.read(str(fold)))
    params = checkpoint_io.read_fold(str(fold)).params
    shutil.rmtree(run / "shared" / lost)
    with pytest.raises(UserError, match=f"no {run}/shared/{lost}/.*delete the fold's result.json"):
        checkpoint.clean_up(str(fold), trainer.config)
    assert list(checkpoints.iterdir())
    state = trainer.trained_state(params).replace(step=np.int32(1))
    checkpoint.write_params(trainer, state, str(fold), str(run))
    checkpoint.clean_up(str(fold), trainer.config)
    assert not checkpoints.exists()
    assert digest(checkpoint_io.read(str(fold))) == expected


def test_a_damaged_shared_file_is_written_anew_with_the_next_fold(
    tiny_run, checkpointed_run, trainer, tmp_path
):
    run = shutil.copytree(tiny_run, tmp_path / "copy")
    fold, checkpoints = run / "fold5", run / "fold5" / "checkpoints"
    shutil.copytree(checkpointed_run / "fold5" / "checkpoints", checkpoints)
    params = checkpoint_io.read_fold(str(fold)).params
    (path,) = shared(run)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(UserError, match=f"{path} is damaged"):
        checkpoint.clean_up(str(fold), trainer.config)
    assert list(checkpoints.iterdir())
    state = trainer.trained_state(params).replace(step=np.int32(1))
    checkpoint.write_params(trainer, state, str(fold), str(run))
    assert path.read_bytes() == whole
    checkpoint.clean_up(str(fold), trainer.config)
    assert not checkpoints.exists()


def test_checkpoints_stay_until_their_parameters_are_whole(
    checkpointed_run, tiny_run, tmp_path, trainer
):
    fold, config = tmp_path / "fold5", trainer.config
    shutil.copy(tiny_run / "config.json", tmp_path)
    shutil.copytree(tiny_run / "fold5", fold)
    shutil.copytree(checkpointed_run / "fold5" / "checkpoints", fold / "checkpoints")
    with pytest.raises(UserError, match=f"no {tmp_path}/shared/"):
        checkpoint.clean_up(str(fold), config)
    assert list((fold / "checkpoints").iterdir())
    shutil.copytree(tiny_run / "shared", tmp_path / "shared")
    (path,) = shared(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(UserError, match="shared/.* can't be read"):
        checkpoint.clean_up(str(fold), config)
    assert list((fold / "checkpoints").iterdir())
    path.write_bytes(whole)
    checkpoint.clean_up(str(fold), config)
    assert not (fold / "checkpoints").exists()


def test_a_run_of_the_version_before_is_read(checkpointed_run, tiny_run, prepared):
    check_answers(checkpointed_run / "fold5", prepared)
    fold = runs.read(str(checkpointed_run)).of(0, 5)
    rows = fold.result.predictions
    found = embeddings.extract(fold, rows[0].utterance)
    np.testing.assert_allclose(found.logits, np.array([p.logits for p in rows]), atol=1e-4)
    before, after = (
        checkpoint_io.read_fold(str(d / "fold5")) for d in (checkpointed_run, tiny_run)
    )
    jax.tree.map(np.testing.assert_array_equal, before.params, after.params)


def test_a_run_of_the_version_before_names_a_tokenizer_that_is_gone(checkpointed_run, tmp_path):
    copy = shutil.copytree(checkpointed_run, tmp_path / "copy")
    config = json.loads((copy / "config.json").read_text())
    config["text"]["tokenizer"] = "gone/tokenizer"
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="gone/tokenizer"):
        checkpoint_io.read(str(copy / "fold5"))


def test_a_run_of_the_version_before_goes_on(
    checkpointed_run, tiny_run, tmp_path, prepared, tiny_config, no_training
):
    config = tiny_config(prepared)
    config.train.epochs = 1
    workdir = shutil.copytree(checkpointed_run, tmp_path / "copy")
    main.run(config, str(workdir))  # finished: nothing of it is touched
    assert (workdir / "fold5" / "checkpoints").exists()
    (workdir / "fold5" / "result.json").unlink()
    main.run(config, str(workdir))
    assert not (workdir / "fold5" / "checkpoints").exists()
    assert stored(workdir) == stored(tiny_run)


@pytest.mark.parametrize("finished_before", [True, False])
def test_a_damaged_checkpoint_is_named(
    checkpointed_run, tmp_path, prepared, tiny_config, finished_before
):
    workdir = shutil.copytree(checkpointed_run, tmp_path / "copy")
    for path in (workdir / "fold5" / "checkpoints").glob("*/state/**/*"):
        if path.is_file():
            path.write_bytes(b"damaged")
    config = tiny_config(prepared)
    config.train.epochs = 1
    if not finished_before:
        (workdir / "fold5" / "result.json").unlink()
    with pytest.raises(UserError, match="can't be restored.*delete that folder"):
        if finished_before:
            checkpoint_io.read(str(workdir / "fold5"))
        else:
            main.run(config, str(workdir))


@pytest.mark.parametrize("version", ["this", "the one before"])
def test_of_two_trainings_the_tested_one_is_kept(
    version, prepared, tiny_config, tmp_path, monkeypatch
):
    config = tiny_config(prepared)
    config.refit, config.train.epochs = True, 1
    if version == "the one before":
        monkeypatch.setattr(checkpoint, "write_params", lambda *_: None)
    main.run(config, str(tmp_path))
    check_answers(tmp_path / "fold5", prepared)
    left = len(list(tmp_path.rglob("checkpoints")))
    assert left == (0 if version == "this" else 2)
    assert (tmp_path / "fold5" / "refit" / "metrics.jsonl").exists()


def test_what_is_not_trained_is_kept_once(prepared, pretrained, tmp_path):
    config = pretrained(tmp_path / "encoders")
    config.train.epochs, config.folds, config.selection = 0, (4, 5), "original"
    main.run(config, str(tmp_path / "run"))
    shutil.rmtree(tmp_path / "encoders")
    (path,) = shared(tmp_path / "run")
    for k in (4, 5):
        fold = tmp_path / "run" / f"fold{k}"
        assert (fold / "params.safetensors").stat().st_size < 1_000
        assert not (fold / "checkpoints").exists()
        check_answers(fold, prepared)
    assert path.stat().st_size < nbytes(checkpoint_io.read_fold(str(fold)).params) + 20_000


def test_checkpoints_that_cannot_be_deleted_are_no_traceback(
    tiny_run, checkpointed_run, tmp_path, monkeypatch, capsys, trainer
):
    fold = shutil.copytree(tiny_run, tmp_path / "copy") / "fold5"
    shutil.copytree(checkpointed_run / "fold5" / "checkpoints", fold / "checkpoints")

    def refused(_):
        raise OSError("Read-only file system")

    monkeypatch.setattr(files, "remove_folder", refused)
    checkpoint.clean_up(str(fold), trainer.config)
    assert "fold5/checkpoints is not needed any more" in capsys.readouterr().out


def test_a_run_in_a_bucket(tiny_run, trainer, tmp_path, monkeypatch):
    """gs:// paths end in a folder, if they go through epath."""
    bucket = shutil.copytree(tiny_run, tmp_path / "bucket")
    shutil.rmtree(bucket / "shared")
    (bucket / "fold5" / "params.safetensors").unlink()
    (bucket / "fold5" / "checkpoints" / "9").mkdir(parents=True)
    original = epath.Path

    def path(name, *more):
        made = original(str(name).replace("gs://", f"{tmp_path}/"), *more)
        if str(name).startswith("gs://bucket/shared/"):
            made.parent.mkdir(parents=True, exist_ok=True)  # a bucket has no folders to make
        return made

    monkeypatch.setattr(epath, "Path", path)
    monkeypatch.chdir(tmp_path)
    expected = checkpoint_io.read_fold(str(tiny_run / "fold5")).params
    state = trainer.trained_state(expected).replace(step=np.int32(1))
    checkpoint.clean_up("gs://bucket/fold5", trainer.config)
    assert (bucket / "fold5" / "checkpoints").exists()
    checkpoint.write_params(trainer, state, "gs://bucket/fold5", "gs://bucket")
    checkpoint.clean_up("gs://bucket/fold5", trainer.config)
    assert not (bucket / "fold5" / "checkpoints").exists()
    config, params = checkpoint.read_params(runs.read("gs://bucket").of(0, 5))
    jax.tree.map(np.testing.assert_array_equal, params, expected)
    assert pathlib.Path(config.text.tokenizer).name == "tokenizer.json"
    assert [p.name for p in tmp_path.iterdir()] == ["bucket"]


def started_from(source, config):
    """The state before training of a run that starts from a model."""
    config.init_from = str(source)
    state = Trainer.for_corpus(config).initial_state(1)
    return jax.device_get((state.params, state.frozen))


@pytest.mark.parametrize("kind", ["fold", "exported"])
def test_a_training_starts_from_a_model_of_ones_own(
    kind, tiny_run, prepared, tiny_config, tmp_path, capsys
):
    source = tiny_run / "fold5"
    if kind == "exported":
        export.run(str(source), str(tmp_path / "out"))
        source = tmp_path / "out"
    config = tiny_config(prepared)
    trained, frozen = started_from(source, config)
    expected = checkpoint_io.read_fold(str(tiny_run / "fold5")).params
    jax.tree.map(np.testing.assert_array_equal, checkpoint.merge(trained, frozen), expected)
    # Of what fold 5 was trained on, this run tests nothing.
    assert "figures on anything else" not in capsys.readouterr().out
    config.folds = (4, 5)
    started_from(source, config)
    assert (
        "all of iemocap/emotions4 but session 5: figures on anything else"
        in capsys.readouterr().out
    )


def test_each_fold_starts_from_its_own_fold(tiny_run, prepared, tiny_config, tmp_path, capsys):
    config = tiny_config(prepared)
    config.folds, config.train.epochs = (4, 5), 0
    config.init_from = str(tiny_run / "fold{fold}")
    main.run(config, str(tmp_path))
    assert "figures on anything else" not in capsys.readouterr().out
    before, after = (runs.read(str(folder)).folds for folder in (tiny_run, tmp_path))
    for old, new in zip(before, after, strict=True):
        assert new.result.pretrained["init_from"]["source"] == old.folder
        probabilities = [[p.probabilities for p in f.result.predictions] for f in (old, new)]
        assert probabilities[0] == probabilities[1]


def test_a_run_keeps_what_it_was_started_from(tiny_run, prepared, tiny_config):
    """The path alone says nothing: another model may lie there by now."""
    config = tiny_config(prepared)
    config.init_from = str(tiny_run / "fold5")
    started = Trainer.for_corpus(config)
    started.initial_state(1)
    params = checkpoint_io.read_fold(config.init_from).params
    assert started.pretrained["init_from"] == {
        "source": config.init_from, "sha256": storage.params_digest(params),
    }  # fmt: skip
    words = stored(tiny_run)["pretrained"]["tokenizer"]
    assert started.pretrained["tokenizer"] == words
    assert words["source"] == config.text.tokenizer and len(words["sha256"]) == 64


def _with_other_input(run, fold):
    """A fold's result as of a version that prepared waveforms in the other way."""
    path = run / f"fold{fold}" / "result.json"
    result = json.loads(path.read_text())
    path.write_text(json.dumps(result | {"normalized": not result["normalized"]}))


def test_a_run_does_not_go_on_with_another_input(tiny_run, prepared, tiny_config, tmp_path):
    run = shutil.copytree(tiny_run, tmp_path / "copy")
    _with_other_input(run, 4)
    (run / "fold5" / "result.json").unlink()
    config = tiny_config(prepared)
    config.train.epochs = 1
    with pytest.raises(UserError, match="fold4 was .*normalised.*config.data.normalize=auto"):
        main.run(config, str(run))
    assert not (run / "fold5" / "result.json").exists()


def test_each_fold_is_tested_with_its_own_input(tiny_run, tmp_path):
    run = shutil.copytree(tiny_run, tmp_path / "copy")
    _with_other_input(run, 4)
    trainer, kinds = None, []
    for fold in runs.read(str(run)).folds:
        trainer, _, _ = embeddings.open_fold(fold, trainer=trainer)
        kinds.append(trainer.collator.preprocessor.normalized)
    assert kinds == [True, False]


def test_classes_in_another_order_are_put_in_ours(tiny_run, prepared, tiny_config, tmp_path):
    copy = shutil.copytree(tiny_run, tmp_path / "copy") / "fold5"
    result = stored(tmp_path / "copy")
    result["label_names"] = ["sad", "ang", "hap", "neu"]
    (copy / "result.json").write_text(json.dumps(result))
    before = checkpoint_io.read_fold(str(copy)).params["emotion"]["linear"]
    trained, _ = started_from(copy, tiny_config(prepared))
    after = trained["emotion"]["linear"]
    np.testing.assert_array_equal(after["kernel"], before["kernel"][:, [1, 2, 3, 0]])
    np.testing.assert_array_equal(after["bias"], before["bias"][[1, 2, 3, 0]])


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda c: setattr(c.model, "ffn", 32), "of another model than the config .* places"),
        (configuration.audio_only, "of another model than the config"),
        (lambda c: setattr(c, "init_from", "gone/fold5"), "There is no folder gone/fold5"),
    ],
)
def test_another_model_to_start_from_is_one_message(
    change, message, tiny_run, prepared, tiny_config, tmp_path
):
    config = tiny_config(prepared)
    config.init_from = str(tiny_run / "fold5")
    change(config)
    with pytest.raises(UserError, match=message) as e:
        Trainer.for_corpus(config).initial_state(1)
    assert "\n" not in str(e.value)


def test_a_model_of_other_classes_to_start_from_is_one_message(
    tiny_run, prepared, tiny_config, tmp_path, monkeypatch
):
    config = tiny_config(prepared)
    config.init_from = str(tiny_run / "fold5")
    trainer = Trainer.for_corpus(config)
    trainer.label_names += ("exc",)
    with pytest.raises(UserError, match=r"has 4 classes \(ang, hap, neu, sad\), the dataset 5"):
        trainer.initial_state(1)
