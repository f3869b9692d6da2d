"""Operations whose derivative or random draw is written by hand, each beside its plain twin.

Measurements: docs/performance.md.

| operation | plain twin | what the fast version saves | where |
|-|-|-|-|
| `attend` | `attention.plain_attend` | two of three stored maps [b, h, t, s] | everywhere |
| `gelu` | `elementwise.plain_gelu` | two of three stored arrays | everywhere |
| `keep_mask` | `elementwise.plain_keep_mask` | three of four random bytes | everywhere |
| `grouped_conv` | `convolution.plain_grouped_conv` | time of the kernel's gradient | CPUs |
"""

from mmer_jax.ops.attention import attend
from mmer_jax.ops.convolution import grouped_conv
from mmer_jax.ops.elementwise import gelu, keep_mask

__all__ = ["attend", "gelu", "grouped_conv", "keep_mask"]
