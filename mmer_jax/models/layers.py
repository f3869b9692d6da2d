"""Dropout, norm, pooling under a mask, and the transformer layer of the fusion network."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from mmer_jax.ops import attend, gelu, keep_mask
from mmer_jax.ops.attention import weights_shape

NORM_EPSILON = 1e-12  # BERT's


class Dropout(nn.Module):
    """Zeroes elements with probability `rate`, and scales the others so that the mean stays.

    Attributes:
      rate: 0 to 1.
    """

    rate: float

    @nn.compact
    def __call__(self, x, deterministic: bool):
        """An array -> the same shape and dtype."""
        keep, scale = self.draw(x.shape, deterministic)
        return x if keep is None else jnp.where(keep, x * jnp.asarray(scale, x.dtype), 0)

    def draw(self, shape, deterministic: bool) -> tuple[jax.Array | None, float]:
        """What `ops.keep_mask` returns; (None, 1) where all stay."""
        if deterministic or not self.rate:
            return None, 1.0
        return keep_mask(self.make_rng("dropout"), self.rate, shape)


def layer_norm(name: str) -> nn.LayerNorm:
    """BERT's LayerNorm, in float32.

    The two-pass variance: E[x^2] - E[x]^2 loses digits that a parity test counts.
    """
    return nn.LayerNorm(NORM_EPSILON, dtype=jnp.float32, use_fast_variance=False, name=name)


def masked_max(x: jax.Array, mask: jax.Array) -> jax.Array:
    """Maximum over the positions that `mask` keeps, 0 if none: [b, n, d], [b, n] -> [b, d]."""
    kept = jnp.where(mask[..., None] > 0, x, jnp.finfo(x.dtype).min)
    return jnp.where(jnp.any(mask > 0, axis=-1, keepdims=True), kept.max(axis=1), 0)


def rematerialized(kind, remat: str, deterministic_at: int | None = None):
    """A module class, with `remat="layers"` one that stores its inputs alone for the gradient.

    Args:
      kind: the class.
      remat: `none` or `layers`.
      deterministic_at: the position of `deterministic` in its call, the module itself being 0.
    """
    if remat == "none":
        return kind
    static = () if deterministic_at is None else (deterministic_at,)
    return nn.remat(kind, static_argnums=static)


def flat_dense(next_call, args, kwargs, context):
    """Interceptor (flax's `nn.intercept_methods`): nn.Dense sees [b * t, d] instead of [b, t, d].

    The kernel's gradient is then one plain matrix product. Contracted over two dimensions, XLA's
    CPU compiler transposes both sides first: 0.44 s against 0.25 s for a feed-forward block of
    wav2vec2-base at 8 x 249 frames.
    """
    plain = context.method_name == "__call__" and isinstance(context.module, nn.Dense)
    if not plain or args[0].ndim < 3:
        return next_call(*args, **kwargs)
    x = args[0]
    return next_call(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], -1)


class CrossModalLayer(nn.Module):
    """One post-norm transformer layer whose queries and keys may come from different sequences.

    With queries = memory it is a BERT layer. softmax(Q K^T / sqrt(d_head)) V over `heads` heads,
    then Linear - GELU - Linear; each of the two adds its input and is normalised after.

    Attributes:
      width: d, of both sequences and of the result.
      heads: divides width.
      ffn: width of the feed-forward part.
      dropout: on attention weights and on both residual branches.
      dtype: of the computation; softmax and norms stay float32.
    """

    width: int
    heads: int
    ffn: int
    dropout: float = 0.1
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, queries, memory, memory_mask, deterministic: bool = True):
        """[b, q, d], [b, k, d], [b, k] -> ([b, q, d], attention weights [b, heads, q, k])."""
        attended, weights = self._attend(queries, memory, memory_mask, deterministic)
        hidden = self._add_and_norm("attention", queries, attended, deterministic)
        inner = gelu(self._dense(self.ffn, "intermediate")(hidden))
        outer = self._dense(self.width, "output")(inner)
        return self._add_and_norm("output", hidden, outer, deterministic), weights

    def _attend(self, queries, memory, memory_mask, deterministic):
        def heads(x):
            return x.reshape(*x.shape[:2], self.heads, self.width // self.heads)

        q = heads(self._dense(self.width, "query")(queries))
        k = heads(self._dense(self.width, "key")(memory))
        v = heads(self._dense(self.width, "value")(memory))
        drawn = Dropout(self.dropout).draw(weights_shape(q, k), deterministic)
        merged, weights = attend(q, k, v, memory_mask, *drawn)
        merged = merged.reshape(queries.shape)
        return self._dense(self.width, "attention_output")(merged), weights

    def _add_and_norm(self, name, residual, branch, deterministic):
        branch = Dropout(self.dropout)(branch, deterministic)
        return layer_norm(f"{name}_norm")(residual + branch).astype(self.dtype)

    def _dense(self, features, name):
        return nn.Dense(features, dtype=self.dtype, name=name)
