"""How often intervals and p values hold: `python -m benchmarks.intervals`.

Draws test sides from a population of sessions or speakers that differ in difficulty, and two
systems that are equally good in it: an interval should cover the population's value in 95 % of the
draws, and the systems should differ with p < 0.05 in 5 %. Everything is computed with the functions
that the reports use, `mmer_jax/metrics/jackknife.py`. The effects are normal, in logits of a
recall: of a group 0.5 and of each class in it 0.4, the same for both systems; of a group and of a
class in it 0.3 on each system by itself; of training, where it has luck of its own, 0.3. Group
sizes are log-normal (sigma 0.5: the middle 95 % differ by a factor of 7) with a median of 60
utterances of a speaker and 1000 of a session; each class is absent from a group with a probability
of 0.15. A draw for which the reports print no interval (a class in too few groups) counts nowhere.
"""

import argparse
import dataclasses
import platform
import time

import numpy as np
import scipy.special

from mmer_jax.metrics import METRICS, classification, jackknife

CLASSES = 4
CHUNK = 500  # draws at once


@dataclasses.dataclass(frozen=True)
class Cell:
    """One setting."""

    title: str
    groups: int  # test sessions (a fold each, with `folds`) or speakers
    folds: bool = False  # whether each group is tested by a model of its own
    seeds: int = 0  # trainings of one fold; 0: the training never varies
    models: int = 0  # folds of another corpus, whose models of each seed are tested on these groups
    luck: float = 0.0  # deviation of a training's effect, in logits
    shared: float = 0.0  # variance of what a fold's training sessions do / its test session does
    recall: float = 0.85  # of the population, in logits
    printed: str = "yes"  # whether the reports print such an interval, `with NB` beside it


CELLS = (
    *(Cell(f"{g} groups", g) for g in (6, 10, 24, 91)),
    Cell("10 groups, recalls of 95 %", 10, recall=3.0),
    Cell("5 folds", 5, folds=True),
    Cell("5 folds, training has luck", 5, folds=True, luck=0.3),
    Cell("5 folds, recalls of 95 %", 5, folds=True, luck=0.3, recall=3.0),
    Cell("1 fold, 6 speakers, 2 seeds", 6, seeds=2, luck=0.3),
    Cell("1 fold, 10 speakers, 3 seeds", 10, seeds=3, luck=0.3),
    Cell("1 fold, 10 speakers, 3 equal seeds", 10, seeds=3),
    Cell("another corpus: 10 speakers, 5 models", 10, seeds=1, models=5, luck=0.3),
    Cell("another corpus: 6 speakers, 2 models", 6, seeds=1, models=2, luck=0.3),
    Cell("another corpus: 24 speakers, 5 models of 2 seeds", 24, seeds=2, models=5, luck=0.3),
    Cell("another corpus: 24 speakers, 5 equal models", 24, seeds=1, models=5),
    Cell("2 groups", 2, printed="no"),
    Cell("4 groups", 4, printed="no"),
    *(Cell(f"5 folds, training sessions share {s} x", 5, folds=True, shared=s, printed="with NB")
      for s in (0.25, 0.5, 1.0)),
)  # fmt: skip


def draw(cell: Cell, draws: int, rng) -> tuple[np.ndarray, np.ndarray]:
    """Confusion counts [draws, 2, seeds, g, c, c] of two systems, and their mean expectation."""
    median = 1000 if cell.folds else 60
    size = rng.lognormal(np.log(median), 0.5, (draws, cell.groups)).astype(int) + 2
    share = rng.gamma(2.0, size=(draws, cell.groups, CLASSES))
    share *= rng.random(share.shape) > 0.15
    share[share.sum(-1) == 0] = 1
    n = rng.multinomial(size, share / share.sum(-1, keepdims=True))[:, None, None]
    right = scipy.special.expit(cell.recall + _effects(cell, draws, rng))
    p = np.array([[0, 3, 2, 1], [1, 0, 3, 2], [2, 1, 0, 3], [3, 2, 1, 0]]) / 6
    p = p * (1 - right)[..., None] + np.eye(CLASSES) * right[..., None]
    expected = (n[..., None] * p).mean((0, 1, 2, 3))
    return rng.multinomial(np.broadcast_to(n, right.shape), p), expected


def _effects(cell, draws, rng):
    """Logits [draws, 2, seeds, g, c] that are added to the population's."""
    g, seeds = cell.groups, max(cell.seeds, 1) * max(cell.models, 1)
    normal = lambda deviation, *shape: deviation * rng.standard_normal((draws, *shape))  # noqa: E731
    difficulty = normal(0.5, 1, 1, g, 1) + normal(0.4, 1, 1, g, CLASSES)
    own = normal(0.3, 2, 1, g, 1) + normal(0.3, 2, 1, g, CLASSES)
    luck = normal(cell.luck, 2, seeds, g if cell.folds else 1, 1)
    if cell.models:  # what their training sides do, and their seeds where there are several
        of_fold = normal(cell.luck, 2, cell.models, 1, 1, 1)
        of_seed = normal(cell.luck * (cell.seeds > 1), 2, 1, cell.seeds, 1, 1)
        luck = luck + (of_fold + of_seed).reshape(luck.shape)
    if not cell.shared:
        return difficulty + own + luck
    # A fold has the sum over its training sessions: `shared` times the variance of what its test
    # session does to all systems alike, and to each by itself.
    quality = normal(np.sqrt(0.5**2 + 0.4**2 / CLASSES), 1, 1, g, 1)
    quality = quality + normal(np.sqrt(0.3**2 + 0.3**2 / CLASSES), 2, 1, g, 1)
    quality *= np.sqrt(cell.shared / (g - 1))
    return difficulty + own + luck + quality.sum(3, keepdims=True) - quality


def simulate(cell: Cell, draws: int, seed: int = 0) -> dict[str, dict[str, float]]:
    """Metric -> `coverage` of one system's interval and `false_positives` of two equal systems.

    Of folds also `nb_coverage` and `nb_false_positives`, with Nadeau and Bengio's error.
    """
    rng = np.random.default_rng(seed)
    chunks = [draw(cell, min(CHUNK, draws - i), rng) for i in range(0, draws, CHUNK)]
    truth = classification.overall(np.mean([expected for _, expected in chunks], axis=0))
    parts = [_held(cell, counts, truth) for counts, _ in chunks]
    return {
        name: {k: _share(np.concatenate([p[name][k] for p in parts])) for k in parts[0][name]}
        for name in METRICS
    }


def _held(cell, counts, truth):
    """Metric -> whether each draw's interval covers and whether each p is below 0.05."""
    groups, by_training = counts.sum(2), [counts.sum(3)]
    if cell.models:
        shape = (*counts.shape[:2], cell.models, cell.seeds, CLASSES, CLASSES)
        by_training = [by_training[0].reshape(shape).sum(axis) for axis in (3, 2)]
    by_training = [classification.overall(m) for m in by_training if m.shape[2] > 1]
    ratio = 1 / (cell.groups - 1)  # n_test / n_train of leave one session out
    held = {name: {} for name in METRICS}
    for systems in (1, 2):
        for name, (value, v) in jackknife.spreads(groups[:, :systems]).items():
            degrees = jackknife.degrees(groups)
            if cell.seeds:
                values = [x[name][:, i] for x in by_training for i in range(systems)]
                v, degrees = jackknife.with_seeds(v, degrees, values)
            held[name] |= _outcome(systems, value, v, degrees, truth[name])
            if cell.folds:
                v = jackknife.corrected(v, cell.groups, ratio)
                nb = _outcome(systems, value, v, degrees, truth[name])
                held[name] |= {f"nb_{k}": x for k, x in nb.items()}
    return held


def _outcome(systems, value, variance, degrees, truth):
    if systems == 2:
        p = jackknife.p_value(value, variance, degrees)
        return {"false_positives": np.where(np.isfinite(p), p < 0.05, np.nan)}
    low, high = jackknife.interval(value, variance, degrees, False)
    return {"coverage": np.where(np.isfinite(low), (low <= truth) & (truth <= high), np.nan)}


def _share(values):
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None


def error(share: float, draws: int) -> float:
    """Monte Carlo standard error of a share."""
    return (share * (1 - share) / draws) ** 0.5


def _percent(share):
    return "-" if share is None else f"{100 * share:.1f}"


def main(argv=None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=10_000, help="of each setting")
    parser.add_argument("--seed", type=int, default=0, help="of the draws")
    args = parser.parse_args(argv)
    began = time.monotonic()
    kinds = ("coverage", "false_positives", "nb_coverage", "nb_false_positives")
    titles = ("coverage", "false positives", "coverage (NB)", "false positives (NB)")
    print("| setting | printed |", " | ".join(titles), "|\n|-|-|-|-|-|-|")
    for cell in CELLS:
        found = simulate(cell, args.draws, args.seed).values()
        cells = [" / ".join(_percent(m[k]) for m in found if k in m) for k in kinds]
        print("|", " | ".join([cell.title, cell.printed, *cells]), "|", flush=True)
    errors = (f"{100 * error(share, args.draws):.1f} at {share:.0%}" for share in (0.95, 0.05))
    print("\nIn percent, each of WA / UA / macro-F1 / weighted F1. Monte Carlo standard error in "
          f"points: {', '.join(errors)}.\n{args.draws} draws a setting, seed {args.seed}; Python "
          f"{platform.python_version()}, numpy {np.__version__}, scipy {scipy.__version__}; "
          f"{time.monotonic() - began:.0f} s.")  # fmt: skip


if __name__ == "__main__":
    main()
