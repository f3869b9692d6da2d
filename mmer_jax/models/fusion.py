"""The dynamic fusion network: cross-modal attention between speech and text, and a gate.

Source: section 2 of Ghosh et al., "MMER" (Interspeech 2023), in the form its authors released.
"""

import jax.numpy as jnp
from flax import linen as nn

from mmer_jax.models.layers import CrossModalLayer, Dropout, masked_max, rematerialized


class DynamicFusion(nn.Module):
    """Early fusion of frames A [b, t, d_a] and tokens [b, s, d_t] into one vector.

    X = BertLayer(tokens)
    T = Layer(Q = X, KV = A W_1)        speech that matters to each token
    P = Layer(Q = A W_2, KV = X)        text that matters to each frame
    R = Layer(Q = X, KV = P)            tokens, through the frames' eyes
    g = sigmoid(W [R; T])               the dynamic gate
    h = [max_frames A; W_d max_tokens [R; g * T]]

    Attributes:
      width: d of the network; tokens of another width are projected to it first.
      heads, ffn, dropout, dtype: of every layer, see `CrossModalLayer`.
      remat: `layers` computes each layer again in the backward pass instead of storing it.
      gated: without it g = 1, for an ablation.
    """

    width: int
    heads: int
    ffn: int
    dropout: float = 0.1
    dtype: jnp.dtype = jnp.float32
    remat: str = "none"
    gated: bool = True

    @nn.compact
    def __call__(self, audio, audio_mask, text, text_mask, deterministic: bool = True) -> dict:
        """Returns every intermediate by name; `fused` [b, d_a + d] is the utterance's vector.

        Args:
          audio: frames A [b, t, d_a].
          audio_mask: [b, t], 0 on padded frames.
          text: token states [b, s, d_t].
          text_mask: [b, s], 0 on padded tokens.
          deterministic: no dropout.
        """
        options = self.width, self.heads, self.ffn, self.dropout, self.dtype
        layer_class = rematerialized(CrossModalLayer, self.remat, deterministic_at=4)

        def layer(name, queries, memory, mask):
            module = layer_class(*options, name=name)
            out[name], out[f"{name}_attention"] = module(queries, memory, mask, deterministic)
            return out[name]

        def dense(name, x):
            return nn.Dense(self.width, dtype=self.dtype, name=name)(x)

        A = audio
        out = TextBranch(*options, self.remat, name="text")(text, text_mask, deterministic)
        X = out["text_self"]
        T = layer("text_to_audio", X, dense("audio_keys", A), audio_mask)
        P = layer("audio_to_text", dense("audio_queries", A), X, text_mask)
        R = layer("text_to_text", X, P, audio_mask)
        if self.gated:
            out["gate_logits"] = dense("gate", _concat(R, T))
            g = out["gate"] = nn.sigmoid(out["gate_logits"])
            T = g * T
        out["pooled_audio"] = masked_max(A, audio_mask)
        out["pooled_multimodal"] = dense("downsample", masked_max(_concat(R, T), text_mask))
        out["fused"] = _concat(out["pooled_audio"], out["pooled_multimodal"])
        return out


def _concat(*arrays):
    return jnp.concatenate(arrays, axis=-1)


class LateFusion(nn.Module):
    """The baseline that early fusion is compared with: either modality pooled, then concatenated.

    h = [max_frames A; max_tokens X]; nothing of one modality sees anything of the other before.

    Attributes:
      width, heads, ffn, dropout, dtype, remat: of X's layer, see `TextBranch`.
    """

    width: int
    heads: int
    ffn: int
    dropout: float = 0.1
    dtype: jnp.dtype = jnp.float32
    remat: str = "none"

    @nn.compact
    def __call__(self, audio, audio_mask, text, text_mask, deterministic: bool = True) -> dict:
        """As `DynamicFusion`; `fused` is [b, d_a + d] here too."""
        options = (self.width, self.heads, self.ffn, self.dropout, self.dtype, self.remat)
        out = TextBranch(*options, name="text")(text, text_mask, deterministic)
        out["pooled_audio"] = masked_max(audio, audio_mask)
        out["pooled_text"] = masked_max(out["text_self"], text_mask)
        out["fused"] = _concat(out["pooled_audio"], out["pooled_text"])
        return out


class TextBranch(nn.Module):
    """The trainable self-attention layer over the text encoder's states, X in the paper."""

    width: int
    heads: int
    ffn: int
    dropout: float = 0.1
    dtype: jnp.dtype = jnp.float32
    remat: str = "none"

    @nn.compact
    def __call__(self, text, text_mask, deterministic: bool = True) -> dict:
        """[b, s, d_t], [b, s] -> `text_self` [b, s, d] and its attention weights."""
        if text.shape[-1] != self.width:
            text = nn.Dense(self.width, dtype=self.dtype, name="projection")(text)
        text = Dropout(self.dropout)(text, deterministic)
        options = self.width, self.heads, self.ffn, self.dropout, self.dtype
        layer_class = rematerialized(CrossModalLayer, self.remat, deterministic_at=4)
        layer = layer_class(*options, name="self_attention")
        hidden, weights = layer(text, text, text_mask, deterministic)
        return {"text_self": hidden, "text_self_attention": weights}
