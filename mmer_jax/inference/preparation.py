"""From waves and texts to the batches that the network reads, prepared as evaluation does."""

import numpy as np

from mmer_jax.data import audio, text
from mmer_jax.data.batching import FRAME
from mmer_jax.inference import shapes
from mmer_jax.inference.model import LoadedModel
from mmer_jax.models.encoders.wav2vec2 import Wav2Vec2Encoder


class Preparation:
    """What a model's inputs look like.

    Args:
      model: whose.

    Attributes:
      longest: samples that the model hears at once.
    """

    def __init__(self, model: LoadedModel):
        self._uses_audio, self._uses_text = model.uses_audio, model.uses_text
        self.longest = longest(model)
        self._lengths = shapes.lengths(self.longest)
        self._normalized = normalized(model)
        self._tokenizer = model.tokenizer

    def padded_length(self, samples: int) -> int:
        """The static length that `samples` are padded to; 0 for a model that hears nothing."""
        return shapes.holding(samples, self._lengths) if self._uses_audio else 0

    def speech(self, waves, length: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Waves [n] -> float32 [size, length], int32 lengths [size]; the last one fills up rows.

        Where the model hears nothing the array is empty.
        """
        if not self._uses_audio:
            return np.zeros((size, 0), np.float32), np.zeros(size, np.int32)
        prepared = [audio.normalize(w) if self._normalized else w for w in waves]
        return audio.pad(prepared + prepared[-1:] * (size - len(prepared)), length)

    def text(self, texts, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Texts -> int32 ids and mask [size, s]; the last one fills up rows.

        Where the model reads nothing they are one column that nobody looks at.
        """
        if not self._uses_text:
            return np.zeros((size, 1), np.int32), np.ones((size, 1), np.int32)
        ids = [self._tokenizer.ids(words) for words in texts]
        longest = shapes.tokens(max(map(len, ids)), self._tokenizer.max_tokens)
        ids += ids[-1:] * (size - len(ids))
        padded, lengths = text.pad(ids, longest, self._tokenizer.pad_id)
        return padded, (np.arange(longest)[None] < lengths[:, None]).astype(np.int32)


def longest(model: LoadedModel) -> int:
    """Samples: where training cut utterances, or where the audio encoder's positions end."""
    encoder = model.model.audio_encoder
    positions = getattr(getattr(encoder, "config", None), "max_source_positions", None)
    cut = round(model.config.data.max_seconds * audio.SAMPLE_RATE)
    return min(cut, positions * FRAME) if positions else cut


def normalized(model: LoadedModel) -> bool:
    """As `factory.normalizes`, by the module: the pretrained folder need not be there any more."""
    option, encoder = model.config.data.normalize, model.model.audio_encoder
    usual = isinstance(encoder, Wav2Vec2Encoder)
    automatic = usual if encoder is None else getattr(encoder.config, "do_normalize", usual)
    return option == "utterance" or (option == "auto" and automatic)
