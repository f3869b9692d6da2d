"""Attention over heads, with a derivative that stores one map of weights instead of three."""

import functools

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

_MASKED = -1e9  # added to the scores of padded keys; their softmax weight underflows to 0


def plain_attend(q, k, v, mask, keep=None, scale: float = 1.0):
    """Scale * (keep * softmax(Q K^T / sqrt(n))) V over heads; the softmax in float32.

    Args:
      q: [b, t, h, n].
      k, v: [b, s, h, n].
      mask: [b, s], 0 on keys that nothing attends to.
      keep: bool [b, h, t, s], the weights that dropout leaves; None: all.
      scale: factor for those, 1 / (1 - dropout's rate).

    Returns:
      [b, t, h, n] of q's dtype, and the weights before dropout, float32 [b, h, t, s].
    """
    scores = jnp.einsum("bthn,bshn->bhts", q, k, preferred_element_type=jnp.float32)
    weights = jax.nn.softmax(scores * q.shape[-1] ** -0.5 + _bias(mask))
    kept = weights if keep is None else weights * keep * scale
    return jnp.einsum("bhts,bshn->bthn", kept.astype(v.dtype), v), weights


def _bias(mask):
    return jnp.where(mask[:, None, None, :] > 0, 0.0, _MASKED)


def attend(q, k, v, mask, keep=None, scale: float = 1.0):
    """As `plain_attend`; autodiff would store the weights, what dropout left of them, and its mask.

    Here a weight that was dropped has a minus: softmax gives none, so that the sign is free, and
    one map holds all three.
    """
    # Heads before positions, moved once: left to the products, XLA's CPU compiler moves them in
    # each, which takes three times as long.
    q, k, v = (x.swapaxes(1, 2) for x in (q * jnp.asarray(q.shape[-1] ** -0.5, q.dtype), k, v))
    return _attend(q, k, v, _bias(mask), keep, scale)


@functools.partial(jax.custom_vjp, nondiff_argnums=(5,))
def _attend(q, k, v, bias, keep, scale):
    """On q [b, h, t, n], scaled already, k and v are [b, h, s, n], bias is added to the scores."""
    return _forward(q, k, v, bias, keep, scale)[0]


def _forward(q, k, v, bias, keep, scale):
    """Results, and what is stored for the derivative."""
    scores = jnp.einsum("bhtn,bhsn->bhts", q, k, preferred_element_type=jnp.float32)
    weights = jax.nn.softmax(scores + bias)
    signed = weights if keep is None else jnp.where(keep, weights, -weights)
    kept = jax.nn.relu(signed).astype(v.dtype)
    merged = jnp.einsum("bhts,bhsn->bhtn", kept, v).swapaxes(1, 2) * jnp.asarray(scale, v.dtype)
    return (merged, weights), (q, k, v, signed, merged)


def _vjp_forward(q, k, v, bias, keep, scale):
    args = (None if x is None else x.value for x in (q, k, v, bias, keep))
    return _forward(*args, scale)


def _backward(scale, saved, cotangents):
    q, k, v, signed, merged = saved
    d_merged, d_weights = cotangents
    if isinstance(d_merged, SymbolicZero):  # the result is not used, the weights are
        d_merged = jnp.zeros_like(merged)
    dy = d_merged.swapaxes(1, 2) * jnp.asarray(scale, v.dtype)
    # Not the forward pass' relu, or XLA would find it computed already, and keep it from there.
    kept = jnp.where(signed > 0, signed, 0).astype(v.dtype)
    dv = jnp.einsum("bhts,bhtn->bhsn", kept, dy)
    dw = jnp.einsum("bhtn,bhsn->bhts", dy, v, preferred_element_type=jnp.float32)
    dw = jnp.where(signed > 0, dw, 0)
    # The softmax' derivative asks for sum_s w dw. What came through V of it is the product of the
    # result and its cotangent, which spares a pass over the weights (Dao et al. 2022).
    product = d_merged.astype(jnp.float32) * merged.astype(jnp.float32)
    mean = jnp.sum(product, -1).swapaxes(1, 2)[..., None]
    weights = jnp.abs(signed)
    if not isinstance(d_weights, SymbolicZero):
        dw += d_weights
        mean += jnp.sum(d_weights * weights, -1, keepdims=True)
    ds = (weights * (dw - mean)).astype(q.dtype)
    dq = jnp.einsum("bhts,bhsn->bhtn", ds, k)
    dk = jnp.einsum("bhts,bhtn->bhsn", ds, q)
    return dq, dk, dv, None, None


_attend.defvjp(_vjp_forward, _backward, symbolic_zeros=True)
