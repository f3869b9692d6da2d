"""Text encoders: HF's Flax BERT and RoBERTa without their pooling layer."""

import copy

import jax.numpy as jnp
from transformers import AutoConfig
from transformers.models.bert.modeling_flax_bert import FlaxBertEmbeddings, FlaxBertEncoder
from transformers.models.roberta.modeling_flax_roberta import (
    FlaxRobertaEmbeddings,
    FlaxRobertaEncoder,
)

from mmer_jax.data.bucketing import rounded
from mmer_jax.models.layers import EncoderPart

BLOCKS = {
    "bert": (FlaxBertEmbeddings, FlaxBertEncoder),
    "roberta": (FlaxRobertaEmbeddings, FlaxRobertaEncoder),
}
# Activations that HF's Flax blocks lack, by the name of the same one that they have.
_SAME = {
    "gelu_python": "gelu",
    **dict.fromkeys(("gelu_fast", "gelu_accurate", "gelu_python_tanh"), "gelu_new"),
}


class TextEncoder(EncoderPart):
    """Token ids -> hidden states of the last layer.

    HF's softmax has the dtype of the computation: in bfloat16 it costs digits, see
    docs/performance.md.
    """

    def setup(self):
        """Makes HF's blocks under HF's names."""
        embeddings, encoder = BLOCKS[self.config.model_type]
        config = copy.copy(self.config)
        config.hidden_act = _SAME.get(config.hidden_act, config.hidden_act)
        self.embeddings = embeddings(config, dtype=self.dtype)
        stored = self.remat == "none"
        self.encoder = encoder(config, dtype=self.dtype, gradient_checkpointing=not stored)

    def __call__(self, ids, mask, deterministic: bool = True):
        """int32 [b, s], [b, s] -> [b, s, d]."""
        hidden = self.embeddings(
            ids, jnp.zeros_like(ids), self._positions(ids, mask), mask, deterministic=deterministic
        )
        return self.encoder(hidden, mask, head_mask=None, deterministic=deterministic)[0]

    def _positions(self, ids, mask):
        if self.config.model_type == "roberta":
            # RoBERTa counts from behind its padding id, and gives the padding that id's position.
            counted = jnp.cumsum(mask, axis=-1) + self.config.pad_token_id
            return jnp.where(mask > 0, counted, self.config.pad_token_id)
        return jnp.broadcast_to(jnp.arange(ids.shape[-1]), ids.shape)

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
        most = config.max_position_embeddings
        if config.model_type == "roberta":
            return most - config.pad_token_id - 1
        return most // rounded(1) * rounded(1)  # BERT's padding has positions too
