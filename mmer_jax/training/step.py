"""One training step and one evaluation step, compiled over the mesh."""

import jax
import jax.numpy as jnp
import optax

from mmer_jax.losses.multitask import total_loss
from mmer_jax.training import sharding
from mmer_jax.training.optimizer import learning_rate, merge
from mmer_jax.training.state import TrainState


def make_train_step(model, optimizer, config, mesh):
    """A jitted (state, batch) -> (state, metrics); the old state's memory is given to the new.

    The metrics are scalars: `loss`, each loss by name, `grad_norm` (before clipping),
    `learning_rate` and `accuracy`.
    """

    def loss_fn(params, state, batch):
        rngs = {"dropout": jax.random.fold_in(state.rng, state.step)}
        variables = {"params": merge(params, state.frozen)}
        _, out = model.apply(variables, batch, train=True, rngs=rngs)
        loss, parts = total_loss(out, batch, config.losses)
        return loss, parts | {"accuracy": _accuracy(out["logits"], batch)}

    def train_step(state: TrainState, batch):
        grad_fn = jax.value_and_grad(loss_fn, has_aux=True)
        (loss, metrics), grads = grad_fn(state.params, state, batch)
        direction, opt_state = optimizer.update(grads, state.opt_state, state.params)
        rate = learning_rate(config.optimizer, state.step, state.total_steps)
        params = jax.tree.map(lambda p, d: p - rate * d, state.params, direction)
        metrics |= {"loss": loss, "grad_norm": optax.tree.norm(grads), "learning_rate": rate}
        return state.replace(step=state.step + 1, params=params, opt_state=opt_state), metrics

    whole, rows = sharding.replicated(mesh), sharding.batch_sharding(mesh)
    return jax.jit(train_step, in_shardings=(whole, rows), out_shardings=whole, donate_argnums=0)


def make_eval_step(model, mesh):
    """A jitted (params, frozen, batch) -> logits [b, c]."""

    def eval_step(params, frozen, batch):
        return model.apply({"params": merge(params, frozen)}, batch)[0]

    whole, rows = sharding.replicated(mesh), sharding.batch_sharding(mesh)
    return jax.jit(eval_step, in_shardings=(whole, whole, rows), out_shardings=whole)


def _accuracy(logits, batch):
    right = (logits.argmax(-1) == batch["label"]) & batch["valid"]
    return right.sum() / jnp.maximum(batch["valid"].sum(), 1)
