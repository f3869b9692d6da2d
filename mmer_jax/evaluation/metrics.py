"""Recognition rates from a confusion matrix: counts that add up, divided once."""

import numpy as np


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
    recall, precision = _divide(right, present), _divide(right, guessed)
    f1 = _divide(2 * right, present + guessed)
    return {
        "wa": _mean(_divide(right.sum(keepdims=True), present.sum(keepdims=True))),
        "ua": _mean(recall),
        "macro_f1": _mean(f1),
        "weighted_f1": float(np.nansum(f1 * present) / max(present.sum(), 1)),
        "recall": _plain(recall),
        "precision": _plain(precision),
        "f1": _plain(f1),
    }


def _divide(a, b):
    return np.divide(a, b, out=np.full_like(a, np.nan), where=b > 0)


def _mean(values):
    return float(np.nanmean(values)) if np.isfinite(values).any() else 0.0


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
    """Mean and sample standard deviation over folds (0 for a single fold)."""
    values = np.asarray(values, np.float64)
    return {
        "mean": float(values.mean()),
        "std": float(values.std(ddof=1)) if len(values) > 1 else 0.0,
    }
