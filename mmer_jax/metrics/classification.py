"""Recognition rates from a confusion matrix: counts that add up, divided once."""

import numpy as np

RATES = ("wa", "ua", "macro_f1", "weighted_f1")


def confusion(label, prediction, classes: int) -> np.ndarray:
    """int64 [c, c]: utterances of class (row) that were taken for class (column)."""
    matrix = np.zeros((classes, classes), np.int64)
    np.add.at(matrix, (np.asarray(label), np.asarray(prediction)), 1)
    return matrix


def rates(matrix: np.ndarray) -> dict:
    """The field's figures from a confusion matrix [c, c] of counts.

    WA (weighted accuracy)   = correct / all
    UA (unweighted accuracy) = mean of the classes' recalls
    macro-F1                 = mean of the classes' F1
    weighted F1              = mean of the classes' F1, weighted with their utterances

    A class without utterances counts in no mean over recalls; in F1 a class that is neither
    present nor predicted counts in none.

    Returns:
      `wa`, `ua`, `macro_f1`, `weighted_f1`, and per class lists `recall`, `precision`, `f1`
      (None where undefined).
    """
    matrix = np.asarray(matrix, np.float64)
    right, present, guessed = np.diag(matrix), matrix.sum(1), matrix.sum(0)
    return {
        **{name: float(value) for name, value in overall(matrix).items()},
        "recall": _plain(_divide(right, present)),
        "precision": _plain(_divide(right, guessed)),
        "f1": _plain(_divide(2 * right, present + guessed)),
    }


def overall(matrix: np.ndarray) -> dict[str, np.ndarray]:
    """The four figures of `rates` for many confusion matrices at once: [..., c, c] -> [...]."""
    matrix = np.asarray(matrix, np.float64)
    right = np.diagonal(matrix, axis1=-2, axis2=-1)
    present, guessed = matrix.sum(-1), matrix.sum(-2)
    f1 = _divide(2 * right, present + guessed)
    count = np.maximum(present.sum(-1), 1)
    return {
        "wa": right.sum(-1) / count,
        "ua": _mean(_divide(right, present)),
        "macro_f1": _mean(f1),
        "weighted_f1": np.nansum(f1 * present, -1) / count,
    }


def by_group(groups, label, prediction, classes: int) -> dict[str, np.ndarray]:
    """Confusion counts int64 [c, c] of each group's utterances.

    Args:
      groups: name of each utterance's group, for example its speaker, [n].
      label, prediction: int [n].
      classes: c.
    """
    names = sorted(set(groups))
    at = {name: i for i, name in enumerate(names)}
    counts = np.zeros((len(names), classes, classes), np.int64)
    np.add.at(counts, ([at[g] for g in groups], np.asarray(label), np.asarray(prediction)), 1)
    return dict(zip(names, counts))


def _divide(a, b):
    return np.divide(a, b, out=np.full_like(a, np.nan), where=b > 0)


def _mean(values):
    """Over the last axis, without NaN; 0 where all are."""
    known = np.isfinite(values)
    return np.where(known, values, 0).sum(-1) / np.maximum(known.sum(-1), 1)


def _plain(values):
    return [float(v) if np.isfinite(v) else None for v in values]


def softmax(logits: np.ndarray) -> np.ndarray:
    """Class probabilities [n, c] of logits [n, c]."""
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def log_loss(logits: np.ndarray, label: np.ndarray) -> float:
    """Mean cross-entropy in nats of logits [n, c] against labels [n]."""
    shifted = logits - logits.max(-1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return float(-log_p[np.arange(len(label)), label].mean())


def mean_and_std(values) -> dict:
    """Mean and sample standard deviation; None for the deviation of a single value."""
    values = np.asarray(values, np.float64)
    return {
        "mean": float(values.mean()),
        "std": float(values.std(ddof=1)) if len(values) > 1 else None,
    }
