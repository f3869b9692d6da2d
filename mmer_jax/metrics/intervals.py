"""Intervals of a system's metrics, or of two systems' differences, from results of folds."""

import numpy as np

from mmer_jax.metrics import classification, jackknife

GIVEN = (
    "They hold over test sessions given this training material: folds share no speaker and no "
    "model, but they share training data."
)
NB = (
    "NB: with the larger error of Nadeau and Bengio (2003), which allows for the training data "
    "that the folds share."
)


def estimate(*systems: list) -> dict | None:
    """Metrics with intervals where `jackknife.scope` allows for them.

    Args:
      systems: `FoldResult`s of one system or of two on the same test utterances. Only (seed, fold)
        pairs count that all of them have finished.

    Returns:
      None where no such pair is left, else a dict for JSON: `over` (see `jackknife.scope`),
      `groups` (how many were left out one at a time), `runs` (how many pairs), `folds`, `seeds`,
      `speakers`, `test_to_train` (utterances of a test side / of those that its model was trained
      on, over folds alone), `metrics` and `parts`. `metrics` has per metric its `value` over all
      utterances, `error` (standard error), `degrees`, `interval` [low, high], `p` (of a difference
      alone) and, over folds alone, `corrected`: `error`, `interval` and `p` with Nadeau and
      Bengio's variance; each None where it can't be known. `parts` has under `fold`, `seed` and
      `speaker` the metrics of each by itself, those of the seeds over `folds_of_all_seeds`. Of two
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
    units = independent(runs[0])
    # Folds of one conversation are neither one fold nor several.
    over = jackknife.scope(
        len(units) if len(folds) == 1 else max(len(units), 2), len(speakers), len(seeds)
    )
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
        "folds": folds, "seeds": seeds, "speakers": list(speakers), "test_to_train": ratio,
        "metrics": _metrics(groups, over, _by_seed(runs, seeds), ratio),
        "parts": {
            "fold": _each(counts), "seed": _each(_per(_of_all_seeds(runs), "seed")),
            "speaker": _each(speakers),
        },
    }  # fmt: skip


def independent(results: list) -> list[list[int]]:
    """Lists of fold numbers; folds that test sides of one conversation are one unit."""
    units = []
    for number in sorted({r.fold for r in results}):
        rows = (p for r in results if r.fold == number for p in r.predictions)
        folds, dialogs = [number], {p.dialog for p in rows}
        for unit in [u for u in units if u[1] & dialogs]:
            units.remove(unit)
            folds, dialogs = unit[0] + folds, unit[1] | dialogs
        units.append((folds, dialogs))
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
    found = {}
    for value in sorted({getattr(r, key) for r in runs[0]}):
        same = [[r for r in results if getattr(r, key) == value] for results in runs]
        number = len({r.seed for r in same[0]})
        found[value] = np.array([sum(r.confusion for r in rs) for rs in same]) / number
    return found


def _speakers(runs):
    """Speaker -> confusion counts [s, c, c] over all runs together."""
    by_system = [_by_speaker(results) for results in runs]
    one, other = by_system[0], by_system[-1]
    if one.keys() != other.keys() or any((one[k].sum(1) != other[k].sum(1)).any() for k in one):
        raise ValueError("The two systems were not tested on the same utterances.")
    return {name: np.array([counts[name] for counts in by_system]) for name in by_system[0]}


def _by_speaker(results):
    """Confusion counts [c, c] of each speaker's utterances, see `classification.by_group`."""
    return classification.by_group(
        [p.speaker for r in results for p in r.predictions],
        np.concatenate([r.labels for r in results]),
        np.concatenate([r.predicted for r in results]),
        len(results[0].label_names),
    )


def _by_seed(runs, seeds):
    """Metric -> values [s, seeds] over the folds of each seed."""
    counts = _per(runs, "seed")
    return classification.overall(np.stack([counts[seed] for seed in seeds], axis=1))


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


def _metrics(groups, over, by_seed, ratio):
    """Of counts [s, g, c, c], g being 1 where there is no interval."""
    spread = jackknife.spreads(groups)
    freedom = jackknife.degrees(groups) if over else None
    found = {}
    for name, (value, variance) in spread.items():
        found[name] = _unknown(value, len(groups) == 2)
        if not over:
            continue
        v, d = variance, freedom
        if over != "folds":
            v, d = jackknife.with_seeds(v, d, by_seed[name])
        found[name] |= _tested(value, v, d, len(groups) == 2) | {"degrees": _plain(d)}
        if over == "folds" and ratio is not None:
            larger = jackknife.corrected(v, groups.shape[1], ratio)
            found[name]["corrected"] = _tested(value, larger, d, len(groups) == 2)
    return found


def _unknown(value, difference):
    empty = {"value": float(value), "error": None, "degrees": None, "interval": None}
    return empty | ({"p": None} if difference else {}) | {"corrected": None}


def _tested(value, variance, degrees, difference):
    ends = [_plain(x) for x in jackknife.interval(value, variance, degrees, difference)]
    known = None not in ends
    out = {
        "error": _plain(np.sqrt(variance)) if known else None,
        "interval": ends if known else None,
    }
    if difference:
        out["p"] = _plain(jackknife.p_value(value, variance, degrees)) if known else None
    return out


def _plain(x):
    return float(x) if np.isfinite(x) else None


def _each(parts):
    """Name -> metric -> value, of two systems their difference, from counts [s, c, c]."""
    found = {}
    for name, counts in parts.items():
        values = classification.overall(counts)
        found[name] = {k: float(v[0] - v[1] if len(v) == 2 else v[0]) for k, v in values.items()}
    return found


def explain(found: dict) -> str:
    """Words for what `estimate` gave: over what an interval is, or why there is none."""
    folds, speakers, seeds = (len(found[k]) for k in ("folds", "speakers", "seeds"))
    if found["over"] == "folds":
        # Without training the folds share none of it.
        given = f" {GIVEN} {NB}" if found["test_to_train"] else ""
        several = f", each the mean of {number_of_seeds(found)}" if seeds > 1 else ""
        apart = "" if found["groups"] == folds else " groups of folds without a common conversation"
        units = f"{found['groups']}{apart or ' folds'}"
        return f"95 % intervals over {units}{several} (jackknife, t distribution).{given}"
    if found["over"]:
        return (
            f"95 % intervals for this training set: over {speakers} test speakers (jackknife) and "
            f"{seeds} seeds (Satterthwaite's degrees of freedom). They say nothing of other "
            "training material."
        )
    return (
        f"No interval and no p: {_number(folds, 'fold')}, {_number(speakers, 'test speaker')}, "
        f"{_number(seeds, 'seed')}. It takes {jackknife.FOLDS} folds without a common conversation,"
        f" or one fold with {jackknife.SPEAKERS} test speakers and {jackknife.SEEDS} seeds."
        + (
            " Each seed's own figures are of the folds that all seeds have."
            if _uneven(found)
            else ""
        )
    )


def number_of_seeds(found: dict) -> str:
    """`2 seeds`, or `up to 2 seeds` where `estimate` was given folds that some seeds lack."""
    return ("up to " if _uneven(found) else "") + _number(len(found["seeds"]), "seed")


def _uneven(found):
    return found["runs"] < len(found["seeds"]) * len(found["folds"])


def _number(count, name):
    return f"{count} {name}{'s' if count > 1 else ''}"
