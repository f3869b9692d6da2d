import functools

import jax
import numpy as np
import pytest

from mmer_jax.models.encoders import pretrained


@pytest.fixture(scope="session")
def perturbed():
    """A function: PyTorch module -> the same in evaluation mode, no bias 0 and no scale 1."""
    import torch

    def perturb(module, seed=0, scale=0.1):
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for p in module.parameters():
                p.add_(scale * torch.randn(p.shape, generator=generator))
        return module.eval()

    return perturb


@pytest.fixture(scope="session")
def load_encoder():
    """A function: (Flax encoder, folder, its example inputs) -> jitted (*inputs) -> outputs.

    With `every` the outputs are all hidden states.
    """

    def load(encoder, folder, *example, every=False):
        shapes = jax.eval_shape(encoder.init, jax.random.key(0), *example)["params"]
        params = pretrained.load_params(str(folder), shapes)
        options = {"every_state": True} if every else {}
        run = jax.jit(functools.partial(encoder.apply, **options))
        return lambda *inputs: jax.tree.map(np.asarray, run({"params": params}, *inputs))

    return load
