"""The precision of matrix products and convolutions: `config.model.precision`, applied here.

JAX computes float32 products in TF32 (10 bits of mantissa) on recent NVIDIA GPUs, and from pieces
in bfloat16 on TPUs, unless it is told otherwise. On CPUs they are float32.
"""

import contextlib
import functools

import jax

HIGHEST = jax.lax.Precision.HIGHEST  # for heads, similarities and log-mel, whatever the config says


def jit_at(function, precision: str, **options):
    """`jax.jit` of a function whose products have this precision, their derivatives too.

    Args:
      function: applies a model.
      precision: `tensorfloat32`, `float32`, or `default`, which leaves the choice to JAX.
      **options: of `jax.jit`.
    """

    @functools.wraps(function)
    def traced(*args):
        with _products(precision):
            return function(*args)

    return jax.jit(traced, **options)


def _products(precision):
    if precision == "default":
        return contextlib.nullcontext()
    return jax.default_matmul_precision(precision)
