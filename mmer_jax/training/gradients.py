"""A batch's loss and gradient: of all its rows at once, or chunk by chunk where they don't fit."""

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from mmer_jax.losses import memory_bank, total
from mmer_jax.training import sharding
from mmer_jax.training.optimizer import merge


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
            return loss, (values | {"correct": _correct(out, batch)}, embeddings)

        if chunk_size and chunk_size < len(batch["label"]):

            def numbered(params, rows, i):
                return forward(params, rows, jax.random.fold_in(key, i))

            loss, metrics, embeddings, grads = chunked_value_and_grad(
                numbered, state.params, batch, chunk_size, losses, past, constrain
            )
        else:
            compute = jax.value_and_grad(whole, has_aux=True)
            (loss, (metrics, embeddings)), grads = compute(state.params)
        right = metrics.pop("correct") / jnp.maximum(batch["valid"].sum(), 1)
        return loss, metrics | {"accuracy": right}, embeddings, grads

    return gradients


def chunked_value_and_grad(forward, params, batch, chunk_size: int, losses, memory, constrain):
    """Loss, metrics, embeddings and gradient of a batch, as of one pass over all of it.

    The embeddings of all chunks come first, without a gradient; the losses between rows are taken
    of all of them together; then each chunk runs again, and its backward pass starts from its rows'
    share of that loss's gradient. Only one chunk's activations are ever kept. Source: Gao et al.,
    "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup" (RepL4NLP 2021),
    GradCache.

    Dropout draws other masks than one pass would: a chunk has a key of its own. Both passes over a
    chunk draw the same.

    Args:
      forward: (params, chunk, chunk number) -> what the model returns beside the logits.
      params: those to differentiate by.
      batch: arrays [b, ...]; chunk_size divides b.
      chunk_size: rows that pass the network at once.
      losses: `config.losses`.
      memory: past embeddings, see `losses/memory_bank.py`.
      constrain: array [chunks, chunk_size, ...] -> the same, with each chunk's rows over the mesh.

    Returns:
      loss; losses by name and `correct`, the number of valid rows classified rightly; embeddings by
      name [b, d]; gradient.
    """
    # Chunk j gets the rows j, j + k, j + 2k, ...: with rows split over devices, each device's rows
    # then make up a share of every chunk and nothing moves.
    split = lambda x: constrain(x.reshape(chunk_size, -1, *x.shape[1:]).swapaxes(0, 1))  # noqa: E731
    join = lambda x: x.swapaxes(0, 1).reshape(-1, *x.shape[2:])  # noqa: E731
    chunks = jax.tree.map(split, batch)
    numbered = (jnp.arange(len(batch["label"]) // chunk_size), chunks)

    def embed(_, inputs):
        number, chunk = inputs
        out = forward(params, chunk, number)
        counts = total.row_sums(out, chunk, losses)[1]
        return None, ({k: out[k] for k in total.EMBEDDINGS if k in out}, counts)

    _, (embeddings, counts) = jax.lax.scan(embed, None, numbered)
    embeddings = jax.tree.map(join, embeddings)
    counts = jax.tree.map(jnp.sum, counts)

    def between(z):
        values = total.pair_losses(z, batch, losses, memory)
        return total.weighted(values, losses), values

    # Without a contrastive loss there is nothing between rows: the sum over no loss is the int 0.
    pairs, cotangents = {}, jax.tree.map(jnp.zeros_like, embeddings)
    if jax.eval_shape(between, embeddings)[1]:
        cotangents, pairs = jax.grad(between, has_aux=True)(embeddings)

    def chunk_loss(params, number, chunk, cotangent):
        out = forward(params, chunk, number)
        sums, _ = total.row_sums(out, chunk, losses)
        rows = total.row_means(sums, counts, losses)
        # Its derivative is the chain rule through the embeddings.
        through = sum(
            jnp.vdot(out[k].astype(c.dtype), c, precision="highest") for k, c in cotangent.items()
        )
        return total.weighted(rows, losses) + through, (rows, _correct(out, chunk))

    def accumulate(carry, inputs):
        number, chunk, cotangent = inputs
        grads, found = jax.grad(chunk_loss, has_aux=True)(params, number, chunk, cotangent)
        return jax.tree.map(jnp.add, carry, (grads, found)), None

    inputs = (*numbered, jax.tree.map(split, cotangents))
    zeros = jax.eval_shape(lambda x: jax.grad(chunk_loss, has_aux=True)(params, *x),
                           jax.tree.map(lambda x: x[0], inputs))  # fmt: skip
    start = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), zeros)
    (grads, (rows, right)), _ = jax.lax.scan(accumulate, start, inputs)
    values = rows | pairs
    return total.weighted(values, losses), values | {"correct": right}, embeddings, grads


def _correct(out, batch):
    """How many valid rows get their own label."""
    return ((out["logits"].argmax(-1) == batch["label"]) & batch["valid"]).sum()
