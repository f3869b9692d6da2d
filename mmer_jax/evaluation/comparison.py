"""Systems compared with one of them on the same test utterances: figures, and tables of them."""

import csv
import io

import numpy as np

from mmer_jax.evaluation import bootstrap, metrics, report

RATE = "ua"  # the one whose differences are tested


def compare(systems: dict[str, list[dict]], by: str) -> dict[str, dict]:
    """Rates of each system, and its difference to the first.

    A difference is over the (seed, fold) pairs that both have finished, its interval and p value by
    drawing whole speakers or dialogs (`bootstrap.paired`). As many differences are tested as there
    are other systems: `p_holm` is p after Holm's correction ("A simple sequentially rejective
    multiple test procedure", 1979).

    Args:
      systems: name -> results of folds, see `cross_validation.run`; the first is compared with.
      by: `speaker` or `dialog`.

    Returns:
      name -> {`runs` (how many), `seeds`, `folds`, a dict {`mean`, `std`, `values`} per rate,
      `wer`, `difference`}. `std` is over the seeds' means, with one seed over the folds, None for
      one run; `values` has one per run. `difference` is {`difference`, `interval`, `p`, `p_holm`},
      None for the first system and where nothing can be drawn.
    """
    first, *others = systems
    found = {name: _figures(results) for name, results in systems.items() if results}
    for name in found:
        found[name]["difference"] = None
    tested = {}
    for name in others:
        if name in found and first in found:
            tested[name] = _difference(systems[name], systems[first], by)
    kept = {name: d for name, d in tested.items() if d}
    for (name, d), adjusted in zip(kept.items(), holm([d["p"] for d in kept.values()])):
        found[name]["difference"] = d | {"p_holm": adjusted}
    return found


def _figures(results):
    return {
        "runs": len(results),
        "seeds": sorted({r["seed"] for r in results}),
        "folds": sorted({r["fold"] for r in results}),
        "wer": (report.recognition_of(results) or {}).get("wer"),
        **{name: _rate(results, name) for name in report.RATES},
    }


def _rate(results, name):
    values = [metrics.rates(np.array(r["confusion"]))[name] for r in results]

    def means(key):
        groups = sorted({r[key] for r in results})
        return [np.mean([v for v, r in zip(values, results) if r[key] == g]) for g in groups]

    by_seed = means("seed")
    parts = by_seed if len(by_seed) > 1 else means("fold")
    std = float(np.std(parts, ddof=1)) if len(parts) > 1 else None
    return {"mean": float(np.mean(values)), "std": std, "values": values}


def _difference(ours, theirs, by):
    at = [{(r["seed"], r["fold"]): r for r in results} for results in (ours, theirs)]
    both = sorted(at[0].keys() & at[1].keys())
    if not both:
        return None
    names = ours[0]["label_names"]
    counts = [report.counts_by([one[key] for key in both], names, by) for one in at]
    if len(counts[0]) < 2:
        return None
    return bootstrap.paired(*counts)[RATE]


def holm(p: list[float]) -> list[float]:
    """The p values after Holm's step-down correction, in the same order."""
    adjusted, largest = np.zeros(len(p)), 0.0
    for rank, i in enumerate(np.argsort(p, kind="stable")):
        largest = max(largest, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = largest
    return adjusted.tolist()


def rows(found: dict[str, dict], titles: dict[str, str]) -> tuple[list[str], list[list[str]]]:
    """Head and rows of a table, as texts in percent.

    Args:
      found: see `compare`.
      titles: name -> what the table calls a system, in the table's order.
    """
    head = [
        "system",
        *report.TITLES.values(),
        "UA - full",
        "95 % interval",
        "p",
        "p (Holm)",
        "runs",
    ]
    return head, [_row(title, found.get(name)) for name, title in titles.items()]


def _row(title, figures):
    if figures is None:
        return [title, *[""] * (len(report.RATES) + 4), "0"]
    rates = [_spread(figures[name]) for name in report.RATES]
    return [title, *rates, *_tested(figures["difference"]), str(figures["runs"])]


def _spread(rate):
    text = report.percent(rate["mean"])
    return text if rate["std"] is None else f"{text} ± {report.percent(rate['std'])}"


def _tested(d):
    if d is None:
        return ["", "", "", ""]
    low, high = (f"{100 * x:+.1f}" for x in d["interval"])
    return [f"{100 * d['difference']:+.1f}", f"{low} to {high}", _p(d["p"]), _p(d["p_holm"])]


def _p(value):
    return f"{value:.3f}"


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
    return out.replace("±", r"$\pm$").replace(" - ", " $-$ ")


def csv_text(found: dict[str, dict], titles: dict[str, str], extra: dict[str, dict]) -> str:
    """A row of unrounded numbers per system, for other programs.

    Args:
      found, titles: as for `rows`.
      extra: name -> more columns.
    """
    columns = ["name", "title", *next(iter(extra.values())), "runs", "seeds", "folds"]
    columns += [f"{rate}_{kind}" for rate in report.RATES for kind in ("mean", "std")]
    columns += ["wer", *(f"{RATE}_{k}" for k in ("difference", "low", "high", "p", "p_holm"))]
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    for name, title in titles.items():
        writer.writerow({"name": name, "title": title, **extra[name], **_numbers(found.get(name))})
    return out.getvalue()


def _numbers(figures):
    if figures is None:
        return {"runs": 0}
    row = {"runs": figures["runs"], "wer": figures["wer"]}
    row |= {name: " ".join(map(str, figures[name])) for name in ("seeds", "folds")}
    for rate in report.RATES:
        row |= {f"{rate}_{kind}": figures[rate][kind] for kind in ("mean", "std")}
    d = figures["difference"]
    if d:
        row |= {f"{RATE}_{kind}": d[kind] for kind in ("difference", "p", "p_holm")}
        row[f"{RATE}_low"], row[f"{RATE}_high"] = d["interval"]
    return row
