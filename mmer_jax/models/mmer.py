"""MMER: encoders, fusion and heads as one function of a batch, and the way to compile it."""

import contextlib
import functools

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from mmer_jax.models import encoders
from mmer_jax.models.fusion import DynamicFusion, LateFusion, TextBranch
from mmer_jax.models.layers import (
    POOLING,
    Dropout,
    WeightedSum,
    flat_dense,
    normalized_states,
    subsampled,
    subsampled_mask,
)  # fmt: skip
from mmer_jax.ops import gelu

MANY_LAYERS = ("weighted", "all")  # of `config.audio.layers`, what reads every hidden state


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
      precision: of its products, see `jit_at`, which `make_forward` and the train step use.
      layers: which of the audio encoder's hidden states are its frames, from 0, what enters its
        first layer: a number as text, `last`, `weighted`, see `WeightedSum`, or `all`, normalised
        and side by side.
      pooling: of frames and tokens, a key of `layers.POOLING`.
      subsample: how many of the audio encoder's frames have their mean as one frame of the model's.
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
    layers: str = "last"
    pooling: str = "max"
    subsample: int = 1

    @property
    def frame_samples(self) -> int:
        """Samples from one of the frames to the next."""
        return encoders.frame(self.audio_encoder) * self.subsample

    @nn.compact
    def __call__(self, batch: dict, train: bool = False) -> tuple[jax.Array, dict]:
        """A batch (see `data/loader.py`) -> logits float32 [b, c] and every intermediate.

        Where the batch holds an augmented view, both views pass the network in one batch of 2b
        rows, and `out` has `aug_fused` and `aug_projection` beside `fused` and `projection`.
        All other entries of `out` are the original view's.

        In place of audio a batch may have `audio_mask` and what `read_states` gives of it,
        `audio_hidden`, or `audio_states` [b, l, t, d] of `MANY_LAYERS`; the audio encoder
        is not run then. Or it has `audio_convolved` [b, t, channels], with which the encoder of
        the wav2vec2 family begins. In place of `text_ids` it may have `text_hidden`, in both
        views. Of speech without the text that the model needs, `out` has what comes before the
        fusion and `ctc_logits`; the logits are None.
        """
        arrays = list(batch.values())
        chex.assert_equal_shape_prefix(arrays, 1)
        rows = arrays[0].shape[0]
        has_view = any(f"aug_{name}" in batch for name in _VIEW)
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
        if self.audio_encoder is not None:
            out["audio_hidden"], out["audio_mask"] = self._frames(view, deterministic)
        if self.text_encoder is not None:
            if "text_hidden" in view:
                out["text_hidden"] = view["text_hidden"].astype(self.text_encoder.dtype)
            elif "text_ids" in view:
                inputs = view["text_ids"], view["text_mask"]
                out["text_hidden"] = self.text_encoder(
                    *inputs, deterministic or "text_encoder" in self.frozen
                )
            else:
                return out
        return out | self._fuse(out, view, deterministic)

    def _frames(self, view, deterministic):
        """Frames [b, t, d] and their mask: computed, or of what the batch has in their place."""
        dtype = self.audio_encoder.dtype
        if "audio_hidden" in view:
            return view["audio_hidden"].astype(dtype), view["audio_mask"]
        if "audio_states" in view:
            mask = view["audio_mask"]
            states = jnp.unstack(view["audio_states"].astype(dtype), axis=1)
        else:
            deterministic = deterministic or "audio_encoder" in self.frozen
            inputs = view.get("audio"), view.get("audio_length"), deterministic
            if "audio_convolved" in view:
                inputs += ((view["audio_convolved"], view["audio_mask"]),)
            states, mask = read_states(self.audio_encoder, self.layers, self.subsample, *inputs)
        if self.layers == "weighted":
            return WeightedSum(name="audio_layers")(states), mask
        if self.layers == "all":
            return jnp.concatenate(normalized_states(states), axis=-1).astype(dtype), mask
        return states[0], mask

    def _fuse(self, out, view, deterministic):
        pool = POOLING[self.pooling]
        options = (
            self.width, self.heads, self.ffn, self.dropout, self.dtype, self.remat, self.pooling
        )  # fmt: skip
        if self.text_encoder is None:
            pooled = pool(out["audio_hidden"], out["audio_mask"])
            return {"pooled_audio": pooled, "fused": pooled}
        text, mask = out["text_hidden"], view["text_mask"]
        if self.audio_encoder is None:
            branch = TextBranch(*options, name="text")(text, mask, deterministic)
            return branch | {"fused": pool(branch["text_self"], mask)}
        if self.fusion == "concat":
            fusion = LateFusion(*options, name="fusion")
        else:
            fusion = DynamicFusion(*options, gated=self.gated, name="fusion")
        return fusion(out["audio_hidden"], out["audio_mask"], text, mask, deterministic)


def read_states(encoder, layers: str, subsample: int, audio, audio_length, deterministic,
                convolved=None):  # fmt: skip
    """The states of an audio encoder that the model reads.

    Args:
      encoder: bound to its parameters.
      layers, subsample: see `MMER`.
      audio, audio_length: float32 [b, n], int32 [b].
      deterministic: no dropout.
      convolved: in the place of audio, see `Wav2Vec2Encoder`.

    Returns:
      Arrays [b, t, d], one, or of `MANY_LAYERS` all, and their mask, bool [b, t].
    """
    inputs = audio, audio_length, deterministic
    begun = {} if convolved is None else {"convolved": convolved}
    if layers == "last":
        last, mask = encoder(*inputs, **begun)
        states = [last]
    else:
        states, mask = encoder(*inputs, True, **begun)
        states = states if layers in MANY_LAYERS else [states[int(layers)]]
    if subsample == 1:
        return states, mask
    return [subsampled(x, mask, subsample) for x in states], subsampled_mask(mask, subsample)


# What a view may consist of.
_VIEW = (
    "audio", "audio_length", "audio_convolved", "audio_hidden", "audio_states", "audio_mask",
    "text_ids", "text_hidden", "text_mask",
)  # fmt: skip


def _both_views(batch):
    """Original and augmented view, one below the other: arrays of 2b rows."""
    return {
        name: jnp.concatenate([batch[name], batch[f"aug_{name}"]])
        for name in _VIEW
        if f"aug_{name}" in batch  # a view has what the model's encoders take
    }


# Heads compute in float32 whatever the encoders do: their results enter softmaxes and losses.


class EmotionHead(nn.Module):
    """Linear: utterance vector -> class logits."""

    classes: int

    @nn.compact
    def __call__(self, fused):
        """[b, h] -> [b, c]."""
        return _exact_dense(self.classes, "linear")(fused.astype(jnp.float32))


class CTCHead(nn.Module):
    """Dropout and Linear: frames -> symbol logits."""

    symbols: int
    dropout: float = 0.1

    @nn.compact
    def __call__(self, frames, deterministic: bool = True):
        """[b, t, d] -> [b, t, v]."""
        frames = Dropout(self.dropout)(frames.astype(jnp.float32), deterministic)
        return _exact_dense(self.symbols, "linear")(frames)


class ProjectionHead(nn.Module):
    """Linear - GELU - Linear: utterance vector -> contrastive embedding."""

    width: int

    @nn.compact
    def __call__(self, fused):
        """[b, h] -> [b, d]."""
        hidden = _exact_dense(self.width, "hidden")(fused.astype(jnp.float32))
        return _exact_dense(self.width, "output")(gelu(hidden))


def _exact_dense(features, name):
    return nn.Dense(features, precision="highest", name=name)


def jit_at(function, precision: str, **options):
    """`jax.jit` of a function whose products have this precision, their derivatives too.

    JAX computes float32 products in TF32 (10 bits of mantissa) on recent NVIDIA GPUs, and from
    pieces in bfloat16 on TPUs, unless it is told otherwise. On CPUs they are float32.

    Args:
      function: applies a model.
      precision: `config.model.precision`: `tensorfloat32`, `float32`, or `default`, JAX's choice.
      **options: of `jax.jit`.
    """

    @functools.wraps(function)
    def traced(*args):
        default = precision == "default"
        with contextlib.nullcontext() if default else jax.default_matmul_precision(precision):
            return function(*args)

    return jax.jit(traced, **options)


def make_forward(model: MMER, keep=("logits",), standard_padding: bool = False, **options):
    """The one compiled forward pass: (params, batch) -> the outputs of these names.

    XLA drops what nobody keeps. Speech can be encoded once and used with several texts: one
    function keeps `audio_hidden` and `audio_mask` of a batch of audio alone, another gets them in
    its batch in the audio's place.

    Args:
      model: the Flax module.
      keep: names of the model's own outputs (see `MMER`), or of
        `log_probs` float32 [b, t, v] of the CTC symbols,
        `symbols` int [b, t], the best path with repeats and blanks as 0,
        `frames` int32 [b], how many of the t are no padding,
        `attention` float32 [b, s, t], of each token to the speech, mean over the heads,
        `mean_gate` float32 [b], over width and tokens.
        Names that the model has no output for are left out.
      standard_padding: of a model with `padding="original"`, whose outputs depend on the padding:
        gives those of each recording alone.
      **options: of `jax.jit`.
    """
    encoder = model.audio_encoder
    if standard_padding and getattr(encoder, "original_padding", False):
        model = model.clone(audio_encoder=encoder.clone(original_padding=False))

    def forward(params, batch):
        _, out = model.apply({"params": params}, batch)
        return {name: value for name in keep if (value := _output(name, out, batch)) is not None}

    return jit_at(forward, model.precision, **options)


def _output(name, out, batch):
    """A model's own or derived output; None where there is none."""
    source, derive = _DERIVED.get(name, (name, lambda x, *_: x))
    return derive(out[source], out, batch) if source in out else None


def _mean_gate(gate, _, batch):
    mask = batch["text_mask"].astype(jnp.float32)
    return (gate.astype(jnp.float32).mean(-1) * mask).sum(-1) / mask.sum(-1)


# Name -> the output that it is made of, and how.
_DERIVED = {
    "log_probs": ("ctc_logits", lambda x, *_: jax.nn.log_softmax(x.astype(jnp.float32))),
    "symbols": ("ctc_logits", lambda x, out, _: best_path(x, out["audio_mask"])),
    "frames": ("audio_mask", lambda x, *_: x.sum(-1).astype(jnp.int32)),
    "attention": ("text_to_audio_attention", lambda x, *_: x.astype(jnp.float32).mean(1)),
    "mean_gate": ("gate", _mean_gate),
}


def best_path(logits: jax.Array, frame_mask: jax.Array) -> jax.Array:
    """The CTC best path with repeats and blanks as 0: [b, t, v], [b, t] -> int [b, t]."""
    best = jnp.where(frame_mask > 0, logits.argmax(-1), 0)
    before = jnp.pad(best[:, :-1], ((0, 0), (1, 0)))
    return jnp.where(best == before, 0, best)
