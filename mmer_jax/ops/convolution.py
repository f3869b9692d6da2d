"""Grouped convolution whose kernel gradient is a correlation by FFT, which is fast on CPUs."""

import functools

import jax
import jax.numpy as jnp


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


def _forward(x, kernel, groups):
    return grouped_conv(x, kernel, groups), (x, kernel)


def _backward(groups, saved, dy):
    x, kernel = saved
    dx = jax.linear_transpose(lambda x: plain_grouped_conv(x, kernel, groups), x)(dy)[0]
    return dx, jax.lax.platform_dependent(
        x, dy,
        cpu=functools.partial(kernel_gradient_by_fft, groups=groups),
        default=functools.partial(plain_kernel_gradient, groups=groups),
    )  # fmt: skip


grouped_conv.defvjp(_forward, _backward)


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
