"""Intervals and paired comparisons by resampling speakers or dialogs, not utterances.

Utterances of one speaker or one conversation are alike: drawn one by one they would look like more
evidence than they are. Source: Bisani & Ney, "Bootstrap estimates for confidence intervals in ASR
performance evaluation" (ICASSP 2004); Field & Welsh, "Bootstrapping clustered data" (2007).
"""

import numpy as np

RATES = ("wa", "ua", "macro_f1", "weighted_f1")
RESAMPLES = 2_000
LEVEL = 0.95


def by_group(groups, label, prediction, classes: int) -> dict[str, np.ndarray]:
    """Confusion counts int64 [c, c] of each group's utterances.

    Args:
      groups: name of each utterance's speaker or dialog, [n].
      label, prediction: int [n].
      classes: c.
    """
    names = sorted(set(groups))
    at = {name: i for i, name in enumerate(names)}
    counts = np.zeros((len(names), classes, classes), np.int64)
    np.add.at(counts, ([at[g] for g in groups], np.asarray(label), np.asarray(prediction)), 1)
    return dict(zip(names, counts))


def intervals(counts: dict[str, np.ndarray], seed: int = 0) -> dict:
    """95 % percentile intervals of the rates over all utterances.

    Args:
      counts: see `by_group`.
      seed: of the draws.

    Returns:
      rate -> [low, high]; `groups` and `resamples`, how many there were. With fewer than two
      groups there is nothing to draw from: the intervals are None.
    """
    out = {"groups": len(counts), "resamples": RESAMPLES}
    if len(counts) < 2:
        return out | dict.fromkeys(RATES)
    drawn = rates(_resample(np.stack([counts[k] for k in sorted(counts)])[None], seed)[:, 0])
    tails = [50 * (1 - LEVEL), 100 - 50 * (1 - LEVEL)]
    return out | {name: [float(x) for x in np.percentile(v, tails)] for name, v in drawn.items()}


def paired(ours: dict, theirs: dict, seed: int = 0) -> dict:
    """Difference of two systems on the same utterances, both drawn by the same groups.

    Args:
      ours, theirs: see `by_group`; the same groups with the same utterances of each class.
      seed: of the draws.

    Returns:
      rate -> {`difference` ours - theirs, `interval` [low, high], `p`}: p is two-sided, twice the
      smaller share of draws in which the difference has the other sign or is 0.

    Raises:
      ValueError: the two were not tested on the same utterances.
    """
    if ours.keys() != theirs.keys() or any(
        (ours[g].sum(1) != theirs[g].sum(1)).any() for g in ours
    ):
        raise ValueError("The two systems were not tested on the same utterances.")
    names = sorted(ours)
    both = np.stack([[system[g] for g in names] for system in (ours, theirs)])
    whole, drawn = rates(both.sum(1)), rates(_resample(both, seed))
    tails = [50 * (1 - LEVEL), 100 - 50 * (1 - LEVEL)]
    out = {}
    for name in RATES:
        differences = drawn[name][:, 0] - drawn[name][:, 1]
        # The observed data count as one draw: no p of 0 from a finite number of them.
        smaller = min((differences <= 0).sum(), (differences >= 0).sum())
        out[name] = {
            "difference": float(whole[name][0] - whole[name][1]),
            "interval": [float(x) for x in np.percentile(differences, tails)],
            "p": float(min(1.0, 2 * (smaller + 1) / (RESAMPLES + 1))),
        }
    return out


def _resample(counts, seed):
    """[s, g, c, c] -> [RESAMPLES, s, c, c]: sums over g groups drawn with replacement."""
    groups = counts.shape[1]
    rng = np.random.default_rng(seed)
    times = rng.multinomial(groups, np.full(groups, 1 / groups), RESAMPLES)
    return np.einsum("rg,sgij->rsij", times, counts)


def rates(matrix: np.ndarray) -> dict[str, np.ndarray]:
    """`metrics.rates` of many confusion matrices at once: [..., c, c] -> each rate [...]."""
    matrix = np.asarray(matrix, np.float64)
    right = np.diagonal(matrix, axis1=-2, axis2=-1)
    present, guessed = matrix.sum(-1), matrix.sum(-2)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = right / present
        f1 = 2 * right / (present + guessed)
    return {
        "wa": right.sum(-1) / np.maximum(present.sum(-1), 1),
        "ua": np.nan_to_num(np.nanmean(recall, -1)),
        "macro_f1": np.nan_to_num(np.nanmean(f1, -1)),
        "weighted_f1": np.nansum(f1 * present, -1) / np.maximum(present.sum(-1), 1),
    }
