"""Operations whose derivative or random draw is written by hand, each beside its plain twin.

Measurements: docs/performance.md.

| operation | plain twin | what the fast version saves | where |
|-|-|-|-|
| `attend` | `plain_attend` | two of three stored maps [b, h, t, s] | everywhere |
| `fused_attend` | `plain_attend` | all of them | NVIDIA GPUs in bfloat16, without dropout |
| `gelu` | `plain_gelu` | two of three stored arrays | everywhere |
| `keep_mask` | `plain_keep_mask` | three of four random bytes | everywhere |
| `grouped_conv` | `plain_grouped_conv` | time of the kernel's gradient | CPUs |
"""

import contextlib
import functools

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

_MASKED = -1e9  # added to the scores of padded keys; their softmax weight underflows to 0
_LEVELS = 256  # of the byte that dropout draws


def plain_attend(q, k, v, mask, keep=None, scale: float = 1.0, positions=None):
    """Scale * (keep * softmax(Q K^T / sqrt(n) + P)) V over heads; the softmax in float32.

    Args:
      q: [b, t, h, n].
      k, v: [b, s, h, n].
      mask: [b, s], 0 on keys that nothing attends to.
      keep: bool [b, h, t, s], the weights that dropout leaves; None: all.
      scale: factor for those, 1 / (1 - dropout's rate).
      positions: P, float32 [b, h, t, s], what relative positions add to the scores; None: nothing.

    Returns:
      [b, t, h, n] of q's dtype, and the weights before dropout, float32 [b, h, t, s].
    """
    scores = jnp.einsum("bthn,bshn->bhts", q, k, preferred_element_type=jnp.float32)
    scores = scores * q.shape[-1] ** -0.5 + _bias(mask)
    weights = jax.nn.softmax(scores if positions is None else scores + positions)
    kept = weights if keep is None else weights * keep * scale
    return jnp.einsum("bhts,bshn->bthn", kept.astype(v.dtype), v), weights


def _bias(mask):
    return jnp.where(mask[:, None, None, :] > 0, 0.0, _MASKED)


def attend(q, k, v, mask, keep=None, scale: float = 1.0, positions=None):
    """As `plain_attend`; autodiff would store the weights, what dropout left of them, and its mask.

    Here a weight that was dropped has a minus: softmax gives none, so that the sign is free, and
    one map holds all three.
    """
    # Heads before positions, moved once: left to the products, XLA's CPU compiler moves them in
    # each, which takes three times as long.
    q, k, v = (x.swapaxes(1, 2) for x in (q * jnp.asarray(q.shape[-1] ** -0.5, q.dtype), k, v))
    return _attend(q, k, v, _bias(mask), positions, keep, scale)


@functools.partial(jax.custom_vjp, nondiff_argnums=(6,))
def _attend(q, k, v, bias, positions, keep, scale):
    """On q [b, h, t, n], scaled already, k and v are [b, h, s, n], bias is added to the scores."""
    return _attend_and_store(q, k, v, bias, positions, keep, scale)[0]


def _attend_and_store(q, k, v, bias, positions, keep, scale):
    """Results, and what is stored for the derivative."""
    scores = jnp.einsum("bhtn,bhsn->bhts", q, k, preferred_element_type=jnp.float32) + bias
    weights = jax.nn.softmax(scores if positions is None else scores + positions)
    # In bfloat16 the map takes half of the memory; what V is multiplied with is the same.
    signed = weights.astype(v.dtype)
    signed = signed if keep is None else jnp.where(keep, signed, -signed)
    kept = jax.nn.relu(signed)
    merged = jnp.einsum("bhts,bhsn->bhtn", kept, v).swapaxes(1, 2) * jnp.asarray(scale, v.dtype)
    return (merged, weights), (q, k, v, signed, merged)


def _attend_forward(q, k, v, bias, positions, keep, scale):
    args = (None if x is None else x.value for x in (q, k, v, bias, positions, keep))
    results, stored = _attend_and_store(*args, scale)
    return results, (*stored, None if positions is None else jnp.zeros(()))


def _attend_backward(scale, saved, cotangents):
    q, k, v, signed, merged, has_positions = saved
    d_merged, d_weights = cotangents
    if isinstance(d_merged, SymbolicZero):  # the result is not used, the weights are
        d_merged = jnp.zeros_like(merged)
    dy = d_merged.swapaxes(1, 2) * jnp.asarray(scale, v.dtype)
    # Not the forward pass' relu, or XLA would find it computed already, and keep it from there.
    kept = jnp.where(signed > 0, signed, 0)
    dv = jnp.einsum("bhts,bhtn->bhsn", kept, dy)
    dw = jnp.einsum("bhtn,bhsn->bhts", dy, v, preferred_element_type=jnp.float32)
    dw = jnp.where(signed > 0, dw, 0)
    # The softmax' derivative asks for sum_s w dw. What came through V of it is the product of the
    # result and its cotangent, which spares a pass over the weights (Dao et al. 2022).
    product = d_merged.astype(jnp.float32) * merged.astype(jnp.float32)
    mean = jnp.sum(product, -1).swapaxes(1, 2)[..., None]
    weights = jnp.abs(signed).astype(jnp.float32)
    if not isinstance(d_weights, SymbolicZero):
        dw += d_weights
        mean += jnp.sum(d_weights * weights, -1, keepdims=True)
    d_positions = weights * (dw - mean)
    ds = d_positions.astype(q.dtype)
    dq = jnp.einsum("bhts,bhsn->bhtn", ds, k)
    dk = jnp.einsum("bhts,bhtn->bhsn", ds, q)
    # They are added to the scores: their derivative is the scores'.
    return dq, dk, dv, None, None if has_positions is None else d_positions, None


_attend.defvjp(_attend_forward, _attend_backward, symbolic_zeros=True)


def fused_attend(q, k, v, mask):
    """As `plain_attend` without dropout and positions, by cuDNN, which stores no map.

    Args:
      q: [b, t, h, n], float16 or bfloat16.
      k, v: [b, s, h, n].
      mask: [b, s], ones, one at least, then zeros.

    Returns:
      [b, t, h, n].
    """
    # Its derivative takes even lengths alone.
    count, lengths = q.shape[1], (mask > 0).sum(-1).astype(jnp.int32)
    q, k, v = (jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, 0), (0, 0))) for x in (q, k, v))
    return jax.nn.dot_product_attention(
        q, k, v, key_value_seq_lengths=lengths, implementation="cudnn"
    )[:, :count]


_portable = False


@contextlib.contextmanager
def portable():
    """What is traced within holds for every platform: no `fused_attend`."""
    global _portable
    before, _portable = _portable, True
    try:
        yield
    finally:
        _portable = before


def can_fuse(q, heads: int) -> bool:
    """Whether `fused_attend` runs on the default device, for queries [b, t, d] of `heads` heads."""
    device, width = jax.devices()[0], q.shape[-1] // heads
    return (
        not _portable
        and device.platform == "gpu"
        and "nvidia" in device.device_kind.lower()
        and q.dtype in (jnp.float16, jnp.bfloat16)
        and width % 8 == 0
        and width <= 128
    )


def plain_gelu(x: jax.Array) -> jax.Array:
    """gelu(x) = x Phi(x), Phi the normal distribution's, by autodiff: any shape, x's dtype.

    Source: Hendrycks and Gimpel 2016.
    """
    return jax.nn.gelu(x, approximate=False)


@jax.custom_vjp
def gelu(x: jax.Array) -> jax.Array:
    """As `plain_gelu`, computed in float32.

    Autodiff stores two more arrays of x's size, which is the largest of a transformer layer.
    """
    wide = x.astype(jnp.float32)
    return (wide * _normal_cdf(wide)).astype(x.dtype)


def _normal_cdf(x):
    return 0.5 + 0.5 * jax.lax.erf(x * 0.5**0.5)


def _gelu_forward(x):
    return gelu(x), x


def _gelu_backward(x, dy):
    wide = x.astype(jnp.float32)
    # 1 - Phi(-x), or XLA would find Phi(x) computed already, and keep it from the forward pass.
    slope = 1 - _normal_cdf(-wide) + wide * jnp.exp(-0.5 * wide**2) * (2 * jnp.pi) ** -0.5
    return ((dy * slope).astype(x.dtype),)


gelu.defvjp(_gelu_forward, _gelu_backward)


def plain_keep_mask(key: jax.Array, rate: float, shape) -> tuple[jax.Array, float]:
    """Keep ~ Bernoulli(1 - rate), and the factor 1 / (1 - rate) that keeps the mean."""
    return jax.random.bernoulli(key, 1 - rate, shape), 1 / (1 - rate)


def keep_mask(key: jax.Array, rate: float, shape) -> tuple[jax.Array, float]:
    """As `plain_keep_mask`, of a quarter of its random bits: drawing is what dropout costs.

    The rate is rounded to 1/256 (0.1 becomes 26/256 = 0.1016), and the factor is that rate's.

    Returns:
      bool of `shape`, True where an element stays; the factor for those.

    Raises:
      ValueError: a rate that leaves nothing.
    """
    dropped = max(1, round(rate * _LEVELS))
    if dropped >= _LEVELS:
        raise ValueError(f"dropout's rate is {rate}; expected 0 to 0.99: nothing would be left.")
    *rows, width = shape
    # Whole words per row, so that the rows of a sharded batch are drawn where they are.
    words = jax.random.bits(key, (*rows, -(-width // 4)), jnp.uint32)
    drawn = jax.lax.bitcast_convert_type(words, jnp.uint8).reshape(*rows, -1)[..., :width]
    return drawn >= dropped, _LEVELS / (_LEVELS - dropped)


def plain_grouped_conv(x: jax.Array, kernel: jax.Array, groups: int) -> jax.Array:
    """y[b, t, o] = sum_j sum_i x[b, t + j, i] kernel[j, i, o], i within o's group.

    Args:
      x: [b, n, d], padded already.
      kernel: [taps, d / groups, d'], of x's dtype.
      groups: divides d and d'.

    Returns:
      [b, n - taps + 1, d'].
    """
    return jax.lax.conv_general_dilated(
        x, kernel, (1,), "VALID", dimension_numbers=("NWC", "WIO", "NWC"),
        feature_group_count=groups,
    )  # fmt: skip


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def grouped_conv(x: jax.Array, kernel: jax.Array, groups: int) -> jax.Array:
    """As `plain_grouped_conv`; the kernel's gradient is chosen by the backend.

    XLA's own takes ten times PyTorch's time on CPUs, and none that matters elsewhere.
    """
    return plain_grouped_conv(x, kernel, groups)


def _conv_forward(x, kernel, groups):
    return grouped_conv(x, kernel, groups), (x, kernel)


def _conv_backward(groups, saved, dy):
    x, kernel = saved
    dx = jax.linear_transpose(lambda x: plain_grouped_conv(x, kernel, groups), x)(dy)[0]
    return dx, jax.lax.platform_dependent(
        x, dy,
        cpu=functools.partial(kernel_gradient_by_fft, groups=groups),
        default=functools.partial(plain_kernel_gradient, groups=groups),
    )  # fmt: skip


grouped_conv.defvjp(_conv_forward, _conv_backward)


def plain_kernel_gradient(x: jax.Array, dy: jax.Array, groups: int) -> jax.Array:
    """dk[j, i, o] = sum_b sum_t x[b, t + j, i] dy[b, t, o], as XLA derives it.

    Args:
      x: [b, n, d].
      dy: [b, n - taps + 1, d'].
      groups: divides d and d'.

    Returns:
      [taps, d / groups, d'] of x's dtype.
    """
    taps = x.shape[1] - dy.shape[1] + 1
    kernel = jax.ShapeDtypeStruct((taps, x.shape[2] // groups, dy.shape[2]), x.dtype)
    return jax.linear_transpose(lambda k: plain_grouped_conv(x, k, groups), kernel)(dy)[0]


def kernel_gradient_by_fft(x: jax.Array, dy: jax.Array, groups: int) -> jax.Array:
    """As `plain_kernel_gradient`: a correlation at the lags of the taps.

    In frequencies it is a product X conj(DY), summed over the batch before one inverse FFT.
    """
    taps = x.shape[1] - dy.shape[1] + 1
    size = fast_size(x.shape[1])  # t + j < n: no lag of a tap wraps around
    xr, xi = _frequencies(x, size, groups)
    yr, yi = _frequencies(dy, size, groups)
    # X conj(DY) as one real product: (re | im) of the result stand beside each other.
    left = jnp.concatenate([jnp.concatenate([xr, xi], -1), jnp.concatenate([xi, -xr], -1)], axis=-2)
    product = jnp.einsum("gfmb,gfob->gfmo", left, jnp.concatenate([yr, yi], -1))
    real, imaginary = jnp.split(product, 2, axis=2)
    lags = jnp.fft.irfft(jnp.moveaxis(jax.lax.complex(real, imaginary), 1, -1), size)[..., :taps]
    return jnp.einsum("giot->tigo", lags).reshape(taps, real.shape[2], -1).astype(x.dtype)


def _frequencies(x, size, groups):
    """[b, n, d] -> real and imaginary parts [groups, f, d / groups, b]."""
    rows, n, width = x.shape
    x = jnp.moveaxis(x.astype(jnp.float32), 1, 2).reshape(rows, groups, width // groups, n)
    spectrum = jnp.einsum("bgif->gfib", jnp.fft.rfft(x, size))
    return spectrum.real, spectrum.imag


def fast_size(n: int) -> int:
    """The smallest 2^a 3^b that is even and at least n: FFTs of other lengths are slower."""
    candidates = (2**a * 3**b for a in range(1, 32) for b in range(4))
    return min(c for c in candidates if c >= n)
