"""The table of an ablation: Markdown, LaTeX, CSV, JSON and a plot."""

import json
import os

from mmer_jax import configuration, files, processes
from mmer_jax.metrics import intervals
from mmer_jax.reporting import ablation, analysis, comparison, plots, report

FILES = ("ablation.md", "ablation.tex", "ablation.csv", "ablation.json", "ablation.png")


def progress(variants, found: dict[str, list]) -> str:
    """A short table of what is finished so far.

    Args:
      variants: all that are asked for.
      found: name of a variant -> results of its folds.
    """
    kept = {v.name: found[v.name] for v in variants if found[v.name]}
    figures = comparison.compare(kept)
    width = max(len(v.title) for v in variants)
    lines = []
    for v in variants:
        f = figures.get(v.name)
        rate = f"UA {100 * f['ua']['mean']:5.1f}" if f else "waits"
        runs = f" ({f['runs']} run{'s' if f['runs'] > 1 else ''})" if f else ""
        more = (
            f", {100 * f['difference']['difference']:+.1f} to full" if f and f["difference"] else ""
        )
        lines.append(f"  {v.title:<{width}}  {rate}{runs}{more}")
    return "\n".join(lines)


def write(config, workdir: str, variants, same: dict[str, str], found: dict[str, list]) -> str:
    """Writes the comparison of the variants with the first.

    Args:
      config: of the full model, with the folds and seeds of all calls.
      workdir: for the files.
      variants: see `ablation.make`, in the table's order.
      same: see there.
      found: name of a variant -> results of its folds.

    Returns:
      The table of ablation.md.

    Raises:
      NotWritten: the workdir can't be written; has the table.
    """
    figures = comparison.compare(found, ablation.PRIMARY)
    titles = {v.name: v.title for v in variants}
    head, rows = comparison.rows(figures, titles)
    folders = {v.name: os.path.relpath(ablation.folder_of(workdir, v), workdir) for v in variants}
    traces = {
        v.name: {"config": v.fingerprint, "results": f"{folders[v.name]}/results.json"}
        for v in variants
    }
    table = _markdown(config, variants, same, (head, rows), figures, traces)
    systems = {v.name: traces[v.name] | {"title": v.title} | figures[v.name] for v in variants}
    summary = {
        "name": config.name, "fingerprint": configuration.fingerprint(config),
        "selection": config.selection, "same": same, "primary": ablation.PRIMARY,
        "systems": systems, "config": configuration.to_json(config),
    }  # fmt: skip
    content = {
        "ablation.md": table,
        "ablation.tex": comparison.latex(
            head, rows, f"{_caption(config, figures)} {_tests(figures)}"
        ),
        "ablation.csv": comparison.csv_text(figures, titles, traces),
        "ablation.json": json.dumps(summary, indent=2) + "\n",
        "ablation.png": plots.comparison_png([_drawn(systems[v.name]) for v in variants]),
    }
    if processes.is_first():
        files.replace_results(workdir, content, table)
    return table


def _drawn(system):
    d = system["difference"]
    return {k: system[k] for k in ("title", "difference")} | {
        "values": system["ua"]["values"], "mean": system["ua"]["mean"],
        "parts": [] if d is None or d["over"] else _parts(d["parts"]),
    }  # fmt: skip


def _parts(parts):
    """Differences of the first kind of part that there are several of: folds, speakers, seeds."""
    several = [list(parts[k].values()) for k in ("fold", "speaker", "seed") if len(parts[k]) > 1]
    return several[0] if several else []


def _counted(name, numbers):
    return f"{name}{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"


def _caption(config, figures):
    full = figures["full"]
    seeds, folds = (_counted(k, full[f"{k}s"]) for k in ("seed", "fold"))
    chosen = (
        "the epoch chosen ON THE TEST SIDE (selection=original)"
        if config.selection == "original"
        else "the epoch chosen on held-out dialogs of the training side"
    )
    over = {
        "± the standard deviation over the folds": len(full["folds"]) > 1,
        "beside it UA's standard deviation over the seeds' means": len(full["seeds"]) > 1,
    }
    known = [words for words, there in over.items() if there]
    return (
        f"Ablation of {config.name}: {config.protocol} {folds}, {seeds}, {chosen}. In percent: "
        f"{', '.join(['mean', *known])}."
    )


def _tests(figures):
    """Words for what the columns of differences hold."""
    compared = [f["difference"] for f in figures.values() if f["difference"]]
    if not compared:
        return ""
    # Of a table over parts of several calls, each system may have other folds.
    explained = {}
    for name, f in figures.items():
        if f["difference"]:
            explained.setdefault(intervals.explain(f["difference"]), []).append(name)
    words = [
        text if len(explained) == 1 else f"{', '.join(names)}: {text}"
        for text, names in explained.items()
    ]
    text = f"The difference is over all test utterances of all runs. {' '.join(words)}"
    planned = sum(d["p_holm"] is not None for d in compared)
    if any(d["p"] is not None for d in compared):
        text += (
            " p is two-sided. Comparisons named beforehand: without CTC, without SCL, without ACL, "
            f"late fusion, no gate; p (Holm) corrects for the {planned} of them that were run. The "
            "other p values are exploratory and not corrected."
        )
    return text


def _markdown(config, variants, same, table, figures, traces):
    lines = [f"# Ablation of {config.name}", "", *report.table(*table), ""]
    lines += [
        _caption(config, figures),
        "",
        f"WA = correct / all; UA = mean of the classes' recalls. {_tests(figures)}",
        "",
    ]
    parts = comparison.part_rows(figures, {v.name: v.title for v in variants})
    lines += ["The parts of the differences:", "", *report.table(*parts), ""] if parts else []
    if analysis.is_synthetic(config):
        lines += [
            "**The corpus is synthetic**: this shows that the software works, and nothing about "
            "how much each part is worth on people's speech.",
            "",
        ]
    lines += [
        f"`{name}` is left out: its config is that of `{twin}`." for name, twin in same.items()
    ]
    lines += [""] if same else []
    places = [[v.title, *traces[v.name].values()] for v in variants]
    lines += ["Where each row is from:", "", *report.table(["system", "config", "results"], places)]
    return "\n".join(lines) + "\n"
