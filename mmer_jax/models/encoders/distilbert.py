"""DistilBERT: HF's Flax blocks, whose interface is not BERT's."""

import copy

from flax import linen as nn
from transformers import DistilBertConfig
from transformers.models.distilbert.modeling_flax_distilbert import (
    FlaxEmbeddings,
    FlaxTransformerBlock,
)

from mmer_jax.data.bucketing import rounded
from mmer_jax.models.encoders.text import SAME, FromZero
from mmer_jax.models.layers import EncoderPart, Layers


class Block(FlaxTransformerBlock):
    """A layer of HF's as `Layers` calls it."""

    def __call__(self, hidden, mask, deterministic, shared=None):
        """[b, s, d], [b, s], None -> [b, s, d], None."""
        return super().__call__(hidden, mask, deterministic=deterministic)[0], shared


class Transformer(EncoderPart):
    """The layers under HF's names."""

    @nn.compact
    def __call__(self, hidden, mask, deterministic):
        """[b, s, d], [b, s] -> [b, s, d]."""
        options = self.config, self.dtype, self.remat, Block, self.config.n_layers
        return Layers(*options, name="layer")(hidden, mask, deterministic)[-1]


class DistilBertEncoder(EncoderPart):
    """Token ids -> hidden states of the last layer.

    HF's softmax has the dtype of the computation, as in `TextEncoder`.
    """

    @nn.compact
    def __call__(self, ids, mask, deterministic: bool = True):
        """int32 [b, s], [b, s] -> [b, s, d]."""
        config = copy.copy(self.config)
        config.activation = SAME.get(config.activation, config.activation)
        hidden = FlaxEmbeddings(config, self.dtype, name="embeddings")(ids, deterministic)
        transformer = Transformer(config, self.dtype, self.remat, name="transformer")
        return transformer(hidden, mask, deterministic)

    @staticmethod
    def scratch(model_type, options, vocab_size):
        """Hugging Face's config for `config.text` where nothing is pretrained."""
        size = options.size
        return DistilBertConfig(
            vocab_size=vocab_size, dim=size.width, n_layers=size.layers, n_heads=size.heads,
            hidden_dim=size.ffn, dropout=size.dropout, attention_dropout=size.dropout,
            initializer_range=size.width**-0.5, max_position_embeddings=rounded(options.max_tokens),
        )  # fmt: skip

    @staticmethod
    def longest(config):
        """Tokens for which there are positions; beyond them an embedding is NaN."""
        return FromZero.longest(config)
