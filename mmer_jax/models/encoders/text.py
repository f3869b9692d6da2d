"""Text encoders: HF's Flax BERT and RoBERTa without their pooling layer."""

import jax.numpy as jnp
from flax import linen as nn
from transformers.models.bert.modeling_flax_bert import FlaxBertEmbeddings, FlaxBertEncoder
from transformers.models.roberta.modeling_flax_roberta import (
    FlaxRobertaEmbeddings,
    FlaxRobertaEncoder,
)

BLOCKS = {
    "bert": (FlaxBertEmbeddings, FlaxBertEncoder),
    "roberta": (FlaxRobertaEmbeddings, FlaxRobertaEncoder),
}


class TextEncoder(nn.Module):
    """Token ids -> hidden states of the last layer.

    Attributes:
      config: HF's `BertConfig` or `RobertaConfig`.
      dtype: of the computation.
    """

    config: object
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        """Makes HF's blocks under HF's names."""
        embeddings, encoder = BLOCKS[self.config.model_type]
        self.embeddings = embeddings(self.config, dtype=self.dtype)
        self.encoder = encoder(self.config, dtype=self.dtype)

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
