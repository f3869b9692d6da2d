"""Gradients of several independent small batches, averaged for one update of the optimiser.

As PyTorch's loops do it: each batch's loss is divided by `every`, the gradients add up, and the
optimiser steps after `every` batches and at the end of an epoch, where a group may be incomplete
(it is divided by `every` as well). A contrastive loss sees one small batch; `grad_cache.py` makes
chunks of a batch that it sees whole. Each small batch may be made of chunks itself.

A step of the training is a small batch; the learning rate's schedule counts updates.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Accumulated(NamedTuple):
    """What stands in `TrainState.opt_state` where `config.train.accumulation` is above 1.

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


def start(inner, params: dict, steps_per_epoch, last_step) -> Accumulated:
    """The optimiser's state before the first batch."""
    whole = lambda n: jnp.asarray(n, jnp.int32)  # noqa: E731
    zeros = jax.tree.map(jnp.zeros_like, params)
    return Accumulated(inner, zeros, whole(steps_per_epoch), whole(last_step))


def updates(steps, steps_per_epoch, every: int):
    """How many updates `steps` small batches from the start make; a group begun counts as one."""
    epochs, rest = steps // steps_per_epoch, steps % steps_per_epoch
    return epochs * -(-steps_per_epoch // every) + -(-rest // every)


def ends_group(step, steps_per_epoch, last_step, every: int):
    """Whether the optimiser steps after batch `step` (0, 1, ...)."""
    position = step % steps_per_epoch + 1
    return (position % every == 0) | (position == steps_per_epoch) | (step + 1 == last_step)


def current_update(state, every: int):
    """The number, from 0, of the update that the next batch is of, and of how many."""
    if every == 1:
        return state.step, state.total_steps
    epoch = state.opt_state.steps_per_epoch
    return updates(state.step + 1, epoch, every) - 1, updates(state.total_steps, epoch, every)


def update(apply, state, grads: dict, every: int):
    """Adds a batch's gradients; applies the sum where its group ends.

    Args:
      apply: (gradients, optax's state, parameters) -> parameters, optax's state.
      state: TrainState before the batch.
      grads: the batch's, like the parameters.
      every: `config.train.accumulation`.

    Returns:
      parameters and `opt_state`.
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
