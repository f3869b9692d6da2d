"""Where in a stretch of speech each token of a text looks, in the eyes of a trained model."""

import numpy as np

from mmer_jax.inference import chunking
from mmer_jax.inference.predictor import Predictor
from mmer_jax.reporting.embeddings import Attention, spelled


def lacking(model) -> str:
    """Why a `LoadedModel` has no attention from text to speech; "" if it has."""
    modalities = model.config.model.modalities
    if len(modalities) == 1:
        one = {"audio": "hears speech", "text": "reads text"}[modalities[0]]
        return f"This model {one} alone: there is no attention from text to speech to show."
    if model.config.model.fusion == "concat":
        return "This model puts speech and text side by side: there is no attention between them."
    return ""


class Reader:
    """Reads the cross-modal attention of a predictor's model; the parameters are shared.

    Args:
      predictor: whose model has text-to-audio attention (see `lacking`).
    """

    def __init__(self, predictor: Predictor):
        self._predictor = predictor

    def __call__(self, wave: np.ndarray, text: str) -> Attention:
        """The attention over one window.

        Args:
          wave: float32 [n], 16 kHz, no longer than the model hears at once.
          text: what the text branch reads.

        Returns:
          Its weights [s, t] are means over the heads, without padding.
        """
        model, network = self._predictor.model, self._predictor.network
        encoded = network.encode(*self._predictor.speech_batch([wave], 1))
        ids, mask = self._predictor.text_batch([text], 1)
        weights = network.attention(encoded, ids, mask)[0]
        tokens, frames = int(mask.sum()), int(encoded["audio_mask"].sum())
        words = spelled(model.tokenizer_folder, ids[0, :tokens])
        return Attention("", weights[:tokens, :frames], words, wave)

    def strongest(self, wave: np.ndarray, found) -> tuple[Attention, int]:
        """The attention over the window that speaks most for the verdict, and its index.

        Args:
          wave: float32 [n], 16 kHz, the whole recording.
          found: the `Prediction` for it.
        """
        spans = chunking.cut(len(wave), self._predictor.preprocessor.max_samples)
        index = int(np.argmax([w.probabilities.get(found.label, 0.0) for w in found.timeline]))
        heard = wave[spans[index].start : spans[index].end]
        return self(heard, found.timeline[index].text), index
