"""A run's behaviour: what moves, what stays, and that a resumed run equals an uninterrupted one."""

import json

import jax
import numpy as np
import pytest

from mmer_jax import main
from mmer_jax.data import folds, pipeline
from mmer_jax.errors import UserError
from mmer_jax.training import loop, sharding
from mmer_jax.training.experiment import Experiment


@pytest.fixture(scope="module")
def experiment(prepared, tiny_config):
    config = tiny_config(prepared)
    config.optimizer.frozen = ("text_encoder/embeddings/word_embeddings/.*",)
    return Experiment(config)


def some_batches(experiment, n):
    utterances = experiment.corpus.utterances
    batches = pipeline.TrainBatches(experiment.featurizer, utterances, 8, 5, 0)
    return [batches[i] for i in range(n)]


def leaves(tree):
    return {jax.tree_util.keystr(k): np.asarray(v) for k, v in jax.tree.leaves_with_path(tree)}


def test_every_trained_leaf_moves_and_every_frozen_leaf_stays(experiment):
    state = experiment.initial_state(10)
    before = jax.device_get((state.params, state.frozen))
    for batch in some_batches(experiment, 3):
        state, metrics = experiment.train_step(state, sharding.place(batch, experiment.mesh))
        assert all(np.isfinite(v) for v in jax.device_get(metrics).values())
    after = jax.device_get((state.params, state.frozen))
    old, new = leaves(before[0]), leaves(after[0])
    # A key's bias shifts all scores of a query alike: softmax cancels it, its gradient is 0.
    still = [k for k in old if np.array_equal(old[k], new[k])]
    assert [k for k in still if not ("key" in k and "bias" in k)] == []
    old, new = leaves(before[1]), leaves(after[1])
    assert {k.split("'")[1] for k in old} == {"audio_encoder", "text_encoder"}
    for k in old:
        np.testing.assert_array_equal(old[k], new[k], err_msg=k)


def test_the_same_seed_gives_the_same_step(experiment):
    batch = sharding.place(some_batches(experiment, 1)[0], experiment.mesh)
    twice = [
        experiment.train_step(experiment.initial_state(10), batch)[1]["loss"] for _ in range(2)
    ]
    assert float(twice[0]) == float(twice[1])


def test_a_batch_of_fill_rows_alone_moves_no_loss(experiment):
    batch = dict(some_batches(experiment, 1)[0])
    for name in ("valid", "ctc_valid", "aug_valid"):
        batch[name] = np.zeros_like(batch[name])
    placed = sharding.place(batch, experiment.mesh)
    _, metrics = experiment.train_step(experiment.initial_state(10), placed)
    assert float(metrics["loss"]) == 0.0 and float(metrics["grad_norm"]) == 0.0


def test_predictions_do_not_depend_on_company(experiment):
    """Alone, in a batch, in another bucket: the same logits."""
    utterances = experiment.corpus.utterances[:11]
    state = experiment.initial_state(10)
    together = loop.predict(experiment, state, utterances)
    alone = np.concatenate([loop.predict(experiment, state, [u]) for u in utterances])
    np.testing.assert_allclose(alone, together, atol=1e-5)
    largest = experiment.featurizer.buckets[-1]
    batch = experiment.featurizer.batch(list(utterances[:8]), largest, (0, 0), False)
    other = experiment.eval_step(state.params, state.frozen, sharding.place(batch, experiment.mesh))
    np.testing.assert_allclose(other, together[:8], atol=1e-5)


def test_compilations_equal_buckets(experiment):
    state = experiment.initial_state(12)
    for batch in some_batches(experiment, 12):
        state, _ = experiment.train_step(state, sharding.place(batch, experiment.mesh))
    assert experiment.train_step._cache_size() == len(experiment.featurizer.buckets)


class Killed(BaseException):
    """Stands for a run that is killed."""


def interrupt_after(monkeypatch, steps):
    """Kills the loop when it fetches a batch for the given step of this process."""
    original, count = pipeline.device_iterator, [0]

    def device_iterator(batches, *options):
        iterator = original(batches, *options)
        if not isinstance(batches, pipeline.TrainBatches):
            return iterator

        class Iterator(type(iterator)):
            def __next__(self):
                count[0] += 1
                if count[0] > steps:
                    raise Killed
                return super().__next__()

        iterator.__class__ = Iterator
        return iterator

    monkeypatch.setattr(pipeline, "device_iterator", device_iterator)


@pytest.fixture(scope="module")
def uninterrupted(prepared, tiny_config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    main.run(tiny_config(prepared), str(folder))
    return folder


def without_times(folder):
    results = json.loads((folder / "results.json").read_text())
    return {k: v for k, v in results.items() if k not in ("seconds",)}


@pytest.mark.parametrize("where", ["middle of the second epoch", "middle of the first"])
def test_a_resumed_run_equals_an_uninterrupted_one(
    prepared, tiny_config, uninterrupted, tmp_path, monkeypatch, where
):
    config = tiny_config(prepared)
    with monkeypatch.context() as patch:
        interrupt_after(patch, 10 if "second" in where else 3)
        with pytest.raises(Killed):
            main.run(config, str(tmp_path))
    assert not (tmp_path / "results.json").exists()
    main.run(config, str(tmp_path))
    assert without_times(tmp_path) == without_times(uninterrupted)
    for name in ("predictions.csv", "fold5/metrics.jsonl"):
        assert (tmp_path / name).read_text() == (uninterrupted / name).read_text(), name
    assert (tmp_path / "confusion.png").read_bytes()[:4] == b"\x89PNG"


def test_a_finished_run_is_read_not_run(prepared, tiny_config, uninterrupted, monkeypatch):
    monkeypatch.setattr(main, "_experiment", lambda config: pytest.fail("it was run again"))
    before = (uninterrupted / "predictions.csv").read_bytes()
    main.run(tiny_config(prepared), str(uninterrupted))
    assert (uninterrupted / "predictions.csv").read_bytes() == before


def test_another_config_in_the_same_workdir_is_an_error(prepared, tiny_config, uninterrupted):
    config = tiny_config(prepared)
    config.optimizer.learning_rate = 0.5
    with pytest.raises(UserError, match="optimizer.learning_rate: 0.001 there, 0.5 now"):
        main.run(config, str(uninterrupted))


def test_divergence_is_one_message(experiment, tmp_path, monkeypatch):
    step = experiment.train_step

    def diverged(state, batch):
        state, metrics = step(state, batch)
        return state, metrics | {"loss": metrics["loss"] * np.nan}

    monkeypatch.setattr(experiment, "train_step", diverged)
    with pytest.raises(UserError, match="Training diverged: the loss is nan at step 2"):
        loop.train_fold(experiment, folds.Fold(5), str(tmp_path))
