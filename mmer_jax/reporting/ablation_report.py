"""The table of an ablation: Markdown, LaTeX, CSV, JSON and a plot."""

import csv
import io
import json
import os

from mmer_jax import configuration, files, processes
from mmer_jax.data.corpus import is_synthetic
from mmer_jax.metrics import METRICS
from mmer_jax.reporting import ablation, comparison, plots, report
from mmer_jax.reporting.comparison import RATE
from mmer_jax.results import HELDOUT

FILES = ("ablation.md", "ablation.tex", "ablation.csv", "ablation.json", "ablation.png")


def progress(variants, results: dict[str, list]) -> str:
    """A short table of what is finished so far.

    Args:
      variants: all that are asked for.
      results: name of a variant -> results of its folds; the first has some.
    """
    systems = comparison.compare({name: folds for name, folds in results.items() if folds})
    width = max(len(v.title) for v in variants)
    lines = []
    for v in variants:
        text = "waits"
        if system := systems.get(v.name):
            text = f"UA {100 * system['ua']['mean']:5.1f} ({report.plural(system['runs'], 'run')})"
            if system["difference"]:
                text += f", {100 * system['difference']['difference']:+.1f} to full"
        lines.append(f"  {v.title:<{width}}  {text}")
    return "\n".join(lines)


def write(config, workdir: str, variants, same: dict[str, str], results: dict[str, list]) -> str:
    """Writes the comparison of the variants with the first.

    Args:
      config: of the full model, with the folds and seeds of all calls.
      workdir: for the files.
      variants: see `ablation.make`, in the table's order.
      same: see there.
      results: name of a variant -> results of its folds, at least one.

    Returns:
      The table of ablation.md.

    Raises:
      NotWritten: the workdir can't be written; has the table.
    """
    systems = {}
    for v in variants:
        folder = os.path.relpath(ablation.folder_of(workdir, v), workdir)
        systems[v.name] = {
            "config": v.fingerprint, "results": f"{folder}/results.json", "title": v.title
        }  # fmt: skip
    for name, metrics in comparison.compare(results, ablation.PRIMARY).items():
        systems[name] |= metrics
    head, rows = table(systems)
    caption = _caption(config, systems[ablation.BASE], results[ablation.BASE][0])
    tests = _tests(systems)
    markdown = report.environment().get_template("ablation.md.j2").render(
        config=config, systems=systems, same=same, head=head, rows=rows, caption=caption,
        tests=tests, parts=part_table(systems), synthetic=is_synthetic(config),
    )  # fmt: skip
    summary = {
        "name": config.name, "fingerprint": configuration.fingerprint(config),
        "selection": config.selection, "same": same, "primary": ablation.PRIMARY,
        "systems": systems, "config": configuration.to_json(config),
    }  # fmt: skip
    content = {
        "ablation.md": markdown,
        "ablation.tex": latex(head, rows, f"{caption} {tests}"),
        "ablation.csv": csv_text(systems),
        "ablation.json": json.dumps(summary, indent=2) + "\n",
        "ablation.png": plots.png(plots.comparison(list(systems.values()))),
    }
    if processes.is_first():
        files.replace_results(workdir, content, report.aligned(markdown))
    return markdown


def table(systems: dict[str, dict]) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the table, as texts in percent; a column that would be empty is left out.

    Args:
      systems: name -> `title` and what `comparison.compare` gives.
    """
    rows = [_cells(system) for system in systems.values()]
    # A longer row has the columns of a shorter one, then more.
    head = [column for column in max(rows, key=len) if any(row.get(column) for row in rows)]
    return head, [[row.get(column, "") for column in head] for row in rows]


def _cells(system):
    """Column -> text."""
    deviation, d = system[RATE]["std_seeds"], system["difference"]
    cells = {"system": system["title"]}
    cells |= {title: report.spread(system[name]) for name, title in report.TITLES.items()}
    cells["UA, deviation over seeds"] = "" if deviation is None else report.percent(deviation)
    if d:
        cells |= {
            "UA - full": f"{100 * d['difference']:+.1f}",
            "95 % interval": _ends(d),
            "p": report.p_value(d["p"]),
            "p (Holm)": report.p_value(d["p_holm"])
            if d["primary"] or d["p"] is None
            else "exploratory",
        }
    if d and d["p"] is not None and not d["primary"]:
        cells["p (Holm)"] = "exploratory"
    if d and d["corrected"]:
        cells |= {
            "95 % interval (NB)": _ends(d["corrected"]),
            "p (NB)": report.p_value(d["corrected"]["p"]),
            "p (NB, Holm)": report.p_value(d["corrected"]["p_holm"]),
        }
    cells["runs"] = str(system["runs"])
    return cells


def _ends(d):
    return report.bounds(d["interval"], "+") if d["interval"] else ""


def part_table(systems: dict[str, dict]) -> tuple[list[str], list[list[str]]] | None:
    """Head and rows of the differences' own parts: each fold, seed and speaker by itself.

    Args:
      systems: as for `table`.

    Returns:
      Of those systems whose difference has no interval; None where there are no parts.
    """
    differences = {s["title"]: s["difference"] for s in systems.values() if s["difference"]}
    differences = {title: d["parts"] for title, d in differences.items() if not d["over"]}
    columns = {
        f"{kind} {name}": (kind, name)
        for parts in differences.values() for kind, values in parts.items() for name in values
        if 1 < len(values) <= report.MOST_PARTS
    }  # fmt: skip
    rows = []
    for title, parts in differences.items():
        values = (parts[kind].get(name) for kind, name in columns.values())
        rows.append([title, *("" if v is None else f"{100 * v:+.1f}" for v in values)])
    return (["UA - full", *columns], rows) if columns else None


def _caption(config, full, result):
    def listed(name):
        numbers = full[f"{name}s"]
        return f"{name}{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"

    chosen = f"on {HELDOUT[result.heldout]} of the training side"
    if config.selection == "original":
        chosen = "ON THE TEST SIDE (selection=original)"
    shown = ["mean"]
    if len(full["folds"]) > 1:
        shown.append("± the standard deviation over the folds")
    if len(full["seeds"]) > 1:
        shown.append("beside it UA's standard deviation over the seeds' means")
    return (
        f"Ablation of {config.name}: {result.protocol} {listed('fold')}, {listed('seed')}, "
        f"the epoch chosen {chosen}. In percent: {', '.join(shown)}."
    )


def _tests(systems):
    """Words for what the columns of differences hold."""
    differences = {n: s["difference"] for n, s in systems.items() if s["difference"]}
    if not differences:
        return ""
    # Of a table over parts of several calls, each system may have other folds.
    explained = {}
    for name, d in differences.items():
        explained.setdefault(report.explain(d), []).append(name)
    words = [
        text if len(explained) == 1 else f"{', '.join(names)}: {text}"
        for text, names in explained.items()
    ]
    text = f"The difference is over all test utterances of all runs. {' '.join(words)}"
    if any(d["p"] is not None for d in differences.values()):
        planned = sum(d["p_holm"] is not None for d in differences.values())
        named = ", ".join(ablation.CHANGES[name][0] for name in ablation.PRIMARY)
        text += (
            f" p is two-sided. Comparisons named beforehand: {named}; p (Holm) corrects for the "
            f"{planned} of them that were run. The other p values are exploratory and not "
            "corrected."
        )
    return text


def latex(head: list[str], rows: list[list[str]], caption: str) -> str:
    """A booktabs table of the same cells."""
    lines = [
        "% needs \\usepackage{booktabs}",
        "\\begin{table}",
        f"\\caption{{{_tex(caption)}}}",
        f"\\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}",
        "\\toprule",
        " & ".join(map(_tex, head)) + r" \\",
        "\\midrule",
        *(" & ".join(map(_tex, row)) + r" \\" for row in rows),
        "\\bottomrule",
        "\\end{tabular}",
        "\\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _tex(text):
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    out = "".join(special.get(c, f"\\{c}" if c in "&%$#_{}" else c) for c in text)
    return out.replace("±", r"$\pm$").replace(" - ", " $-$ ").replace("<", "$<$")


def csv_text(systems: dict[str, dict]) -> str:
    """A row of unrounded numbers per system, for other programs; `systems` as for `table`."""
    rows = [_numbers(name, system) for name, system in systems.items()]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _numbers(name, system):
    row = {"name": name, **{k: system[k] for k in ("title", "config", "results", "runs")}}
    row |= {k: " ".join(map(str, system[k])) for k in ("seeds", "folds")}
    for metric in METRICS:
        for column, key in (("mean", "mean"), ("std_folds", "std"), ("std_seeds", "std_seeds")):
            row[f"{metric}_{column}"] = system[metric][key]
    d = system["difference"] or {}
    row |= {"wer": system["wer"], "over": d.get("over"), "primary": d.get("primary")}
    row |= {f"{RATE}_difference": d.get("difference"), f"{RATE}_error": d.get("error")}
    row |= {f"{RATE}_degrees": d.get("degrees"), **_tested(d, RATE)}
    corrected = d.get("corrected") or {}
    return row | {f"{RATE}_nb_error": corrected.get("error"), **_tested(corrected, f"{RATE}_nb")}


def _tested(d, prefix):
    low, high = d.get("interval") or (None, None)
    values = {"low": low, "high": high, "p": d.get("p"), "p_holm": d.get("p_holm")}
    return {f"{prefix}_{k}": value for k, value in values.items()}
