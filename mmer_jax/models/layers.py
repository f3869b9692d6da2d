"""Layers that the encoders and the fusion network are built of."""

import functools
import re

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import traverse_util

from mmer_jax.ops import attend, can_fuse, fused_attend, gelu, grouped_conv, keep_mask


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


def masked_max(x: jax.Array, mask: jax.Array) -> jax.Array:
    """Maximum over the positions that `mask` keeps, 0 if none: [b, n, d], [b, n] -> [b, d]."""
    kept = jnp.where(mask[..., None] > 0, x, jnp.finfo(x.dtype).min)
    return jnp.where(jnp.any(mask > 0, axis=-1, keepdims=True), kept.max(axis=1), 0)


def masked_statistics(x: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean, standard deviation and maximum over the positions that `mask` keeps.

    float [b, n, d], [b, n] -> [b, 3 d]; 0 if it keeps none.
    """
    kept = (mask > 0)[..., None]
    count = jnp.maximum(kept.sum(axis=1), 1).astype(jnp.float32)
    wide = x.astype(jnp.float32)
    mean = jnp.where(kept, wide, 0).sum(axis=1) / count
    variance = jnp.where(kept, (wide - mean[:, None]) ** 2, 0).sum(axis=1) / count
    deviation = jnp.sqrt(variance + 1e-10)  # a root's derivative at 0 is infinite
    moments = jnp.concatenate([mean, deviation], axis=-1).astype(x.dtype)
    return jnp.concatenate([moments, masked_max(x, mask)], axis=-1)


POOLING = {"max": masked_max, "statistics": masked_statistics}  # by `config.model.pooling`


def normalized_states(states) -> list[jax.Array]:
    """Each of an encoder's hidden states [b, t, d] normalised over its width, in float32.

    Their scales differ by layer: a large one would be all of a sum, or of what is learned of them.
    """
    norm = nn.LayerNorm(1e-5, use_bias=False, use_scale=False, dtype=jnp.float32)
    return [norm(state) for state in states]


class WeightedSum(nn.Module):
    """A learned softmax-weighted sum of an encoder's normalised hidden states.

    Source: Yang et al., "SUPERB" (Interspeech 2021).
    """

    @nn.compact
    def __call__(self, states):
        """N arrays [b, t, d] -> [b, t, d]."""
        logits = self.param("weights", nn.initializers.zeros, (len(states),))
        weights = jax.nn.softmax(logits)
        return sum(
            weight * state for weight, state in zip(weights, normalized_states(states))
        ).astype(states[0].dtype)


def subsampled(x: jax.Array, mask: jax.Array, every: int) -> jax.Array:
    """Means over `every` frames that follow each other, the last over those that are left.

    Args:
      x: [b, t, d].
      mask: [b, t], 0 on padding, which enters no mean.
      every: n.

    Returns:
      [b, ceil(t / n), d], 0 where a group is padding alone.
    """
    kept = _grouped((mask > 0)[..., None], every)
    total = jnp.where(kept, _grouped(x.astype(jnp.float32), every), 0).sum(2)
    return (total / jnp.maximum(kept.sum(2), 1)).astype(x.dtype)


def subsampled_mask(mask: jax.Array, every: int) -> jax.Array:
    """Whether a group of frames has any: [b, t] -> bool [b, ceil(t / n)]."""
    return _grouped((mask > 0)[..., None], every).any((2, 3))


def _grouped(x, every):
    """[b, t, d] -> [b, ceil(t / n), n, d], filled with 0."""
    x = jnp.pad(x, ((0, 0), (0, -x.shape[1] % every), (0, 0)))
    return x.reshape(x.shape[0], -1, every, x.shape[2])


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
    CPU compiler transposes both sides first.
    """
    plain = context.method_name == "__call__" and isinstance(context.module, nn.Dense)
    if not plain or args[0].ndim < 3:
        return next_call(*args, **kwargs)
    x = args[0]
    return next_call(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], -1)


def multi_head(q, k, v, mask, heads: int, dropout: float, deterministic: bool, positions=None):
    """softmax(Q K^T / sqrt(d / heads) + P) V of each head, within a module's call.

    Every row, head and pair of positions has its own dropout, as in PyTorch; HF's Flax blocks draw
    one mask for all rows and heads.

    Args:
      q: [b, t, d].
      k, v: [b, s, d].
      mask: [b, s], 0 on keys that nothing attends to.
      heads: divides d.
      dropout: rate on the attention weights.
      deterministic: no dropout.
      positions: P, float32 [b, heads, t, s], or None: nothing is added.

    Returns:
      [b, t, d], and the weights before dropout, float32 [b, heads, t, s].
    """
    q, k, v = (split_heads(x, heads) for x in (q, k, v))
    shape = (q.shape[0], heads, q.shape[1], k.shape[1])
    drawn = Dropout(dropout).draw(shape, deterministic)
    merged, weights = attend(q, k, v, mask, *drawn, positions)
    return merged.reshape(*merged.shape[:2], -1), weights


def split_heads(x, heads: int):
    """[b, t, d] -> [b, t, heads, d / heads]."""
    return x.reshape(*x.shape[:2], heads, -1)


class EncoderPart(nn.Module):
    """A module of a Hugging Face encoder.

    Attributes:
      config: Hugging Face's.
      dtype: of the computation.
      remat: `layers` computes each layer again in the backward pass instead of storing it.
    """

    config: object
    dtype: jnp.dtype = jnp.float32
    remat: str = "none"


class Layers(EncoderPart):
    """Transformer layers, named 0, 1, ... as HF has them.

    Attributes:
      kind: the class of a layer, an `EncoderPart`: ([b, t, d], [b, t], deterministic, shared) ->
        ([b, t, d], shared). `shared` is None for the first layer, then what the one before returns
        beside its states: what all layers need and one computes.
      count: how many.
      layerdrop: probability of each to be left out, in training. One that begins `shared` stays.
      scan: see `AudioEncoder`.
      frozen: `config.optimizer.frozen`.
    """

    kind: type[nn.Module] | None = None
    count: int = 0
    layerdrop: float = 0.0
    scan: bool = False
    frozen: tuple[str, ...] = ()

    @nn.compact
    def __call__(self, hidden, mask, deterministic):
        """[b, t, d], [b, t] -> count + 1 arrays [b, t, d]: the input, then after each layer."""
        kind = rematerialized(self.kind, self.remat, deterministic_at=3)
        stay = None
        if self.layerdrop and not deterministic:
            stay = draw_layers(self.make_rng("dropout"), self.layerdrop, self.count)
        if self.scan and not self.is_initializing():
            return self._scanned(kind, hidden, mask, deterministic, stay)
        states, shared = [hidden], None
        for i in range(self.count):
            layer, before = kind(self.config, self.dtype, name=str(i)), shared
            state, shared = layer(states[-1], mask, deterministic, before)
            if stay is not None and (before is not None or shared is None):
                state = jnp.where(stay[i], state, states[-1])
            states.append(state)
        return states

    def _scanned(self, kind, hidden, mask, deterministic, stay):
        """As `__call__`: layers of one form that follow each other are one compiled loop's."""
        layer, params = kind(self.config, self.dtype, parent=None), self.variables["params"]
        draws = not deterministic and self.has_rng("dropout")
        keys = jax.random.split(self.make_rng("dropout"), self.count) if draws else None

        def apply(hidden, inputs, before):
            own, key, stays = inputs
            rngs = {"dropout": key} if draws else {}
            args = hidden, mask, deterministic, before
            state, after = layer.apply({"params": own}, *args, rngs=rngs)
            if stays is not None and (before is not None or after is None):
                state = jnp.where(stays, state, hidden)
            return state, after

        states, shared = [hidden], None
        for first, end in self._runs(params):
            inputs = [(params[str(i)], *jax.tree.map(lambda x, i=i: x[i], (keys, stay)))
                      for i in range(first, end)]  # fmt: skip
            if end == first + 1:
                state, shared = apply(states[-1], inputs[0], shared)
                states.append(state)
                continue

            def step(hidden, inputs, before=shared):
                state, _ = apply(hidden, inputs, before)
                return state, state

            stacked = jax.tree.map(lambda *x: jnp.stack(x), *inputs)
            states += jnp.unstack(jax.lax.scan(step, states[-1], stacked)[1])
        return states

    def _runs(self, params):
        """(first, end) of the layers that follow each other with the same names, and tune the same.

        A frozen layer has no gradient to compute; in a loop all layers have one or none.
        """

        def form(i):
            path = (*self.path, str(i))
            names = ["/".join(k) for k in traverse_util.flatten_dict(params[str(i)])]
            whole = [f"{'/'.join(path)}/{name}" for name in names]
            fixed = [any(re.fullmatch(p, name) for p in self.frozen) for name in whole]
            return sorted(zip(names, fixed))

        forms = [form(i) for i in range(self.count)]
        starts = [i for i in range(self.count) if not i or forms[i] != forms[i - 1]]
        return list(zip(starts, [*starts[1:], self.count]))


def draw_layers(key, layerdrop: float, count: int) -> jax.Array:
    """Which layers a step does not leave out: bool [count]."""
    return jax.random.uniform(key, (count,)) >= layerdrop


class SelfAttention(nn.Module):
    """Multi-head attention of frames to each other.

    A subclass may add relative positions to the scores, see `relative`.

    Attributes:
      heads, dropout: see `multi_head`.
      init_std: of the kernels' normal distribution.
      dtype: of the computation.
      key_bias: whether keys have one; Whisper's have none.
    """

    heads: int
    dropout: float
    init_std: float
    dtype: jnp.dtype = jnp.float32
    key_bias: bool = True

    @classmethod
    def of(cls, config, dtype, **options):
        """The attention of a layer, by a config of Hugging Face's wav2vec2 family."""
        rates = config.attention_dropout, config.initializer_range
        return cls(config.num_attention_heads, *rates, dtype, **options)

    @nn.compact
    def __call__(self, hidden, mask, deterministic: bool = True, shared=None):
        """[b, t, d], bool [b, t], shared -> [b, t, d], shared: see `relative`."""
        positions, shared = self.relative(hidden, shared)
        dense = functools.partial(self.dense, hidden.shape[-1])
        q = dense("q_proj")(hidden)
        k = dense("k_proj", self.key_bias)(hidden)
        v = dense("v_proj")(hidden)
        if (deterministic or not self.dropout) and positions is None and can_fuse(q, self.heads):
            merged = fused_attend(*(split_heads(x, self.heads) for x in (q, k, v)), mask)
            merged = merged.reshape(hidden.shape)
        else:
            options = self.heads, self.dropout, deterministic, positions
            merged, _ = multi_head(q, k, v, mask, *options)
        return dense("out_proj")(merged), shared

    def dense(self, features, name, bias=True):
        """A linear layer as all of them are drawn."""
        return normal_dense(features, self.init_std, self.dtype, name, bias)

    def relative(self, hidden, shared):
        """What relative positions add to the scores, and what the next layers need for theirs.

        Args:
          hidden: [b, t, d].
          shared: what the layer before returned; None in the first.

        Returns:
          float32 [b, heads, t, t], or None for nothing; `shared` of the next layer.
        """
        return None, None


def normal_dense(features, init_std, dtype, name, bias=True):
    """Linear layer whose kernel is drawn from a normal distribution."""
    init = nn.initializers.normal(init_std)
    return nn.Dense(features, use_bias=bias, dtype=dtype, kernel_init=init, name=name)


def same_conv(hidden, kernel, bias, groups: int, dtype):
    """Grouped convolution over the frames, zeros around them, as many frames out as in.

    Args:
      hidden: [b, t, d].
      kernel: [taps, d / groups, d'].
      bias: [d'].
      groups: divides d and d'.
      dtype: of the computation.

    Returns:
      [b, t, d'].
    """
    taps = kernel.shape[0]
    # One padded frame fewer behind is what HF's cut of the last result amounts to.
    padding = (taps // 2, taps // 2 - (taps % 2 == 0))
    padded = jnp.pad(hidden.astype(dtype), ((0, 0), padding, (0, 0)))
    return grouped_conv(padded, kernel.astype(dtype), groups) + bias.astype(dtype)


_tanh_gelu = functools.partial(jax.nn.gelu, approximate=True)

ACTIVATIONS = {  # by Hugging Face's names
    "gelu": gelu,
    "gelu_python": gelu,
    "gelu_new": _tanh_gelu,
    "gelu_fast": _tanh_gelu,
    "gelu_accurate": _tanh_gelu,
    "gelu_pytorch_tanh": _tanh_gelu,
    "gelu_python_tanh": _tanh_gelu,
    "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
    "swish": jax.nn.silu,
    "tanh": jnp.tanh,
}
