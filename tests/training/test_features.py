"""Frozen encoders computed once: the answers of before."""

import pathlib

import jax
import numpy as np
import pytest

from mmer_jax import configuration, main, runs
from mmer_jax.data import loader
from mmer_jax.data.features import Store
from mmer_jax.errors import UserError
from mmer_jax.reporting import ablation
from mmer_jax.training import cross_validation, evaluation, features, sharding
from mmer_jax.training.optimizer import merge
from mmer_jax.training.trainer import Trainer

FROZEN = ("audio_encoder/.*", "text_encoder/.*")


@pytest.fixture
def make(prepared, tiny_config, tmp_path):
    """Options of the config -> a config; its states go to a folder of the test's own."""

    def config(**options):
        c = tiny_config(prepared)
        c.data.dir = str(linked(prepared, tmp_path / "data"))
        c.data.cache_features, c.optimizer.frozen = True, FROZEN
        c.update_from_flattened_dict({k.replace("__", "."): v for k, v in options.items()})
        return configuration.validate(c)

    return config


def linked(prepared, folder):
    """A data_dir with the prepared dataset, in which features can be stored."""
    if not folder.exists():
        folder.mkdir()
        (folder / "iemocap").symlink_to(prepared / "tfds" / "iemocap")
    return folder


def uncached(config):
    config = config.copy_and_resolve_references()
    config.data.cache_features = False
    return config


def audio_only(config):
    configuration.audio_only(config)
    return config


WHISPER = {"audio__layers": "weighted", "audio__window": "30s", "model__pooling": "statistics"}
WAV2VEC2 = {"audio__family": "wav2vec2", "audio__conv_channels": 16, "data__buckets": 2}
CONVOLUTIONS = WAV2VEC2 | {"optimizer__frozen": (f"{configuration.CONVOLUTIONS}/.*", FROZEN[1])}


@pytest.mark.parametrize(
    "options, names",
    [
        (WHISPER, {"audio_states", "text_hidden"}),
        pytest.param(WAV2VEC2, {"audio_hidden", "text_hidden"}, marks=pytest.mark.slow),
        pytest.param(
            WAV2VEC2 | {"audio__subsample": 3, "audio__layers": "0"},
            {"audio_hidden", "text_hidden"},
            marks=pytest.mark.slow,
        ),
        (CONVOLUTIONS | {"audio__subsample": 3}, {"audio_convolved", "text_hidden"}),
        ({"optimizer__frozen": FROZEN[1:]}, {"audio", "text_hidden"}),
        ({"train__ctc_texts": 0.3, "audio__layers": "all"}, {"audio_states", "text_ids"}),
    ],
)
def test_logits_are_those_without_the_cache(make, options, names):
    """Of both views in training, of evaluation, and with texts that have no states."""
    config = make(**options)
    found = []
    for c in (config, uncached(config)):
        trainer = Trainer.for_corpus(c)
        state = trainer.initial_state(1)
        utterances = trainer.corpus.utterances
        batch = loader.Batches(trainer.collator, utterances, 8, seed=0)[0]
        if c is config:
            assert names <= batch.keys() and {f"aug_{name}" for name in names} <= batch.keys()
            assert not {"audio", "text_ids"} - names & batch.keys()
        variables = {"params": merge(state.params, state.frozen)}
        _, out = jax.jit(trainer.model.apply)(variables, batch)
        spelled = np.where(out["audio_mask"][..., None], out["ctc_logits"], 0)
        outputs = [out["logits"], out["aug_fused"], spelled]
        written = {u.id: "quite something else" for u in utterances[:9]}
        nothing = dict.fromkeys(written, "")
        for texts in (None, nothing, written):
            predicted = evaluation.predict(trainer, state, utterances[:9], texts)
            outputs.append(predicted["logits"])
        found.append(outputs)
    for cached, live in zip(*found):
        np.testing.assert_allclose(cached, live, atol=1e-2)
    assert np.ptp(found[1][0], axis=0).min() > 0.02  # else nothing would be compared


@pytest.mark.parametrize("options", [WHISPER, CONVOLUTIONS | {"audio__layers": "weighted"}])
def test_training_moves_all_but_what_is_frozen(make, options):
    trainer = Trainer.for_corpus(make(**options))
    state = trainer.initial_state(4)
    before = jax.device_get(state.params)
    batches = loader.Batches(trainer.collator, trainer.corpus.utterances, 8, seed=0)
    for step in range(2):
        batch = sharding.place(batches[step], trainer.mesh)
        state, metrics = trainer.train_step(state, batch)
    moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), before, jax.device_get(state.params))
    assert all(jax.tree.leaves(moved)) and "audio_layers" in moved
    assert float(metrics["acl"]) > 0 and float(metrics["ctc"]) > 0


@pytest.mark.slow
def test_a_run_with_the_cache_ends_as_one_without(make, tmp_path, capsys):
    """And it is tested again from the same states, none computed twice."""
    from mmer_jax import evaluate

    config = make(**WHISPER, train__epochs=1)
    main.run(config, str(tmp_path / "cached"))
    assert capsys.readouterr().out.count("features: computed") == 2
    main.run(uncached(config), str(tmp_path / "live"))
    cached, live = (runs.read(str(tmp_path / name)).folds[0] for name in ("cached", "live"))
    for a, b in zip(cached.result.predictions, live.result.predictions):
        assert a.utterance == b.utterance
        np.testing.assert_allclose(list(a.probabilities), list(b.probabilities), atol=2e-2)
    evaluate.run(str(tmp_path / "cached"), "none")
    assert "features" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "change, modalities",
    [
        ({"seed": 1}, {"audio", "text"}),  # another encoder from scratch
        ({"audio__layers": "0"}, {"audio"}),
        ({"audio__subsample": 2}, {"audio"}),
        ({"audio__window": "30s"}, {"audio"}),
        ({"data__normalize": "utterance"}, {"audio"}),
        ({"data__max_seconds": 0.4}, {"audio"}),
        ({"model__dtype": "bfloat16"}, {"audio"}),
        ({"model__width": 32, "data__batch_size": 4, "data__buckets": 2}, set()),
    ],
)
def test_what_changes_states_has_a_folder_of_its_own(make, change, modalities):
    folders = []
    for options in ({}, change):
        trainer = Trainer.for_corpus(make(**options))
        params = trainer._configured_params()
        found = features.stores(trainer.config, trainer.collator, trainer.model, params)
        folders.append({name: store.folder for name, store in found.items()})
    assert {name for name in folders[0] if folders[0][name] != folders[1][name]} == modalities


def test_convolutions_are_stored_once_for_all_that_reads_them(make):
    folders = set()
    for options in ({}, {"audio__layers": "weighted", "audio__subsample": 2}):
        trainer = Trainer.for_corpus(make(**CONVOLUTIONS, **options))
        params = trainer._configured_params()
        store = features.stores(trainer.config, trainer.collator, trainer.model, params)["audio"]
        folders.add(store.folder)
        assert store.entry == "convolved" and store.shape == (16,)
    assert len(folders) == 1
    frozen = "audio_encoder/(feature_extractor|conv1)/.*", FROZEN[1]
    whisper = Trainer.for_corpus(make(optimizer__frozen=frozen))
    assert features.parts(whisper.config, whisper.model).keys() == {"text"}


@pytest.mark.parametrize(
    "options, words",
    [
        ({"optimizer__frozen": ()}, "none is frozen"),
        ({"optimizer__frozen": ("audio_encoder/layers/.*",)}, "none is frozen"),
        ({"optimizer__frozen": FROZEN[1:], "train__ctc_texts": 0.5}, "train.ctc_texts"),
        ({"model__padding": "original"}, "padding=masked"),
    ],
)
def test_configs_that_leave_nothing_to_store(make, options, words):
    with pytest.raises(UserError, match=words):
        make(**options)


def test_a_disk_without_room_is_refused_before_anything_is_written(make, monkeypatch):
    trainer = Trainer.for_corpus(make())
    usage = features.shutil.disk_usage("/")._replace(free=features.SPARE)
    monkeypatch.setattr(features.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(UserError, match="config.audio.subsample"):
        trainer.initial_state(1)
    assert not (pathlib.Path(trainer.config.data.dir) / "features").exists()


def test_values_that_float16_can_not_hold_are_refused(make):
    trainer = Trainer.for_corpus(audio_only(make(audio__layers="weighted")))
    params = trainer._configured_params()
    params["audio_encoder"]["conv2"]["bias"] = params["audio_encoder"]["conv2"]["bias"] + 1e5
    with pytest.raises(UserError, match="layer 0"):
        trainer.initial_state(1, params=params)


def test_a_store_in_a_bucket_is_refused(make, monkeypatch):
    trainer = Trainer.for_corpus(make())
    trainer.config.data.dir = "gs://somewhere/tfds"
    with pytest.raises(UserError, match="on a disk"):
        trainer.initial_state(1)


def test_a_finished_store_is_read_where_nothing_can_be_written(make, monkeypatch):
    trainer = Trainer.for_corpus(make())
    trainer.initial_state(1)
    monkeypatch.setattr(Store, "writing", pytest.fail)
    Trainer.for_corpus(trainer.config).initial_state(1)


def test_means_over_frames_that_leave_ctc_next_to_nothing_are_refused(make, capsys):
    cross_validation.make_trainer(make())
    assert "config.audio.subsample" not in capsys.readouterr().out
    with pytest.raises(UserError, match="losses.ctc.weight"):
        cross_validation.make_trainer(make(audio__subsample=16))
    cross_validation.make_trainer(make(audio__subsample=16, losses__ctc__weight=0.0))


def test_a_variant_that_tunes_the_encoders_has_no_cache(make):
    config = make()
    variants = {v.name: v.config for v in ablation.make(config)[0]}
    assert not variants["tuned_encoders"].data.cache_features
    assert all(c.data.cache_features for name, c in variants.items() if name != "tuned_encoders")
