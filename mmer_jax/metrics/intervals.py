"""Intervals of a system's metrics, or of two systems' differences, from results of folds."""

import numpy as np

from mmer_jax.metrics import METRICS, classification, jackknife


def estimate(*systems: list, same_test: bool = False) -> dict | None:
    """Metrics with intervals where `jackknife.scope` allows for them.

    Args:
      systems: `FoldResult`s of one system or of two on the same test utterances. Only (seed, fold)
        pairs count that all of them have finished.
      same_test: whether the models of all folds were tested on the same utterances, those of
        another corpus.

    Returns:
      None where no such pair is left, else a dict for JSON: `over` (see `jackknife.scope`),
      `groups` (how many were left out one at a time), `runs` (how many pairs), `same_test`,
      `folds`, `seeds`, `speakers` ("" for those without a name), `test_to_train` (utterances of a
      test side / of those that its model was trained on, over folds alone), `metrics` and `parts`.
      `metrics` has per metric its `value` over all utterances, `error` (standard error),
      `degrees`, `interval` [low, high], `p` (of a difference alone) and, over folds alone,
      `corrected`: `error`, `interval` and `p` with Nadeau and Bengio's variance; each None
      where it can't be known. `parts` has under `fold`, `seed` and `speaker` the metrics of
      each by itself, those of the seeds over `folds_of_all_seeds`. Of two
      systems all are the first's less the second's.

    Raises:
      ValueError: the two were not tested on the same utterances.
    """
    runs = [{r.key: r for r in results} for results in systems]
    shared = sorted(set.intersection(*map(set, runs)))
    if not shared:
        return None
    runs = [[one[key] for key in shared] for one in runs]
    seeds, folds = (sorted({key[i] for key in shared}) for i in (0, 1))
    speakers = _speakers(runs)
    named = "" not in speakers
    units = independent(runs[0])
    if same_test:
        over = jackknife.scope(1, named * len(speakers), len(shared))
    else:
        # Folds of one conversation are neither one fold nor several.
        over = jackknife.scope(
            len(units) if len(folds) == 1 else max(len(units), 2), named * len(speakers), len(seeds)
        )
    # Whether they have a conversation or a speaker in common must be known.
    if not all(p.speaker or p.dialog for r in runs[0] for p in r.predictions):
        over = None
    counts = _per(runs, "fold")
    if over == "folds":
        groups = np.stack([np.sum([counts[k] for k in unit], axis=0) for unit in units], axis=1)
    elif over:
        groups = np.stack(list(speakers.values()), axis=1)
    else:
        groups = np.sum([counts[k] for k in folds], axis=0)[:, None]
    ratio = _test_to_train(runs[0], units) if over == "folds" else None
    return {
        "over": over, "groups": groups.shape[1] if over else None, "runs": len(shared),
        "same_test": same_test, "folds": folds, "seeds": seeds, "speakers": list(speakers),
        "test_to_train": ratio,
        "metrics": _metrics(groups, over, _by_training(runs, same_test), ratio),
        "parts": {
            "fold": _each(counts), "seed": _each(_per(_of_all_seeds(runs), "seed")),
            "speaker": _each(speakers),
        },
    }  # fmt: skip


def independent(results: list) -> list[list[int]]:
    """Lists of fold numbers; folds that test one speaker or conversation are one unit."""
    units = []
    for number in sorted({r.fold for r in results}):
        rows = [p for r in results if r.fold == number for p in r.predictions]
        names = {(kind, getattr(p, kind)) for p in rows for kind in ("dialog", "speaker")}
        folds, names = [number], {name for name in names if name[1]}
        for unit in [u for u in units if u[1] & names]:
            units.remove(unit)
            folds, names = unit[0] + folds, unit[1] | names
        units.append((folds, names))
    return [folds for folds, _ in units]


def folds_of_all_seeds(keys) -> list[int]:
    """Folds that every seed of the (seed, fold) pairs has: on them seeds differ by chance alone."""
    by_seed = {}
    for seed, fold in keys:
        by_seed.setdefault(seed, set()).add(fold)
    return sorted(set.intersection(*by_seed.values()))


def _of_all_seeds(runs):
    folds = folds_of_all_seeds(r.key for r in runs[0])
    return [[r for r in results if r.fold in folds] for results in runs]


def _per(runs, key):
    """Value of `key` -> confusion counts [s, c, c] per seed of the runs that have it."""
    counts = {}
    for value in sorted({getattr(r, key) for r in runs[0]}):
        same = [[r for r in results if getattr(r, key) == value] for results in runs]
        number = len({r.seed for r in same[0]})
        counts[value] = np.array([sum(r.confusion for r in rs) for rs in same]) / number
    return counts


def _speakers(runs):
    """Speaker -> confusion counts [s, c, c] over all runs together."""
    by_system = [_by_speaker(results) for results in runs]
    one, other = by_system[0], by_system[-1]
    if one.keys() != other.keys() or any((one[k].sum(1) != other[k].sum(1)).any() for k in one):
        raise ValueError("The two systems were not tested on the same utterances.")
    return {name: np.array([counts[name] for counts in by_system]) for name in by_system[0]}


def _by_speaker(results):
    """Confusion counts [c, c] of each speaker's utterances."""
    counts, classes = {}, len(results[0].label_names)
    for r in results:
        for p, label, predicted in zip(r.predictions, r.labels, r.predicted):
            speaker = counts.setdefault(p.speaker, np.zeros((classes, classes), np.int64))
            speaker[label, predicted] += 1
    return dict(sorted(counts.items()))


def _by_training(runs, same_test):
    """Metric -> of each system its values with each training, [seeds]; see `jackknife.with_seeds`.

    Where folds tested the same utterances, the values by fold as well, each the mean of its seeds.
    """
    trainings = [_per(runs, key) for key in (("fold", "seed") if same_test else ("seed",))]
    values = [classification.overall(np.stack([*t.values()], axis=1)) for t in trainings]
    if same_test:
        values = [v for v in values if v["wa"].shape[-1] > 1]
    return {name: [x for v in values for x in v[name]] for name in METRICS}


def _test_to_train(results, units):
    """Each fold counts once, however many seeds have finished it; None where nothing was trained.

    Results of earlier versions don't say what a refit was trained on: its training side is less.
    """
    tested, trained = {}, {}
    for fold, counts in ((r.fold, r.counts) for r in results):
        tested[fold] = counts["test"]
        trained.setdefault(fold, []).append(counts.get("trained", counts["train"]))
    train = np.mean([np.mean(sizes) for sizes in trained.values()])
    return float(sum(tested.values()) / len(units) / train) if train else None


def _metrics(groups, over, by_training, ratio):
    """Of counts [s, g, c, c], g being 1 where there is no interval."""
    metrics, difference = {}, len(groups) == 2
    for name, (value, variance) in jackknife.spreads(groups).items():
        degrees, larger = jackknife.degrees(groups), None
        if not over:
            variance = degrees = np.nan
        elif over != "folds":
            variance, degrees = jackknife.with_seeds(variance, degrees, by_training[name])
        elif ratio is not None:
            larger = jackknife.corrected(variance, groups.shape[1], ratio)
        metrics[name] = {
            "value": float(value), **_tested(value, variance, degrees, difference),
            "corrected": None,
        }  # fmt: skip
        if larger is not None:
            corrected = _tested(value, larger, degrees, difference)
            del corrected["degrees"]  # the same
            metrics[name]["corrected"] = corrected
    return metrics


def _tested(value, variance, degrees, difference):
    ends = [_plain(x) for x in jackknife.interval(value, variance, degrees, difference)]
    known = None not in ends
    tested = {
        "error": _plain(np.sqrt(variance)) if known else None,
        "degrees": _plain(degrees),
        "interval": ends if known else None,
    }
    if difference:
        tested["p"] = _plain(jackknife.p_value(value, variance, degrees)) if known else None
    return tested


def _plain(x):
    return float(x) if np.isfinite(x) else None


def _each(parts):
    """Name -> metric -> value, of two systems their difference, from counts [s, c, c]."""
    each = {}
    for name, counts in parts.items():
        values = classification.overall(counts)
        each[name] = {k: float(v[0] - v[1] if len(v) == 2 else v[0]) for k, v in values.items()}
    return each
