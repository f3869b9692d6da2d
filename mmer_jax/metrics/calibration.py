"""How far a stated probability is from how often it is right, and the temperature that mends it.

Source: Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017).
"""

import numpy as np
from scipy import optimize

from mmer_jax.metrics.classification import log_loss

BINS = 15
# Beyond these a temperature says that the data can't tell: all of it right, or none.
BOUNDS = (0.05, 20.0)
Z = 1.959964  # of the standard normal distribution, one-sided 97.5 %


def reliability(probabilities: np.ndarray, label: np.ndarray, bins: int = BINS) -> dict:
    """Utterances by their confidence, the probability of the class they are given.

    Args:
      probabilities: [n, c], rows that sum to 1.
      label: int [n].
      bins: equally wide, from 0 to 1.

    Returns:
      Lists of `bins`: `count`, and mean `confidence` and `accuracy` (None in an empty bin).
    """
    confidence = probabilities.max(-1)
    right = probabilities.argmax(-1) == np.asarray(label)
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    count = np.bincount(which, minlength=bins)
    sums = [np.bincount(which, values, minlength=bins) for values in (confidence, right)]
    means = [[float(s / n) if n else None for s, n in zip(values, count)] for values in sums]
    return {"count": count.tolist(), "confidence": means[0], "accuracy": means[1]}


def expected_calibration_error(
    probabilities: np.ndarray, label: np.ndarray, bins: int = BINS
) -> float:
    """Mean of |accuracy - confidence| over the bins of `reliability`, weighted by utterances."""
    columns = reliability(probabilities, label, bins)
    rows = zip(columns["count"], columns["accuracy"], columns["confidence"])
    return float(sum(n * abs(a - c) for n, a, c in rows if n) / max(len(label), 1))


def fit_temperature(logits: np.ndarray, label: np.ndarray) -> float:
    """T of the least cross-entropy of softmax(logits / T), between `BOUNDS`.

    Fit it on held-out utterances of the training sessions, never on those that it is then used on.

    Args:
      logits: [n, c].
      label: int [n].
    """

    def loss(log_t):
        return log_loss(logits / np.exp(log_t), label)

    best = optimize.minimize_scalar(loss, bounds=np.log(BOUNDS), method="bounded")
    return float(np.exp(best.x))


def ua_lower_bound(matrix: np.ndarray) -> float:
    """One-sided 97.5 % lower bound of UA, from a confusion matrix [c, c] of counts.

    L = mean(p) - sqrt(sum_k (p_k - l_k)^2) / c with each class' recall p_k and Wilson's lower bound
    l_k of it, both 0 for a class without utterances: what has not been seen is not claimed. Counts
    utterances as independent; those of one speaker or dialog are alike, so the true bound is lower.

    Source: Zou, Huang and Zhang, "A note on confidence interval estimation for a linear function of
    binomial proportions" (2009); Wilson, "Probable inference" (1927).
    """
    matrix = np.asarray(matrix, np.float64)
    n, right = np.maximum(matrix.sum(1), 1), np.diag(matrix)
    p = right / n
    spread = Z * np.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2))
    low = np.maximum((p + Z**2 / (2 * n) - spread) / (1 + Z**2 / n), 0)
    return float(p.mean() - np.sqrt(((p - low) ** 2).sum()) / len(p))
