"""Systems compared with one of them on the same test utterances: metrics, and tables of them."""

import csv
import io

import numpy as np

from mmer_jax.metrics import METRICS, classification, intervals
from mmer_jax.reporting import report
from mmer_jax.results import FoldResult

RATE = "ua"  # the one whose differences are tested
TESTED = ("error", "degrees", "low", "high", "p", "p_holm")


def compare(systems: dict[str, list[FoldResult]], primary=()) -> dict[str, dict]:
    """Metrics of each system, and its difference to the first.

    A difference is over the (seed, fold) pairs that both have finished; `intervals.estimate` says
    when it has an interval and a p value. `p_holm` is p after Holm's correction ("A simple
    sequentially rejective multiple test procedure", 1979) over those primary comparisons that have
    one; the other p values are exploratory and have none.

    Args:
      systems: name -> results of folds; the first is compared with.
      primary: names of the systems whose comparison was planned beforehand.

    Returns:
      name -> {`runs` (how many), `seeds`, `folds`, per metric a dict {`mean`, `std`, `std_seeds`,
      `values`} (see `report.mean`; `values` has one per run), `wer`, `difference`}. `difference`,
      of UA, has what `estimate` gives of it, with `difference`, `primary`, `p_holm` and
      `corrected.p_holm`; None for the first system and where no pair is shared.
    """
    first, *others = systems
    found = {name: _figures(results) for name, results in systems.items() if results}
    for name in found:
        found[name]["difference"] = None
    for name in others:
        if name in found and first in found:
            compared = intervals.estimate(systems[name], systems[first])
            found[name]["difference"] = compared and _difference(compared, name in primary)
    planned = [d for d in (found[name]["difference"] for name in found) if d and d["primary"]]
    _correct(planned)
    _correct([d["corrected"] for d in planned if d["corrected"]])
    return found


def _correct(tested):
    """Adds `p_holm` to those that have a p."""
    known = [d for d in tested if d["p"] is not None]
    for d, adjusted in zip(known, holm([d["p"] for d in known])):
        d["p_holm"] = adjusted


def _difference(compared, primary):
    known = compared.pop("metrics")[RATE]
    corrected = known["corrected"]
    parts = {
        kind: {name: values[RATE] for name, values in part.items()}
        for kind, part in compared.pop("parts").items()
    }
    return {
        **compared, "primary": primary, "difference": known["value"],
        **{k: known[k] for k in ("error", "degrees", "interval", "p")}, "p_holm": None,
        "corrected": corrected and corrected | {"p_holm": None}, "parts": parts,
    }  # fmt: skip


def _figures(results):
    runs = [{"fold": r.fold, "seed": r.seed} | classification.rates(r.confusion) for r in results]
    return {
        "runs": len(results),
        "seeds": sorted({r.seed for r in results}),
        "folds": sorted({r.fold for r in results}),
        "wer": (report.recognition_of(results) or {}).get("wer"),
        **{n: report.mean(runs, n) | {"values": [r[n] for r in runs]} for n in METRICS},
    }


def holm(p: list[float]) -> list[float]:
    """The p values after Holm's step-down correction, in the same order."""
    adjusted, largest = np.zeros(len(p)), 0.0
    for rank, i in enumerate(np.argsort(p, kind="stable")):
        largest = max(largest, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = largest
    return adjusted.tolist()


def rows(found: dict[str, dict], titles: dict[str, str]) -> tuple[list[str], list[list[str]]]:
    """Head and rows of a table, as texts in percent; a column that would be empty is left out.

    Args:
      found: see `compare`.
      titles: name -> what the table calls a system, in the table's order.
    """
    columns = {"system": [*titles.values()]}
    for title, cell in _COLUMNS.items():
        cells = [cell(found[name]) if name in found else "" for name in titles]
        if any(cells):
            columns[title] = cells
    columns["runs"] = [str(found[name]["runs"] if name in found else 0) for name in titles]
    return list(columns), [list(row) for row in zip(*columns.values())]


def _of_rate(name):
    return lambda figures: report.spread(figures[name])


def _over_seeds(figures):
    std = figures[RATE]["std_seeds"]
    return "" if std is None else report.percent(std)


def _of_difference(cell):
    return lambda figures: cell(figures["difference"]) if figures["difference"] else ""


def _of_corrected(cell):
    return _of_difference(lambda d: cell(d["corrected"]) if d["corrected"] else "")


def _ends(d):
    return report.bounds(d["interval"], "+") if d["interval"] else ""


def _p(value):
    return "" if value is None else "<0.001" if value < 0.0005 else f"{value:.3f}"


def _holm(d):
    return _p(d["p_holm"]) if d["primary"] or d["p"] is None else "exploratory"


_COLUMNS = {
    **{title: _of_rate(name) for name, title in report.TITLES.items()},
    "UA, deviation over seeds": _over_seeds,
    "UA - full": _of_difference(lambda d: f"{100 * d['difference']:+.1f}"),
    "95 % interval": _of_difference(_ends),
    "p": _of_difference(lambda d: _p(d["p"])),
    "p (Holm)": _of_difference(_holm),
    "95 % interval (NB)": _of_corrected(_ends),
    "p (NB)": _of_corrected(lambda d: _p(d["p"])),
    "p (NB, Holm)": _of_corrected(lambda d: _p(d["p_holm"])),
}


def part_rows(found: dict[str, dict], titles: dict[str, str]):
    """Head and rows of the differences' own parts: each fold, seed and speaker by itself.

    Args:
      found, titles: as for `rows`.

    Returns:
      Head and rows of those systems whose difference has no interval; None where there are none.
    """
    differences = {n: f["difference"] for n, f in found.items() if f["difference"]}
    differences = {n: d for n, d in differences.items() if not d["over"]}
    names = {(kind, part): None for d in differences.values() for kind in d["parts"]
             for part in d["parts"][kind]
             if 1 < len(d["parts"][kind]) <= report.MOST_PARTS}  # fmt: skip
    head = ["UA - full", *(f"{kind} {part}" for kind, part in names)]
    body = []
    for name, d in differences.items():
        values = (d["parts"][kind].get(part) for kind, part in names)
        cells = ["" if v is None else f"{100 * v:+.1f}" for v in values]
        body.append([titles[name], *cells])
    return (head, body) if names else None


def latex(head: list[str], body: list[list[str]], caption: str) -> str:
    """A booktabs table of the same cells."""
    columns = "l" + "r" * (len(head) - 1)
    lines = [
        "% needs \\usepackage{booktabs}",
        "\\begin{table}",
        f"\\caption{{{_tex(caption)}}}",
        f"\\begin{{tabular}}{{{columns}}}",
        "\\toprule",
        " & ".join(map(_tex, head)) + r" \\",
        "\\midrule",
        *(" & ".join(map(_tex, row)) + r" \\" for row in body),
        "\\bottomrule",
        "\\end{tabular}",
        "\\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _tex(text):
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    out = "".join(special.get(c, f"\\{c}" if c in "&%$#_{}" else c) for c in text)
    return out.replace("±", r"$\pm$").replace(" - ", " $-$ ").replace("<", "$<$")


def csv_text(found: dict[str, dict], titles: dict[str, str], extra: dict[str, dict]) -> str:
    """A row of unrounded numbers per system, for other programs.

    Args:
      found, titles: as for `rows`.
      extra: name -> more columns.
    """
    columns = ["name", "title", *next(iter(extra.values())), "runs", "seeds", "folds"]
    columns += [f"{rate}_{kind}" for rate in METRICS for kind in _MEANS]
    columns += ["wer", "over", "primary", f"{RATE}_difference", *(f"{RATE}_{k}" for k in TESTED)]
    columns += [f"{RATE}_nb_{k}" for k in TESTED if k != "degrees"]
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    for name, title in titles.items():
        writer.writerow({"name": name, "title": title, **extra[name], **_numbers(found.get(name))})
    return out.getvalue()


_MEANS = {"mean": "mean", "std_folds": "std", "std_seeds": "std_seeds"}


def _numbers(figures):
    if figures is None:
        return {"runs": 0}
    row = {"runs": figures["runs"], "wer": figures["wer"]}
    row |= {name: " ".join(map(str, figures[name])) for name in ("seeds", "folds")}
    for rate in METRICS:
        row |= {f"{rate}_{kind}": figures[rate][key] for kind, key in _MEANS.items()}
    d = figures["difference"]
    if d:
        row |= {"over": d["over"], "primary": d["primary"], f"{RATE}_difference": d["difference"]}
        row |= _tested(d, RATE) | {f"{RATE}_degrees": d["degrees"]}
        row |= _tested(d["corrected"], f"{RATE}_nb") if d["corrected"] else {}
    return row


def _tested(d, prefix):
    low, high = d["interval"] or (None, None)
    row = {"low": low, "high": high} | {k: d[k] for k in ("error", "p", "p_holm")}
    return {f"{prefix}_{k}": v for k, v in row.items()}
