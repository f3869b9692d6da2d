"""Text encoders: HF's Flax BERT and RoBERTa without their pooling layer."""

import copy

import jax.numpy as jnp
from flax import linen as nn
from transformers.models.bert import modeling_flax_bert
from transformers.models.bert.modeling_flax_bert import FlaxBertEmbeddings, FlaxBertEncoder
from transformers.models.roberta import modeling_flax_roberta
from transformers.models.roberta.modeling_flax_roberta import (
    FlaxRobertaEmbeddings,
    FlaxRobertaEncoder,
)

from mmer_jax.models.encoders.blocks import FLAX_NAMES
from mmer_jax.models.encoders.hf_softmax import float32_softmax

MODULES = {"bert": modeling_flax_bert, "roberta": modeling_flax_roberta}
BLOCKS = {
    "bert": (FlaxBertEmbeddings, FlaxBertEncoder),
    "roberta": (FlaxRobertaEmbeddings, FlaxRobertaEncoder),
}


class TextEncoder(nn.Module):
    """Token ids -> hidden states of the last layer.

    Attributes:
      config: HF's `BertConfig` or `RobertaConfig`.
      dtype: of the computation.
      remat: `layers` computes each layer again in the backward pass instead of storing it.
    """

    config: object
    dtype: jnp.dtype = jnp.float32
    remat: str = "none"

    def setup(self):
        """Makes HF's blocks under HF's names."""
        embeddings, encoder = BLOCKS[self.config.model_type]
        config = copy.copy(self.config)
        config.hidden_act = FLAX_NAMES.get(config.hidden_act, config.hidden_act)
        self.embeddings = embeddings(config, dtype=self.dtype)
        stored = self.remat == "none"
        self.encoder = encoder(config, dtype=self.dtype, gradient_checkpointing=not stored)

    def __call__(self, ids, mask, deterministic: bool = True):
        """int32 [b, s], [b, s] -> [b, s, d]."""
        hidden = self.embeddings(
            ids, jnp.zeros_like(ids), self._positions(ids, mask), mask, deterministic=deterministic
        )
        with float32_softmax(MODULES[self.config.model_type]):
            return self.encoder(hidden, mask, head_mask=None, deterministic=deterministic)[0]

    def _positions(self, ids, mask):
        if self.config.model_type == "roberta":
            # RoBERTa counts from behind its padding id, and gives the padding that id's position.
            counted = jnp.cumsum(mask, axis=-1) + self.config.pad_token_id
            return jnp.where(mask > 0, counted, self.config.pad_token_id)
        return jnp.broadcast_to(jnp.arange(ids.shape[-1]), ids.shape)
