"""The one way to compile a forward pass: parameters and a batch -> outputs by name."""

import jax
import jax.numpy as jnp

from mmer_jax.models.mmer import MMER
from mmer_jax.models.precision import jit_at


def make_forward(model: MMER, keep=("logits",), standard_padding: bool = False, **options):
    """A jitted (params, batch) -> the outputs of these names; XLA drops what nobody keeps.

    Speech can be encoded once and used with several texts: one function keeps `audio_hidden` and
    `audio_mask` of a batch of audio alone, another gets them in its batch in the audio's place.

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
    if standard_padding:
        model = _with_standard_padding(model)

    def forward(params, batch):
        _, out = model.apply({"params": params}, batch)
        return {name: value for name in keep if (value := _output(name, out, batch)) is not None}

    return jit_at(forward, model.precision, **options)


def _output(name, out, batch):
    source, derive = _DERIVED.get(name, (name, lambda out, batch: out[name]))
    return derive(out, batch) if source in out else None


def _log_probs(out, _):
    return jax.nn.log_softmax(out["ctc_logits"].astype(jnp.float32))


def _symbols(out, _):
    return best_path(out["ctc_logits"], out["audio_mask"])


def _frames(out, _):
    return out["audio_mask"].sum(-1).astype(jnp.int32)


def _attention(out, _):
    return out["text_to_audio_attention"].astype(jnp.float32).mean(1)


def _mean_gate(out, batch):
    mask = batch["text_mask"].astype(jnp.float32)
    return (out["gate"].astype(jnp.float32).mean(-1) * mask).sum(-1) / mask.sum(-1)


# Name -> the output of the model that it is made of, and how.
_DERIVED = {
    "log_probs": ("ctc_logits", _log_probs),
    "symbols": ("ctc_logits", _symbols),
    "frames": ("audio_mask", _frames),
    "attention": ("text_to_audio_attention", _attention),
    "mean_gate": ("gate", _mean_gate),
}


def best_path(logits: jax.Array, frame_mask: jax.Array) -> jax.Array:
    """The CTC best path with repeats and blanks as 0: [b, t, v], [b, t] -> int [b, t]."""
    best = jnp.where(frame_mask > 0, logits.argmax(-1), 0)
    before = jnp.pad(best[:, :-1], ((0, 0), (1, 0)))
    return jnp.where(best == before, 0, best)


def _with_standard_padding(model):
    encoder = model.audio_encoder
    if getattr(encoder, "original_padding", False):
        return model.clone(audio_encoder=encoder.clone(original_padding=False))
    return model
