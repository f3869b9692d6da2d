"""Hugging Face's Flax attention with its softmax in float32, which it has no option for."""

import contextlib

import jax.numpy as jnp


@contextlib.contextmanager
def float32_softmax(module):
    """While a model is traced, the attention weights of `module`'s blocks come from float32.

    flax has the option, HF's blocks don't pass it on: they call flax by a name in their module,
    which is replaced here and restored. The weights return in the computation's dtype.

    Args:
      module: such as `transformers.models.bert.modeling_flax_bert`.
    """
    original = module.dot_product_attention_weights

    def weights(*args, dtype=jnp.float32, **options):
        found = original(*args, dtype=dtype, force_fp32_for_softmax=True, **options)
        return found.astype(dtype)

    module.dot_product_attention_weights = weights
    try:
        yield
    finally:
        module.dot_product_attention_weights = original
