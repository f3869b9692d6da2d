"""One training step, compiled over the mesh."""

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding, PartitionSpec

from mmer_jax.losses import memory_bank, total
from mmer_jax.models.precision import jit_at
from mmer_jax.training import accumulation, grad_cache, sharding, xla_options
from mmer_jax.training.optimizer import learning_rate, merge
from mmer_jax.training.state import TrainState


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
        rate = learning_rate(config.optimizer, *accumulation.current_update(state, every))

        def apply(grads, opt_state, params):
            direction, opt_state = optimizer.update(grads, opt_state, params)
            return jax.tree.map(lambda p, d: p - rate * d, params, direction), opt_state

        params, opt_state = accumulation.update(apply, state, grads, every)
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
        compiler_options=xla_options.compiler_options(),
    )


def make_gradients(model, config, mesh):
    """A function (state, batch) -> loss, metrics, embeddings [b, d] by name, and gradients.

    In chunks of `config.train.chunk_size` rows, where that is less than b.
    """
    losses, chunk_size = config.losses, config.train.chunk_size

    def constrain(x):
        spec = PartitionSpec(None, sharding.ROWS)
        return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, spec))

    def gradients(state, batch):
        key = jax.random.fold_in(state.rng, state.step)
        past = state.memory
        if past:
            begun = state.step >= losses.memory.start * state.total_steps
            past = memory_bank.usable(past, begun)

        def forward(params, rows, key):
            variables = {"params": merge(params, state.frozen)}
            return model.apply(variables, rows, train=True, rngs={"dropout": key})[1]

        def whole(params):
            out = forward(params, batch, key)
            loss, values = total.total_loss(out, batch, losses, past)
            embeddings = {k: out[k] for k in total.EMBEDDINGS if k in out}
            return loss, (values | {"correct": grad_cache.correct(out, batch)}, embeddings)

        if chunk_size and chunk_size < len(batch["label"]):
            numbered = lambda params, rows, i: forward(params, rows, jax.random.fold_in(key, i))  # noqa: E731
            loss, metrics, embeddings, grads = grad_cache.value_and_grad(
                numbered, state.params, batch, chunk_size, losses, past, constrain
            )
        else:
            compute = jax.value_and_grad(whole, has_aux=True)
            (loss, (metrics, embeddings)), grads = compute(state.params)
        right = metrics.pop("correct") / jnp.maximum(batch["valid"].sum(), 1)
        return loss, metrics | {"accuracy": right}, embeddings, grads

    return gradients
