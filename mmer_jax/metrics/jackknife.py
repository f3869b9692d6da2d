"""Standard errors, intervals and p values by leaving out one group of utterances at a time.

Utterances of one session or speaker are alike, so the group is the unit. Sources: Tukey, "Bias and
confidence in not quite large samples" (1958); Nadeau & Bengio, "Inference for the generalization
error" (2003); Satterthwaite, "An approximate distribution of estimates of variance components"
(1946); Kish, "Survey sampling" (1965), for the effective number of groups. `python -m
benchmarks.intervals` simulates how often these intervals hold.
"""

import numpy as np
from scipy import special, stats

from mmer_jax.metrics import METRICS, classification

LEVEL = 0.95
# The fewest of each: below, t quantiles are so large that an interval would say next to nothing.
FOLDS, SPEAKERS, SEEDS = 5, 6, 2
# A class must be in this many groups and in this share of them, or means over classes have no
# interval: UA's covers 90 % with a class in 2 of 24 groups.
CLASS_GROUPS, CLASS_SHARE = 3, 0.2


def scope(folds: int, speakers: int, seeds: int) -> str | None:
    """The rule table: units that an interval and a p value are over, None for neither.

    Args:
      folds: number of folds whose test sides share no conversation.
      speakers: number of test speakers.
      seeds: number of seeds.

    Returns:
      `folds` from 5 folds on; `speakers and seeds` for one fold with at least 6 speakers and 2
      seeds; None for anything less. Models of different folds that are tested on the same speakers
      are one fold, and each of them a seed.
    """
    if folds >= FOLDS:
        return "folds"
    if folds == 1 and speakers >= SPEAKERS and seeds >= SEEDS:
        return "speakers and seeds"
    return None


def spreads(counts: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Metrics over all groups, and their delete-one-group jackknife variances.

    v = (g - 1) / g * sum_i (r_i - mean r)^2, r_i being the metric without group i.

    Args:
      counts: confusion counts [..., s, g, c, c] of s = 1 system, or of s = 2 on the same groups.

    Returns:
      metric -> (value [...], variance [...]), of two systems the first's less the second's. The
      variance is NaN for UA and macro-F1 where a class is in too few groups: its own spread
      between groups can't be known, and without it the mean over classes is another quantity.
    """
    counts = np.asarray(counts, np.float64)
    groups = counts.shape[-3]
    total = counts.sum(-3, keepdims=True)
    whole, left = classification.overall(total), classification.overall(total - counts)
    having = (counts.sum(-1) > 0).any(-3).sum(-2)  # [..., c]
    rare = ((having > 0) & (having < max(CLASS_GROUPS, CLASS_SHARE * groups))).any(-1)
    spread = {}
    for name, metric in METRICS.items():
        replicates = _contrast(left[name])
        around = replicates - replicates.mean(-1, keepdims=True)
        variance = (groups - 1) / groups * (around**2).sum(-1)
        if metric.over_classes:
            variance = np.where(rare, np.nan, variance)
        spread[name] = _contrast(whole[name])[..., 0], variance
    return spread


def _contrast(values):
    """[..., s, g] -> [..., g]: of one system its values, of two their difference."""
    return values[..., 0, :] - values[..., 1, :] if values.shape[-2] == 2 else values[..., 0, :]


def degrees(counts: np.ndarray) -> np.ndarray:
    """Degrees of freedom [...] of `spreads`: g - 1 for groups of one size, fewer for uneven ones.

    (sum n)^2 / sum n^2 - 1 of the groups' sizes n: a few large groups decide as much as if there
    were only these.
    """
    size = np.asarray(counts, np.float64)[..., 0, :, :, :].sum((-1, -2))
    return size.sum(-1) ** 2 / (size**2).sum(-1) - 1


def satterthwaite(parts: list[tuple]) -> tuple[np.ndarray, np.ndarray]:
    """Sum of independent variances and its degrees, from (variance, degrees) of each."""
    total = sum(v for v, _ in parts)
    with np.errstate(invalid="ignore", divide="ignore"):
        return total, total**2 / sum(v**2 / d for v, d in parts)


def with_seeds(variance, degrees, by_training) -> tuple[np.ndarray, np.ndarray]:
    """Adds the chance of training to a variance over speakers: v + sum over systems of s^2 / S.

    Args:
      variance, degrees: [...], over the speakers.
      by_training: of each system its values [..., S] with each of S seeds; and, where models of
        several folds were tested on these speakers, its values with each fold.

    Returns:
      The variance and Satterthwaite's degrees, [...].
    """
    chance = [(x.var(-1, ddof=1) / x.shape[-1], x.shape[-1] - 1) for x in by_training]
    return satterthwaite([(variance, degrees), *chance])


def interval(value, variance, degrees, difference: bool) -> tuple[np.ndarray, np.ndarray]:
    """Both ends of the 95 % interval, by the t distribution.

    A metric near 0 or 1 has a skewed spread: its interval is symmetric in log(x / (1 - x)). That
    of a difference is symmetric in itself.

    Args:
      value, variance, degrees: [...], see `spreads` and `degrees`.
      difference: whether the value is one of two systems.

    Returns:
      low [...], high [...]; NaN where nothing varies or where the value is 0 or 1.
    """
    value = np.asarray(value, np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        reach = _error(variance) * stats.t.ppf(0.5 + LEVEL / 2, degrees)
        if difference:
            return np.maximum(value - reach, -1), np.minimum(value + reach, 1)
        reach = reach / (value * (1 - value))
        middle = special.logit(value)
        return special.expit(middle - reach), special.expit(middle + reach)


def p_value(difference, variance, degrees) -> np.ndarray:
    """Two-sided p of no difference; NaN where nothing varies."""
    return 2 * stats.t.sf(np.abs(difference) / _error(variance), degrees)


def _error(variance):
    # What rounding leaves of no variation at all is no estimate of it.
    return np.sqrt(np.where(np.asarray(variance) > 1e-20, variance, np.nan))


def corrected(variance, groups: int, test_to_train: float):
    """Nadeau and Bengio's variance: 1/k + n_test/n_train in place of 1/k, for k folds.

    The folds' training sets share data, which the plain variance knows nothing of.
    """
    return variance * (1 + groups * test_to_train)
