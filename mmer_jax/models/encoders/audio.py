"""What all speech encoders share: SpecAugment and LayerDrop, in training alone, as HF has them.

Sources: Park et al. 2019, in the form of wav2vec 2.0 (Baevski et al. 2020, section 3.1); Fan et al.
2020. Differences from HF: docs/deviations.md.
"""

import jax
import jax.numpy as jnp

from mmer_jax.models.layers import EncoderPart, Layers


class AudioEncoder(EncoderPart):
    """A speech encoder that can be trained with SpecAugment and LayerDrop; 0 switches each off.

    Attributes:
      layerdrop: probability of each layer to be left out of a step.
      mask_time_prob: share of the frames that would be masked if no spans overlapped.
      mask_time_length: frames of a span.
      mask_feature_prob: share of the features, likewise.
      mask_feature_length: features of a span.
      scan: computes the layers in a loop of the compiled program, whose size then does not grow
        with their number; dropout draws other numbers than without.
      frozen: `config.optimizer.frozen`, patterns of paths of parameters.
    """

    layerdrop: float = 0.0
    mask_time_prob: float = 0.0
    mask_time_length: int = 10
    mask_feature_prob: float = 0.0
    mask_feature_length: int = 10
    scan: bool = False
    frozen: tuple[str, ...] = ()

    def layers_of(self, config, kind, count: int, **place) -> Layers:
        """Its transformer layers, see `Layers`; `place` is `name` or `parent`."""
        options = config, self.dtype, self.remat, kind, count, self.layerdrop
        return Layers(*options, self.scan, self.frozen, **place)

    def spec_augment(self, x, mask, deterministic: bool, fill=0.0):
        """Masks spans of each row's frames, the same for all features, and of its features.

        Args:
          x: [b, t, d].
          mask: bool [b, t], of the row's own frames.
          deterministic: nothing is masked.
          fill: [d] or a number, in the place of masked frames; of masked features it is 0.

        Returns:
          [b, t, d].
        """
        if deterministic:
            return x
        (b, t, d), c = x.shape, self.config
        if self.mask_time_prob:
            options = self.mask_time_prob, self.mask_time_length
            least = getattr(c, "mask_time_min_masks", 0)
            spans = draw_spans(self.make_rng("dropout"), mask.sum(1), t, *options, least)
            x = jnp.where(spans[..., None], jnp.asarray(fill, x.dtype), x)
        if self.mask_feature_prob:
            options = self.mask_feature_prob, self.mask_feature_length
            least = getattr(c, "mask_feature_min_masks", 0)
            spans = draw_spans(self.make_rng("dropout"), jnp.full((b,), d), d, *options, least)
            x = jnp.where(spans[:, None], 0, x)
        return x


def draw_spans(key, sizes, count: int, share: float, length: int, least: int = 0) -> jax.Array:
    """Spans at random places of each row, which may overlap.

    A row of n positions gets share * n / length spans, rounded up or down at random (all rows the
    same way), at least `least`, and no more than n / length; they begin at different places.

    Args:
      key: of the draw.
      sizes: int [b], n.
      count: of all positions, the rest is padding.
      share: 0 to 1.
      length: of a span.
      least: spans of each row.

    Returns:
      bool [b, count], True in a span.
    """
    rounding, places = jax.random.split(key)
    spans = share * sizes / length + jax.random.uniform(rounding)
    spans = jnp.maximum(spans.astype(jnp.int32), least)
    spans = jnp.minimum(spans, sizes // length)
    at = jnp.arange(count)
    drawn = jax.random.uniform(places, (len(sizes), count))
    drawn = jnp.where(at < sizes[:, None] - length + 1, drawn, 2.0)  # no span fits there
    begins = drawn.argsort(axis=1).argsort(axis=1) < spans[:, None]
    begun = jnp.cumsum(begins, axis=1)
    ended = jnp.pad(begun, ((0, 0), (length, 0)))[:, :count]
    return begun > ended
