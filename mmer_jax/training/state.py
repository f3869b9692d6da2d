"""Everything that a training step reads and changes."""

import jax
import jax.numpy as jnp
from flax import struct

from mmer_jax.training import accumulation


@struct.dataclass
class TrainState:
    """A pytree; all of it goes into a checkpoint.

    Attributes:
      step: int32, batches done.
      total_steps: int32, steps of the whole run; the schedule ends there.
      params: trained parameters.
      frozen: parameters without gradient or optimiser state.
      opt_state: optax's, or an `accumulation.Accumulated` that holds it.
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


def create(params: dict, frozen: dict, optimizer, total_steps, memory: dict, seed,
           groups: tuple | None = None) -> TrainState:  # fmt: skip
    """The state before the first step.

    Args:
      groups: (steps per epoch, last step), where gradients are accumulated over several batches;
        see `training/accumulation.py`.
    """
    opt_state = optimizer.init(params)
    if groups:
        opt_state = accumulation.start(opt_state, params, *groups)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        total_steps=jnp.asarray(total_steps, jnp.int32),
        params=params,
        frozen=frozen,
        opt_state=opt_state,
        memory=memory,
        rng=jax.random.key(seed + 1),  # not the key of the weights
    )


def for_evaluation(params: dict, frozen: dict) -> TrainState:
    """A state that can't be trained on: it has parameters and nothing else."""
    return TrainState(
        step=None, total_steps=None, params=params, frozen=frozen, opt_state=(), memory={}, rng=None
    )
