"""wav2vec 2.0's positional convolution, with a kernel gradient that is fast on CPUs too."""

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn

from mmer_jax.models.activations import activation

_LAYOUT = ("NWC", "WIO", "NWC")


class PositionalConv(nn.Module):
    """Grouped convolution over the frames under weight norm, and its activation.

    Attributes:
      config: HF's `Wav2Vec2Config` or `HubertConfig`.
      dtype: of the computation.
    """

    config: object
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, hidden):
        """[b, t, d] -> [b, t, d]."""
        hidden = WeightNormConv(self.config, self.dtype, name="conv")(hidden)
        return activation(self.config.feat_extract_activation)(hidden)


class WeightNormConv(nn.Module):
    """Convolution whose kernel is weight_g * weight_v / |weight_v|, one norm per tap.

    The parameters have PyTorch's names and layout, [d, d / groups, taps].
    """

    config: object
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, hidden):
        """[b, t, d] -> [b, t, d]; with an even number of taps the frame too many is cut."""
        c = self.config
        taps, groups = c.num_conv_pos_embeddings, c.num_conv_pos_embedding_groups
        shape = (c.hidden_size, c.hidden_size // groups, taps)
        v = self.param("weight_v", nn.initializers.he_normal(), shape)
        g = self.param("weight_g", lambda _: _norm(v))
        bias = self.param("bias", nn.initializers.zeros, (c.hidden_size,))
        kernel = (v / _norm(v) * g).T.astype(self.dtype)
        # One padded frame fewer behind is what HF's cut of the last result amounts to.
        padding = (taps // 2, taps // 2 - (taps % 2 == 0))
        padded = jnp.pad(hidden.astype(self.dtype), ((0, 0), padding, (0, 0)))
        return grouped_conv(padded, kernel, groups) + bias.astype(self.dtype)


def _norm(v):
    return jnp.linalg.norm(v, axis=(0, 1), keepdims=True)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def grouped_conv(x: jax.Array, kernel: jax.Array, groups: int) -> jax.Array:
    """y[b, t, o] = sum_j sum_i x[b, t + j, i] kernel[j, i, o], i within o's group.

    Args:
      x: [b, n, d], padded already.
      kernel: [taps, d / groups, d'], of x's dtype.
      groups: divides d and d'.

    Returns:
      [b, n - taps + 1, d'].
    """
    return jax.lax.conv_general_dilated(
        x, kernel, (1,), "VALID", dimension_numbers=_LAYOUT, feature_group_count=groups
    )


def _forward(x, kernel, groups):
    return grouped_conv(x, kernel, groups), (x, kernel)


def _backward(groups, saved, dy):
    x, kernel = saved
    conv = functools.partial(jax.lax.conv_general_dilated, window_strides=(1,), padding="VALID",
                             dimension_numbers=_LAYOUT, feature_group_count=groups)  # fmt: skip
    dx = jax.linear_transpose(lambda x: conv(x, kernel), x)(dy)[0]
    # XLA's gradient of a grouped kernel takes ten times PyTorch's time on CPUs, and none elsewhere.
    dkernel = jax.lax.platform_dependent(
        x, dy,
        cpu=lambda x, dy: kernel_gradient_by_fft(x, dy, groups).astype(kernel.dtype),
        default=lambda x, dy: jax.linear_transpose(lambda k: conv(x, k), kernel)(dy)[0],
    )  # fmt: skip
    return dx, dkernel


grouped_conv.defvjp(_forward, _backward)


def kernel_gradient_by_fft(x: jax.Array, dy: jax.Array, groups: int) -> jax.Array:
    """dk[j, i, o] = sum_b sum_t x[b, t + j, i] dy[b, t, o], a correlation at the lags of the taps.

    In frequencies it is a product X conj(DY), summed over the batch before one inverse FFT.

    Args:
      x: [b, n, d].
      dy: [b, n - taps + 1, d'].
      groups: divides d and d'.

    Returns:
      float32 [taps, d / groups, d'].
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
    return jnp.einsum("giot->tigo", lags).reshape(taps, real.shape[2], -1)


def _frequencies(x, size, groups):
    """[b, n, d] -> real and imaginary parts [groups, f, d / groups, b]."""
    rows, n, width = x.shape
    x = jnp.moveaxis(x.astype(jnp.float32), 1, 2).reshape(rows, groups, width // groups, n)
    found = jnp.einsum("bgif->gfib", jnp.fft.rfft(x, size))
    return found.real, found.imag


def fast_size(n: int) -> int:
    """The smallest 2^a 3^b that is even and at least n: FFTs of other lengths are slower."""
    candidates = (2**a * 3**b for a in range(1, 32) for b in range(4))
    return min(c for c in candidates if c >= n)
