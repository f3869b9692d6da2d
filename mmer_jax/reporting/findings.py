"""What a finished run found, as facts for sentences: `templates/report.html.j2` says them."""

import os

import numpy as np

from mmer_jax import files, runs
from mmer_jax.data.prepared import natural
from mmer_jax.metrics import calibration, classification, intervals, reliability
from mmer_jax.reporting import report
from mmer_jax.results import FoldResult
from mmer_jax.runs import Run


def by_text(run: Run) -> dict[str, list[FoldResult]]:
    """Text source -> results with it: the run's own, and those that `mmer_jax.evaluate` wrote.

    Of a fold that was trained anew on other utterances meanwhile, they are passed over.

    Raises:
      UserError: such a folder's predictions are damaged.
    """
    own = "gold" if "text" in run.config.model.modalities else "none"
    found = {own: [f.result for f in run.folds]}
    for source in reliability.TEXT_SOURCES:
        folder = os.path.join(run.workdir, f"text_{source}")
        if source == own or not files.exists(os.path.join(folder, runs.PREDICTIONS)):
            continue
        results = [
            r for r in runs.read_evaluated(folder, run)
            if _tested(r) == _tested(run.of(*r.key).result)
        ]  # fmt: skip
        if results:
            found[source] = results
    return found


def _tested(result):
    return {(p.utterance, p.label) for p in result.predictions}


def facts(run: Run, texts: dict[str, list[FoldResult]]) -> dict:
    """Numbers that the sentences name.

    Args:
      run: a finished one.
      texts: see `by_text`.

    Returns:
      `utterances` and `speakers` (how many, 0 where not all are named), `estimate` (see
      `intervals.estimate`), `best` and `worst` (of the classes with utterances) and `confused`
      (the most frequent confusion; None without an error), each a dict of `name`, `count`, `of` and
      `share`; `folds`, (UA, number) of the worst and the best; `stated`, the mean confidence, and
      `ece`; `leakage`, see `RunResult`; `texts` and `held_out`, what is said of the texts.
    """
    results, names = [f.result for f in run.folds], run.label_names
    rows = [p for r in results for p in r.predictions]
    counts = sum(r.confusion for r in results)
    estimate = intervals.estimate(results)
    recall = [
        {"name": n, "count": int(c[i]), "of": int(c.sum()), "share": float(c[i] / c.sum())}
        for i, (n, c) in enumerate(zip(names, counts)) if c.sum()
    ]  # fmt: skip
    recall.sort(key=lambda r: r["share"])
    probabilities = np.concatenate([r.probabilities() for r in results])
    labels = np.concatenate([r.labels for r in results])
    speakers = estimate["speakers"]
    return {
        "utterances": len({p.utterance for p in rows}),
        "speakers": 0 if "" in speakers else len(speakers),
        "estimate": estimate,
        "best": recall[-1],
        "worst": recall[0],
        "confused": _confused(counts, names),
        "folds": sorted((v["ua"], n) for n, v in estimate["parts"]["fold"].items()),
        "stated": float(probabilities.max(-1).mean()),
        "ece": calibration.expected_calibration_error(probabilities, labels),
        "leakage": report.leakage(results),
        "texts": _texts(texts),
        "held_out": _held_out(results),
    }


def _confused(counts, names):
    wrong = counts * (1 - np.eye(len(names), dtype=int))
    if not wrong.any():
        return None
    i, j = np.unravel_index(wrong.argmax(), wrong.shape)
    of = int(counts[i].sum())
    return {"name": names[i], "taken_for": names[j], "count": int(wrong[i, j]), "of": of,
            "share": float(wrong[i, j] / of)}  # fmt: skip


def _texts(texts):
    """Each text against none, where that was measured: UA of both, and the difference."""
    none = texts.get("none")
    compared = []
    for source, results in texts.items() if none else ():
        estimate = source != "none" and intervals.estimate(results, none)
        if estimate:
            with_text, without = (
                classification.rates(sum(r.confusion for r in rs if r.key in shared))["ua"]
                for shared in [{r.key for r in results} & {r.key for r in none}]
                for rs in (results, none)
            )
            compared.append({
                "text": reliability.TEXT_SOURCES[source], "ua": with_text, "alone": without,
                "difference": difference(estimate, "ua"),
            })  # fmt: skip
    return compared


def difference(estimate: dict, metric: str) -> dict:
    """Value, interval and p of a difference, with the larger error where there is one.

    Args:
      estimate: of two systems, see `intervals.estimate`.
      metric: its name.

    Returns:
      `value`, `interval`, `p` (None where they can't be known), `corrected`: whether interval and p
      have Nadeau and Bengio's error, and `chance`: whether 0 lies in the interval.
    """
    found = estimate["metrics"][metric]
    larger = found["corrected"] or {}
    corrected = larger.get("interval") is not None
    tested = larger if corrected else found
    ends = tested["interval"]
    return {"value": found["value"], "interval": ends, "p": tested["p"], "corrected": corrected,
            "chance": ends is not None and ends[0] <= 0 <= ends[1]}  # fmt: skip


def _held_out(results):
    """Mean UA on held-out utterances with transcripts and without words; None if not measured."""
    pairs = [[r.text_sources.get(s, {}).get("ua") for s in ("gold", "none")] for r in results]
    return None if any(None in pair for pair in pairs) else np.mean(pairs, axis=0).tolist()


def speakers(results: list[FoldResult], parts: dict) -> list[dict]:
    """Of each speaker `name`, `folds`, `utterances`, `wa` and `ua`, the worst first.

    Args:
      results: of folds.
      parts: speaker -> metrics, of `intervals.estimate`.
    """
    tested = {}
    for r in results:
        for p in r.predictions:
            folds, utterances = tested.setdefault(p.speaker, (set(), set()))
            folds.add(r.fold)
            utterances.add(p.utterance)
    rows = [
        {"name": name, "folds": sorted(tested[name][0]), "utterances": len(tested[name][1]),
         "wa": metrics["wa"], "ua": metrics["ua"]}
        for name, metrics in parts.items() if name
    ]  # fmt: skip
    return sorted(rows, key=lambda r: (r["ua"], natural(r["name"])))
