"""One training step, compiled over the mesh, and the state that it reads and changes."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct

from mmer_jax.losses import memory_bank
from mmer_jax.models.mmer import jit_at
from mmer_jax.training import sharding
from mmer_jax.training.gradients import make_gradients
from mmer_jax.training.optimizer import learning_rate


@struct.dataclass
class TrainState:
    """A pytree; all of it goes into a checkpoint.

    Attributes:
      step: int32, batches done.
      total_steps: int32, steps of the whole run; the schedule ends there.
      params: trained parameters.
      frozen: parameters without gradient or optimiser state.
      opt_state: optax's, or an `Accumulated` that holds it.
      memory: past embeddings for the contrastive losses, see `losses/memory_bank.py`; or {}.
      rng: key that each step folds its number into.
    """

    step: jax.Array
    total_steps: jax.Array
    params: dict
    frozen: dict
    opt_state: tuple
    memory: dict
    rng: jax.Array


class Accumulated(NamedTuple):
    """Gradients of several independent small batches, averaged for one update of the optimiser.

    As PyTorch's loops do it: each batch's loss is divided by `every`, the gradients add up, and the
    optimiser steps after `every` batches and at the end of an epoch, where a group may be
    incomplete (it is divided by `every` as well). A contrastive loss sees one small batch;
    `gradients.py` makes chunks of a batch that it sees whole. Each small batch may be made of
    chunks itself. A step of the training is a small batch; the rate's schedule counts updates.

    Stands in `TrainState.opt_state` where `config.train.accumulation`, `every`, is above 1.

    Attributes:
      inner: optax's state.
      gradients: sum of the group's gradients so far, each divided by `every`; like the parameters.
      steps_per_epoch, last_step: int32, where incomplete groups end: with each epoch, and with the
        training.
    """

    inner: tuple
    gradients: dict
    steps_per_epoch: jax.Array
    last_step: jax.Array


def initial_state(params: dict, frozen: dict, optimizer, total_steps, memory: dict, seed,
                  groups: tuple | None = None) -> TrainState:  # fmt: skip
    """The state before the first step.

    Args:
      params, frozen, total_steps, memory: see `TrainState`.
      optimizer: of `make_optimizer`.
      seed: of the dropout.
      groups: (steps per epoch, last step), where gradients are accumulated, see `Accumulated`.
    """
    opt_state = optimizer.init(params)
    if groups:
        ends = (jnp.asarray(n, jnp.int32) for n in groups)
        opt_state = Accumulated(opt_state, jax.tree.map(jnp.zeros_like, params), *ends)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        total_steps=jnp.asarray(total_steps, jnp.int32),
        params=params,
        frozen=frozen,
        opt_state=opt_state,
        memory=memory,
        rng=jax.random.key(seed + 1),  # not the key of the weights
    )


def make_train_step(model, optimizer, config, mesh, shardings):
    """A jitted (state, batch) -> (state, metrics); the state is donated.

    The metrics are scalars: `loss`, each loss by name, `grad_norm` (of this batch, before
    clipping), `learning_rate` and `accuracy`.

    Args:
      model, optimizer, config: of the run.
      mesh: see `sharding.make_mesh`.
      shardings: of the state, see `sharding.state_shardings`.
    """
    gradients, every = make_gradients(model, config, mesh), config.train.accumulation

    def train_step(state: TrainState, batch):
        loss, metrics, embeddings, grads = gradients(state, batch)
        rate = learning_rate(config.optimizer, *_current_update(state, every))

        def apply(grads, opt_state, params):
            direction, opt_state = optimizer.update(grads, opt_state, params)
            return jax.tree.map(lambda p, d: p - rate * d, params, direction), opt_state

        params, opt_state = _update(apply, state, grads, every)
        metrics |= {"loss": loss, "grad_norm": optax.tree.norm(grads), "learning_rate": rate}
        state = state.replace(
            step=state.step + 1,
            params=params,
            opt_state=opt_state,
            memory=memory_bank.push(state.memory, embeddings, batch),
        )
        return state, metrics

    return jit_at(
        train_step,
        model.precision,
        in_shardings=(shardings, sharding.batch_sharding(mesh)),
        out_shardings=(shardings, sharding.replicated(mesh)),
        donate_argnums=0,
        compiler_options=compiler_options(),
    )


def _current_update(state, every):
    """The number, from 0, of the update that the next batch is of, and of how many."""
    if every == 1:
        return state.step, state.total_steps
    epoch = state.opt_state.steps_per_epoch
    return updates(state.step + 1, epoch, every) - 1, updates(state.total_steps, epoch, every)


def updates(steps, steps_per_epoch, every: int):
    """How many updates `steps` small batches from the start make; a group begun counts as one."""
    epochs, rest = steps // steps_per_epoch, steps % steps_per_epoch
    return epochs * -(-steps_per_epoch // every) + -(-rest // every)


def ends_group(step, steps_per_epoch, last_step, every: int):
    """Whether the optimiser steps after batch `step` (0, 1, ...)."""
    position = step % steps_per_epoch + 1
    return (position % every == 0) | (position == steps_per_epoch) | (step + 1 == last_step)


def _update(apply, state, grads, every):
    """Parameters and `opt_state` after a batch: its gradients count where its group ends.

    Args:
      apply: (gradients, optax's state, parameters) -> parameters, optax's state.
      state: before the batch.
      grads: the batch's, like the parameters.
      every: `config.train.accumulation`.
    """
    if every == 1:
        return apply(grads, state.opt_state, state.params)
    group = state.opt_state
    total = jax.tree.map(lambda a, g: a + g / every, group.gradients, grads)

    def end():
        params, inner = apply(total, group.inner, state.params)
        return params, inner, jax.tree.map(jnp.zeros_like, total)

    def wait():
        return state.params, group.inner, total

    ends = ends_group(state.step, group.steps_per_epoch, group.last_step, every)
    params, inner, left = jax.lax.cond(ends, end, wait)
    return params, group._replace(inner=inner, gradients=left)


def compiler_options() -> dict:
    """For `jax.jit(..., compiler_options=...)`: on CPUs the order of least memory, else {}.

    By default a CPU runs whatever it can at once. What a layer computes a second time for its
    derivative is then computed early and kept, so that nothing is saved by it. A step's large
    products fill the cores one by one; running two at once does not make them faster.
    """
    if jax.default_backend() != "cpu":
        return {}
    if jax.__version_info__ >= (0, 9, 1):  # as jaxlib names it
        return {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}
    return {"xla_cpu_enable_concurrency_optimized_scheduler": False}
