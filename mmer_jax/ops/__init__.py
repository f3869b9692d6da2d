"""Operations whose derivative or random draw is written by hand, each beside its plain twin.

The models call the names below; which version each stands for is chosen here and nowhere else.
Measurements: docs/performance.md.

| operation | plain twin | what the fast version saves | where |
|-|-|-|-|
| `attend` | `attention.plain_attend` | two of three stored maps [b, h, t, s] | everywhere |
| `gelu` | `activations.plain_gelu` | two of three stored arrays | everywhere |
| `keep_mask` | `dropout.plain_keep_mask` | three of four random bytes | everywhere |
| `grouped_conv` | `convolution.plain_grouped_conv` | time of the kernel's gradient | CPUs |
"""

import functools

import jax

from mmer_jax.ops import activations, attention, convolution, dropout

attend = attention.attend
gelu = activations.gelu
keep_mask = dropout.keep_mask


def _kernel_gradient(x, dy, groups):
    """XLA's own takes ten times PyTorch's time on CPUs, and none that matters elsewhere."""
    return jax.lax.platform_dependent(
        x, dy,
        cpu=functools.partial(convolution.kernel_gradient_by_fft, groups=groups),
        default=functools.partial(convolution.plain_kernel_gradient, groups=groups),
    )  # fmt: skip


grouped_conv = convolution.with_kernel_gradient(_kernel_gradient)
