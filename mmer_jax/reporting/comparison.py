"""Systems compared with one of them on the same test utterances."""

import numpy as np

from mmer_jax.metrics import METRICS, classification, intervals
from mmer_jax.reporting import report
from mmer_jax.results import FoldResult

RATE = "ua"  # the metric whose differences are tested


def compare(systems: dict[str, list[FoldResult]], primary=()) -> dict[str, dict]:
    """Metrics of each system, and its difference to the first.

    A difference is over the (seed, fold) pairs that both have finished; `intervals.estimate` says
    when it has an interval and a p value. `p_holm` is p after Holm's correction ("A simple
    sequentially rejective multiple test procedure", 1979) over those primary comparisons that have
    one; the other p values are exploratory and have none.

    Args:
      systems: name -> results of folds, at least one; the first is compared with.
      primary: names of the systems whose comparison was planned beforehand.

    Returns:
      name -> {`runs` (how many), `seeds`, `folds`, per metric a dict {`mean`, `std`, `std_seeds`,
      `values`} (see `report.mean`; `values` has one per run), `wer`, `difference`}. `difference`,
      of UA, has what `estimate` gives of it, with `difference`, `primary`, `p_holm` and
      `corrected.p_holm`; None for the first system and where no pair is shared.
    """
    baseline = next(iter(systems))
    compared = {name: _metrics(results) for name, results in systems.items()}
    for name, system in compared.items():
        estimate = None
        if name != baseline:
            estimate = intervals.estimate(systems[name], systems[baseline])
        system["difference"] = estimate and _difference(estimate, name in primary)
    planned = [d for d in (s["difference"] for s in compared.values()) if d and d["primary"]]
    _correct(planned)
    _correct([d["corrected"] for d in planned if d["corrected"]])
    return compared


def _metrics(results):
    runs = [{"fold": r.fold, "seed": r.seed} | classification.rates(r.confusion) for r in results]
    return {
        "runs": len(results),
        "seeds": sorted({r.seed for r in results}),
        "folds": sorted({r.fold for r in results}),
        "wer": (report.recognition_of(results) or {}).get("wer"),
        **{n: report.mean(runs, n) | {"values": [r[n] for r in runs]} for n in METRICS},
    }


def _difference(estimate, primary):
    rate = estimate.pop("metrics")[RATE]
    corrected = rate["corrected"]
    parts = {
        kind: {name: values[RATE] for name, values in part.items()}
        for kind, part in estimate.pop("parts").items()
    }
    return {
        **estimate, "primary": primary, "difference": rate["value"],
        **{k: rate[k] for k in ("error", "degrees", "interval", "p")}, "p_holm": None,
        "corrected": corrected and corrected | {"p_holm": None}, "parts": parts,
    }  # fmt: skip


def _correct(tested):
    """Adds `p_holm` to those that have a p."""
    known = [d for d in tested if d["p"] is not None]
    for d, adjusted in zip(known, holm([d["p"] for d in known])):
        d["p_holm"] = adjusted


def holm(p: list[float]) -> list[float]:
    """The p values after Holm's step-down correction, in the same order."""
    adjusted, largest = np.zeros(len(p)), 0.0
    for rank, i in enumerate(np.argsort(p, kind="stable")):
        largest = max(largest, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = largest
    return adjusted.tolist()
