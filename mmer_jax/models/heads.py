"""What is read off the network: emotions, characters, contrastive embeddings."""

import jax.numpy as jnp
from flax import linen as nn

from mmer_jax.models.layers import Dropout
from mmer_jax.models.precision import HIGHEST
from mmer_jax.ops import gelu

# Heads compute in float32 whatever the encoders do: their results enter softmaxes and losses.


class EmotionHead(nn.Module):
    """Linear: utterance vector [b, h] -> class logits [b, c]."""

    classes: int

    @nn.compact
    def __call__(self, fused):
        """[b, h] -> [b, c]."""
        return nn.Dense(self.classes, precision=HIGHEST, name="linear")(fused.astype(jnp.float32))


class CTCHead(nn.Module):
    """Dropout and Linear: frames [b, t, d] -> symbol logits [b, t, v]."""

    symbols: int
    dropout: float = 0.1

    @nn.compact
    def __call__(self, frames, deterministic: bool = True):
        """[b, t, d] -> [b, t, v]."""
        frames = Dropout(self.dropout)(frames.astype(jnp.float32), deterministic)
        return nn.Dense(self.symbols, precision=HIGHEST, name="linear")(frames)


class ProjectionHead(nn.Module):
    """Linear - GELU - Linear: utterance vector [b, h] -> contrastive embedding [b, d]."""

    width: int

    @nn.compact
    def __call__(self, fused):
        """[b, h] -> [b, d]."""
        hidden = nn.Dense(self.width, precision=HIGHEST, name="hidden")(fused.astype(jnp.float32))
        return nn.Dense(self.width, precision=HIGHEST, name="output")(gelu(hidden))
