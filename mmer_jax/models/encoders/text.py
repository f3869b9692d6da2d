"""Text encoders: HF's Flax BERT, RoBERTa and their kin without their pooling layer."""

import copy

import jax.numpy as jnp
from flax import linen as nn
from transformers import AutoConfig

from mmer_jax.data.bucketing import rounded
from mmer_jax.models.encoders import part
from mmer_jax.models.layers import EncoderPart

# Activations that HF's Flax blocks lack, by the name of the same one that they have.
SAME = {
    "gelu_python": "gelu",
    **dict.fromkeys(("gelu_fast", "gelu_accurate", "gelu_python_tanh"), "gelu_new"),
}


class FromZero:
    """Positions 0, 1, ... of all tokens."""

    @staticmethod
    def at(mask, config):
        """[b, s] -> int [b, s]."""
        return jnp.broadcast_to(jnp.arange(mask.shape[-1]), mask.shape)

    @staticmethod
    def longest(config):
        """Tokens for which there are positions; the padding has some too."""
        return config.max_position_embeddings // rounded(1) * rounded(1)


class FromPadding:
    """Positions that count from behind the padding's id, which is that of the padding."""

    @staticmethod
    def at(mask, config):
        """[b, s] -> int [b, s]."""
        counted = jnp.cumsum(mask, axis=-1) + config.pad_token_id
        return jnp.where(mask > 0, counted, config.pad_token_id)

    @staticmethod
    def longest(config):
        """Tokens for which there are positions."""
        return config.max_position_embeddings - config.pad_token_id - 1


class TextEncoder(EncoderPart):
    """Token ids -> hidden states of the last layer.

    HF's softmax has the dtype of the computation: in bfloat16 it costs digits, see
    docs/performance.md.
    """

    def setup(self):
        """Makes HF's blocks under HF's names."""
        config = copy.copy(self.config)
        config.hidden_act = SAME.get(config.hidden_act, config.hidden_act)
        self.embeddings = part(config, "embeddings")(config, dtype=self.dtype)
        if getattr(config, "embedding_size", config.hidden_size) != config.hidden_size:
            self.embeddings_project = nn.Dense(config.hidden_size, dtype=self.dtype)
        stored = self.remat == "none"
        encoder = part(config, "encoder")
        self.encoder = encoder(config, dtype=self.dtype, gradient_checkpointing=not stored)

    def __call__(self, ids, mask, deterministic: bool = True):
        """int32 [b, s], [b, s] -> [b, s, d]."""
        positions = part(self.config, "positions").at(mask, self.config)
        hidden = self.embeddings(
            ids, jnp.zeros_like(ids), positions, mask, deterministic=deterministic
        )
        if hasattr(self, "embeddings_project"):
            hidden = self.embeddings_project(hidden)
        return self.encoder(hidden, mask, head_mask=None, deterministic=deterministic)[0]

    @staticmethod
    def scratch(model_type, options, vocab_size):
        """Hugging Face's config for `config.text` where nothing is pretrained."""
        size = options.size
        return AutoConfig.for_model(
            model_type, vocab_size=vocab_size, hidden_size=size.width,
            num_hidden_layers=size.layers, num_attention_heads=size.heads,
            intermediate_size=size.ffn, hidden_dropout_prob=size.dropout,
            attention_probs_dropout_prob=size.dropout, initializer_range=size.width**-0.5,
            max_position_embeddings=rounded(options.max_tokens) + 2, type_vocab_size=1,
        )  # fmt: skip

    @staticmethod
    def longest(config):
        """Tokens for which there are positions; beyond them an embedding is NaN."""
        return part(config, "positions").longest(config)
