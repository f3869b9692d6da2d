"""WavLM's attention: what relative positions add to the scores, gated by the frame that attends.

Source: Chen et al. 2022, sections III-B and IV-A.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from mmer_jax.models.layers import SelfAttention


class GatedAttention(SelfAttention):
    """Self-attention with the gated relative position bias, parameters as HF's PyTorch has them.

    P[b, h, t, s] = gate[b, h, t] d[h, bucket(s - t)], the embedding d the first layer's in all.
    gate = a (b r - 1) + 2, with a and b sigmoids of linear maps of the head's part of frame t, and
    r a parameter of the head.

    Attributes:
      buckets: of distances; half of them for what comes later.
      distance: frames from which on all are in one bucket.
    """

    buckets: int = 320
    distance: int = 800

    @classmethod
    def of(cls, config, dtype, **options):
        """See `SelfAttention.of`."""
        options |= {"buckets": config.num_buckets, "distance": config.max_bucket_distance}
        return super().of(config, dtype, **options)

    def relative(self, hidden, shared):
        """[b, t, d], float32 [h, t, t] or None -> float32 [b, h, t, t], float32 [h, t, t]."""
        b, t, _ = hidden.shape
        if shared is None:
            init = nn.initializers.normal(self.init_std)
            embed = nn.Embed(self.buckets, self.heads, embedding_init=init, name="rel_attn_embed")
            which = buckets(np.arange(t)[None] - np.arange(t)[:, None], self.buckets, self.distance)
            shared = jnp.moveaxis(embed(which), -1, 0)
        parts = hidden.reshape(b, t, self.heads, -1)
        # Four outputs for each sigmoid, added up: as Microsoft's code has it.
        logits = self.dense(8, "gru_rel_pos_linear")(parts).astype(jnp.float32)
        gates = jax.nn.sigmoid(logits.reshape(b, t, self.heads, 2, 4).sum(-1))
        r = self.param("gru_rel_pos_const", nn.initializers.ones, (1, self.heads, 1, 1))
        gate = gates[..., 0] * (gates[..., 1] * r[:, :, 0, 0] - 1.0) + 2.0
        return gate.swapaxes(1, 2)[..., None] * shared, shared


def buckets(offset: np.ndarray, count: int, distance: int) -> np.ndarray:
    """The bucket of an offset in frames: one each for the near ones, then logarithmically wider.

    Args:
      offset: int, any shape; positive: later.
      count: of all buckets.
      distance: from which on all are in the last one.

    Returns:
      int of the same shape, 0 to count - 1.
    """
    half = count // 2
    exact = half // 2
    far = np.maximum(np.abs(offset), 1).astype(np.float32)  # of 0 no logarithm; it is near
    share = np.log(far / np.float32(exact)) / np.float32(np.log(distance / exact))
    wide = np.minimum(exact + (share * np.float32(half - exact)).astype(np.int64), half - 1)
    near = np.abs(offset) < exact
    return np.where(offset > 0, half, 0) + np.where(near, np.abs(offset), wide)
