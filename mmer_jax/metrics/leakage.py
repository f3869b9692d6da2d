"""Test utterances whose words also occur in training: a model may know them by heart."""

import numpy as np

from mmer_jax.data import text
from mmer_jax.metrics import classification


def seen(train, test) -> np.ndarray:
    """Bool [n]: which of the test transcripts occur among the training transcripts.

    Args:
      train, test: transcripts, each a sequence of texts. An empty one is never seen.
    """
    known = text.spoken(train)
    return np.array([text.normalized(t) in known for t in test], bool)


def split_rates(is_seen, label, prediction, classes: int) -> dict:
    """`share` of seen utterances, and `count` and the rates of either part.

    Args:
      is_seen: bool [n], see `seen`.
      label, prediction: int [n].
      classes: c.

    Returns:
      `share`, and under `seen` and `unseen` what `classification.rates` gives, with `count`; None
      for a part without utterances.
    """
    is_seen = np.asarray(is_seen, bool)
    label, prediction = np.asarray(label), np.asarray(prediction)

    def part(rows):
        if not rows.any():
            return None
        found = classification.rates(
            classification.confusion(label[rows], prediction[rows], classes)
        )
        return {"count": int(rows.sum()), **found}

    share = float(is_seen.mean()) if len(is_seen) else 0.0
    return {"share": share, "seen": part(is_seen), "unseen": part(~is_seen)}
