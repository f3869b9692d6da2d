"""Gradients of several batches averaged for one update: groups, rates, resuming."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmer_jax import main
from mmer_jax.training import checkpoint_io, loop
from mmer_jax.training import step as train_step
from mmer_jax.training.optimizer import learning_rate
from mmer_jax.training.trainer import Trainer


def as_in_pytorch(steps_per_epoch, steps, every):
    """Of each batch: whether the usual loop steps after it, and how many updates came before."""
    found, count = [], 0
    for step in range(steps):
        i = step % steps_per_epoch
        ends = (i + 1) % every == 0 or i + 1 == steps_per_epoch or step + 1 == steps
        found.append((ends, count))
        count += ends
    return found, count


@pytest.mark.parametrize("steps_per_epoch, steps", [(8, 16), (10, 30), (3, 9), (10, 17), (1, 5)])
@pytest.mark.parametrize("every", [2, 4])
def test_groups_end_where_the_usual_loop_steps(steps_per_epoch, steps, every):
    expected, count = as_in_pytorch(steps_per_epoch, steps, every)
    for step, (ends, before) in enumerate(expected):
        assert train_step.ends_group(step, steps_per_epoch, steps, every) == ends
        assert train_step.updates(step + 1, steps_per_epoch, every) - 1 == before
    assert train_step.updates(steps, steps_per_epoch, every) == count


@pytest.fixture(scope="module")
def config(prepared, tiny_config):
    c = tiny_config(prepared)
    c.data.batch_size, c.data.buckets, c.train.accumulation = 4, 1, 3
    return c


def test_the_parameters_move_once_per_group_at_its_rate(config):
    """Also a resumed state: it holds the gradients of a group that has begun."""
    trainer = Trainer.for_corpus(config)
    utterances = trainer.corpus.utterances[:20]  # 5 batches: groups of 3 and 2
    batches = loop.loader.Batches(trainer.collator, utterances, 4, epochs=2, seed=0)
    assert batches.steps_per_epoch == 5
    state = trainer.initial_state(10, 5, 10)
    moved, rates, updates = [], [], []
    for i in range(10):
        before = jax.device_get(state.params)
        batch = loop.sharding.place(batches[i], trainer.mesh)
        state, metrics = trainer.train_step(state, batch)
        pairs = zip(jax.tree.leaves(before), jax.tree.leaves(state.params))
        moved.append(any(not np.array_equal(a, b) for a, b in pairs))
        rates.append(float(metrics["learning_rate"]))
        updates.append(int(state.opt_state.inner[1].count))
        left = any(np.any(x) for x in jax.tree.leaves(state.opt_state.gradients))
        assert left != moved[-1]
    assert moved == [False, False, True, False, True] * 2
    assert updates == [0, 0, 1, 1, 2, 2, 2, 3, 3, 4]
    expected = [learning_rate(config.optimizer, jnp.asarray(n), jnp.asarray(4)) for n in range(4)]
    np.testing.assert_allclose(rates, np.repeat(expected, [3, 2, 3, 2]), rtol=1e-6)
    assert trainer.train_step.count() == 1


def test_a_run_is_resumed_and_read(config, tmp_path):
    """The second epoch of a run of two, from the checkpoint of the first, is the whole run's."""
    main.run(config, str(tmp_path / "whole"))
    assert checkpoint_io.read_fold(str(tmp_path / "whole/fold5")).params
    lines = (tmp_path / "whole/fold5/metrics.jsonl").read_text().splitlines()
    with pytest.MonkeyPatch.context() as patch:
        save = loop.Checkpoints.save

        def stop(self, step, *rest):
            save(self, step, *rest)
            raise KeyboardInterrupt

        patch.setattr(loop.Checkpoints, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            main.run(config, str(tmp_path / "resumed"))
    main.run(config, str(tmp_path / "resumed"))
    again = (tmp_path / "resumed/fold5/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in again] == [json.loads(line) for line in lines]
