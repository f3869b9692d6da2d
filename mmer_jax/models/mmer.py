"""MMER: encoders, fusion and heads, as one function of a batch."""

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from mmer_jax.models.fusion import DynamicFusion, LateFusion, TextBranch
from mmer_jax.models.heads import CTCHead, EmotionHead, ProjectionHead
from mmer_jax.models.layers import flat_dense, masked_max


class MMER(nn.Module):
    """Multimodal multi-task emotion recognition.

    With one encoder left out it is the unimodal baseline: the pooled states of the other one go
    to the same heads.

    Attributes:
      audio_encoder: (audio, audio_length, deterministic) -> (frames, frame mask), or None.
      text_encoder: (ids, mask, deterministic) -> token states, or None.
      classes: c.
      symbols: v, of the CTC vocabulary.
      width, heads, ffn, dropout, dtype: of the fusion network.
      frozen: which of `audio_encoder`, `text_encoder` compute without dropout in training too:
        an encoder that isn't trained gives the same features in every step.
      remat: of the fusion network's layers, see `DynamicFusion`.
      fusion: `cross_modal` as in the paper, or `concat`, see `LateFusion`.
      gated: whether cross-modal fusion has its gate.
      precision: of its products, applied by `make_forward` and the train step.
    """

    audio_encoder: nn.Module | None
    text_encoder: nn.Module | None
    classes: int
    symbols: int
    width: int
    heads: int
    ffn: int
    dropout: float = 0.1
    dtype: jnp.dtype = jnp.float32
    frozen: tuple[str, ...] = ()
    remat: str = "none"
    fusion: str = "cross_modal"
    gated: bool = True
    precision: str = "default"

    @nn.compact
    def __call__(self, batch: dict, train: bool = False) -> tuple[jax.Array, dict]:
        """A batch (see `data/loader.py`) -> logits float32 [b, c] and every intermediate.

        Where the batch holds an augmented view, both views pass the network in one batch of 2b
        rows, and `out` has `aug_fused` and `aug_projection` beside `fused` and `projection`.
        All other entries of `out` are the original view's.

        In place of audio a batch may have `audio_hidden` and `audio_mask`, as the audio encoder
        returns them; it is not run then. Of speech without the text that the model needs, `out` has
        what comes before the fusion and `ctc_logits`; the logits are None.
        """
        arrays = list(batch.values())
        chex.assert_equal_shape_prefix(arrays, 1)
        rows = arrays[0].shape[0]
        has_view = "aug_audio" in batch or "aug_text_ids" in batch
        with nn.intercept_methods(flat_dense):
            both = self._encode(_both_views(batch) if has_view else batch, not train)
        out = {name: value[:rows] for name, value in both.items()}
        if "fused" in out:
            out["logits"] = EmotionHead(self.classes, name="emotion")(out["fused"])
            chex.assert_shape(out["logits"], (rows, self.classes))
            out["projection"] = ProjectionHead(self.width, name="projection")(out["fused"])
            augmented = ProjectionHead(self.width, name="aug_projection")
            if has_view:
                out["aug_fused"] = both["fused"][rows:]
                out["aug_projection"] = augmented(out["aug_fused"])
            elif self.is_initializing():
                augmented(out["fused"])
        if self.audio_encoder is not None:
            head = CTCHead(self.symbols, self.dropout, name="ctc")
            out["ctc_logits"] = head(out["audio_hidden"], not train)
        return out.get("logits"), out

    def _encode(self, view, deterministic):
        out = {}
        if "audio_hidden" in view:
            out = {name: view[name] for name in ("audio_hidden", "audio_mask")}
        elif self.audio_encoder is not None:
            out["audio_hidden"], out["audio_mask"] = self.audio_encoder(
                view["audio"], view["audio_length"], deterministic or "audio_encoder" in self.frozen
            )
        if self.text_encoder is not None:
            if "text_ids" not in view:
                return out
            out["text_hidden"] = self.text_encoder(
                view["text_ids"], view["text_mask"], deterministic or "text_encoder" in self.frozen
            )
        return out | self._fuse(out, view, deterministic)

    def _fuse(self, out, view, deterministic):
        options = (self.width, self.heads, self.ffn, self.dropout, self.dtype, self.remat)
        if self.text_encoder is None:
            pooled = masked_max(out["audio_hidden"], out["audio_mask"])
            return {"pooled_audio": pooled, "fused": pooled}
        text, mask = out["text_hidden"], view["text_mask"]
        if self.audio_encoder is None:
            branch = TextBranch(*options, name="text")(text, mask, deterministic)
            return branch | {"fused": masked_max(branch["text_self"], mask)}
        if self.fusion == "concat":
            fusion = LateFusion(*options, name="fusion")
        else:
            fusion = DynamicFusion(*options, gated=self.gated, name="fusion")
        return fusion(out["audio_hidden"], out["audio_mask"], text, mask, deterministic)


def _both_views(batch):
    """Original and augmented view, one below the other: arrays of 2b rows."""
    names = ("audio", "audio_length", "text_ids", "text_mask")
    return {
        name: jnp.concatenate([batch[name], batch[f"aug_{name}"]])
        for name in names
        if f"aug_{name}" in batch  # a view has what the model's encoders take
    }
