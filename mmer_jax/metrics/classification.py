"""Recognition rates from a confusion matrix: counts that add up, divided once."""

import pkgutil

import numpy as np

from mmer_jax.metrics import METRICS


def confusion(label, prediction, classes: int) -> np.ndarray:
    """int64 [c, c]: utterances of class (row) that were taken for class (column)."""
    matrix = np.zeros((classes, classes), np.int64)
    np.add.at(matrix, (np.asarray(label), np.asarray(prediction)), 1)
    return matrix


def weighted_accuracy(counts: np.ndarray) -> np.ndarray:
    """WA = correct / all, of counts [..., c, c]."""
    right = np.diagonal(counts, axis1=-2, axis2=-1)
    return right.sum(-1) / np.maximum(counts.sum(-1).sum(-1), 1)


def unweighted_accuracy(counts: np.ndarray) -> np.ndarray:
    """UA = mean of the recalls of the classes that have utterances."""
    return _mean(recall(counts))


def macro_f1(counts: np.ndarray) -> np.ndarray:
    """Mean of the F1 of the classes that are present or predicted."""
    return _mean(f1(counts))


def weighted_f1(counts: np.ndarray) -> np.ndarray:
    """Mean of the classes' F1, weighted with their utterances."""
    present = counts.sum(-1)
    return np.nansum(f1(counts) * present, -1) / np.maximum(present.sum(-1), 1)


def recall(counts: np.ndarray) -> np.ndarray:
    """Of each class: [..., c, c] -> [..., c]; NaN where it has no utterance."""
    return _divide(np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(-1))


def precision(counts: np.ndarray) -> np.ndarray:
    """Of each class: [..., c, c] -> [..., c]; NaN where it is never predicted."""
    return _divide(np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(-2))


def f1(counts: np.ndarray) -> np.ndarray:
    """Of each class: [..., c, c] -> [..., c]; NaN where it is neither present nor predicted."""
    right = np.diagonal(counts, axis1=-2, axis2=-1)
    return _divide(2 * right, counts.sum(-1) + counts.sum(-2))


def overall(matrix: np.ndarray) -> dict[str, np.ndarray]:
    """All metrics of the registry, of many confusion matrices at once: [..., c, c] -> [...]."""
    counts = np.asarray(matrix, np.float64)
    return {name: pkgutil.resolve_name(m.function)(counts) for name, m in METRICS.items()}


def rates(matrix: np.ndarray) -> dict:
    """All metrics of one confusion matrix [c, c] by name, and `recall`, `precision`, `f1`.

    The last three are lists over the classes, None where undefined.
    """
    counts = np.asarray(matrix, np.float64)
    by_class = {"recall": recall(counts), "precision": precision(counts), "f1": f1(counts)}
    return {name: float(value) for name, value in overall(counts).items()} | {
        name: _plain(values) for name, values in by_class.items()
    }


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
