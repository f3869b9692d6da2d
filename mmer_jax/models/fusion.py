"""The dynamic fusion network: cross-modal attention between speech and text, and a gate.

Source: section 2 of Ghosh et al., "MMER" (Interspeech 2023), in the form its authors released.
"""

import jax.numpy as jnp
from flax import linen as nn

from mmer_jax.models.layers import POOLING, Dropout, multi_head, rematerialized
from mmer_jax.ops import gelu


class CrossModalLayer(nn.Module):
    """One post-norm transformer layer whose queries and keys may come from different sequences.

    With queries = memory it is a BERT layer: multi-head attention, then Linear - GELU - Linear;
    each of the two adds its input and is normalised after.

    Attributes:
      width: d, of both sequences and of the result.
      heads: divides width.
      ffn: width of the feed-forward part.
      dropout: on attention weights and on both residual branches.
      dtype: of the computation; softmax and norms stay float32.
    """

    width: int
    heads: int
    ffn: int
    dropout: float = 0.1
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, queries, memory, memory_mask, deterministic: bool = True):
        """[b, q, d], [b, k, d], [b, k] -> ([b, q, d], attention weights [b, heads, q, k])."""

        def dense(features, name):
            return nn.Dense(features, dtype=self.dtype, name=name)

        def add_and_norm(name, residual, branch):
            branch = Dropout(self.dropout)(branch, deterministic)
            return _layer_norm(f"{name}_norm")(residual + branch).astype(self.dtype)

        q = dense(self.width, "query")(queries)
        k, v = (dense(self.width, name)(memory) for name in ("key", "value"))
        merged, weights = multi_head(q, k, v, memory_mask, self.heads, self.dropout, deterministic)
        attended = dense(self.width, "attention_output")(merged)
        hidden = add_and_norm("attention", queries, attended)
        inner = gelu(dense(self.ffn, "intermediate")(hidden))
        return add_and_norm("output", hidden, dense(self.width, "output")(inner)), weights


def _layer_norm(name):
    """BERT's, in float32, of two passes: E[x^2] - E[x]^2 loses digits that a parity test counts."""
    return nn.LayerNorm(1e-12, dtype=jnp.float32, use_fast_variance=False, name=name)


class FusionPart(nn.Module):
    """A module of transformer layers of one size.

    Attributes:
      width, heads, ffn, dropout, dtype: of every layer, see `CrossModalLayer`.
      remat: `layers` computes each layer again in the backward pass instead of storing it.
      pooling: of frames and tokens, a key of `POOLING`.
    """

    width: int
    heads: int
    ffn: int
    dropout: float = 0.1
    dtype: jnp.dtype = jnp.float32
    remat: str = "none"
    pooling: str = "max"

    @property
    def sizes(self) -> tuple:
        """Arguments of a `CrossModalLayer`."""
        return self.width, self.heads, self.ffn, self.dropout, self.dtype

    def pool(self, x, mask):
        """[b, n, d], [b, n] -> [b, d] or, of `statistics`, [b, 3 d]."""
        return POOLING[self.pooling](x, mask)

    def layer(self, name: str) -> nn.Module:
        """A layer, within the module's call."""
        kind = rematerialized(CrossModalLayer, self.remat, deterministic_at=4)
        return kind(*self.sizes, name=name)


class TextBranch(FusionPart):
    """The trainable self-attention layer over the text encoder's states, X in the paper."""

    @nn.compact
    def __call__(self, text, text_mask, deterministic: bool = True) -> dict:
        """[b, s, d_t], [b, s] -> `text_self` [b, s, d] and its attention weights."""
        if text.shape[-1] != self.width:
            text = nn.Dense(self.width, dtype=self.dtype, name="projection")(text)
        text = Dropout(self.dropout)(text, deterministic)
        hidden, weights = self.layer("self_attention")(text, text, text_mask, deterministic)
        return {"text_self": hidden, "text_self_attention": weights}


class DynamicFusion(FusionPart):
    """Early fusion of frames A [b, t, d_a] and tokens [b, s, d_t] into one vector.

    X = BertLayer(tokens)
    T = Layer(Q = X, KV = A W_1)        speech that matters to each token
    P = Layer(Q = A W_2, KV = X)        text that matters to each frame
    R = Layer(Q = X, KV = P)            tokens, through the frames' eyes
    g = sigmoid(W [R; T])               the dynamic gate
    h = [max_frames A; W_d max_tokens [R; g * T]]

    With `pooling="statistics"` mean, deviation and maximum stand in the maximum's place.

    Attributes:
      gated: without it g = 1, for an ablation.
    """

    gated: bool = True

    @nn.compact
    def __call__(self, audio, audio_mask, text, text_mask, deterministic: bool = True) -> dict:
        """Returns every intermediate by name; `fused` [b, d_a + d] is the utterance's vector.

        Args:
          audio: frames A [b, t, d_a].
          audio_mask: [b, t], 0 on padded frames.
          text: token states [b, s, d_t], of another width than d projected to it first.
          text_mask: [b, s], 0 on padded tokens.
          deterministic: no dropout.
        """

        def layer(name, queries, memory, mask):
            module = self.layer(name)
            out[name], out[f"{name}_attention"] = module(queries, memory, mask, deterministic)
            return out[name]

        def dense(name, x):
            return nn.Dense(self.width, dtype=self.dtype, name=name)(x)

        A = audio
        out = TextBranch(*self.sizes, self.remat, name="text")(text, text_mask, deterministic)
        X = out["text_self"]
        T = layer("text_to_audio", X, dense("audio_keys", A), audio_mask)
        P = layer("audio_to_text", dense("audio_queries", A), X, text_mask)
        R = layer("text_to_text", X, P, audio_mask)
        if self.gated:
            out["gate_logits"] = dense("gate", _concat(R, T))
            g = out["gate"] = nn.sigmoid(out["gate_logits"])
            T = g * T
        out["pooled_audio"] = self.pool(A, audio_mask)
        out["pooled_multimodal"] = dense("downsample", self.pool(_concat(R, T), text_mask))
        out["fused"] = _concat(out["pooled_audio"], out["pooled_multimodal"])
        return out


class LateFusion(FusionPart):
    """The baseline that early fusion is compared with: either modality pooled, then concatenated.

    h = [max_frames A; max_tokens X]; nothing of one modality sees anything of the other before.
    """

    @nn.compact
    def __call__(self, audio, audio_mask, text, text_mask, deterministic: bool = True) -> dict:
        """As `DynamicFusion`; `fused` is [b, d_a + d] here too."""
        out = TextBranch(*self.sizes, self.remat, name="text")(text, text_mask, deterministic)
        out["pooled_audio"] = self.pool(audio, audio_mask)
        out["pooled_text"] = self.pool(out["text_self"], text_mask)
        out["fused"] = _concat(out["pooled_audio"], out["pooled_text"])
        return out


def _concat(*arrays):
    return jnp.concatenate(arrays, axis=-1)
