"""What each part is worth: `python -m mmer_jax.ablate --config=configs/demo.py`.

Runs the full model and the variants of `reporting/ablation.py` over seeds and folds, and writes
one table of them: Markdown, LaTeX, CSV, JSON and a picture. Whatever is finished is not run again,
and a changed config has folders of its own, so the same command continues after any interruption.
"""

import json
import os

from absl import app, flags

from mmer_jax import files, main, processes
from mmer_jax.errors import UserError

_VARIANTS = flags.DEFINE_list(
    "variants", [], "Names to compare with `full`, with commas; default: all there are."
)
SEEDS = (0, 1, 2)  # where the config names none: one seed says nothing about chance
FILES = ("ablation.md", "ablation.tex", "ablation.csv", "ablation.json", "ablation.png")


def run(config, workdir: str, names=()) -> str:
    """Runs the variants of a config and writes their comparison; what the command does.

    Args:
      config: of the full model; its `seeds` (none: 0, 1, 2) and `folds` are run of every variant.
      workdir: each variant's run is in `workdir/<variant>/<fingerprint of its config>`.
      names: of the variants beside the full model; empty: all.

    Returns:
      The table of ablation.md: of every fold and seed that is finished in the workdir, and every
      variant, whichever were asked for now.

    Raises:
      UserError: something that the user can mend.
    """
    # Imported late, as in main.py.
    from mmer_jax import runs as finished
    from mmer_jax.data import folds
    from mmer_jax.reporting import ablation

    config = config.copy_and_resolve_references()
    config.seeds = tuple(config.seeds) or SEEDS
    workdir = files.resolve(workdir)
    variants, same = ablation.make(config, names)
    for name, twin in same.items():
        print(f"{name}: left out, for its config is that of {twin}", flush=True)
    each = len(config.seeds) * len(folds.selected(config))
    found = {v.name: [] for v in variants}

    def on_fold(variant, result):
        found[variant.name].append(result)
        done = sum(map(len, found.values()))
        print(f"\n{done} of {each * len(variants)} runs are finished:", flush=True)
        print(_live(variants, found), flush=True)

    for variant in variants:
        print(f"\n== {variant.name}: {variant.title} ==", flush=True)
        folder = _folder(workdir, variant)
        main.run(variant.config, folder, lambda result, v=variant: on_fold(v, result))
    variants = _with_earlier(config, workdir, variants)
    found = {
        v.name: finished.with_earlier(found.get(v.name, []), _folder(workdir, v)) for v in variants
    }
    earlier = finished.read(_folder(workdir, variants[0])).config
    config.folds, config.seeds = earlier.folds, earlier.seeds  # of all calls
    return _write(config, workdir, variants, same, found)


def _with_earlier(config, workdir, variants):
    """The variants and those others of which the workdir has a finished fold, in their order."""
    from mmer_jax import runs as finished
    from mmer_jax.reporting import ablation

    known = {v.name: v for v in variants}
    for name in ablation.CHANGES:
        if name in known:
            continue
        try:
            variant = ablation.make(config, (name,))[0][-1]
        except UserError:
            continue  # of another config: this one has no such variant
        if variant.name not in known and finished.finished_folds(_folder(workdir, variant)):
            print(f"in the table too, finished before: {name}", flush=True)
            known[name] = variant
    return [known[name] for name in ablation.CHANGES if name in known]


def _folder(workdir, variant):
    """The folder of a variant's run; one that has its old name stays where it is."""
    from mmer_jax.reporting import ablation

    names = [variant.name, *(old for old, new in ablation.RENAMED.items() if new == variant.name)]
    folders = [os.path.join(workdir, name, variant.fingerprint) for name in names]
    return next((folder for folder in folders if files.exists(folder)), folders[0])


def _live(variants, found):
    """A short table of what is finished so far."""
    from mmer_jax.reporting import comparison

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


def _write(config, workdir, variants, same, found):
    from mmer_jax import configuration
    from mmer_jax.reporting import ablation, comparison, plots

    figures = comparison.compare(found, ablation.PRIMARY)
    titles = {v.name: v.title for v in variants}
    head, rows = comparison.rows(figures, titles)
    table = _markdown(config, variants, same, (head, rows), figures)
    folders = {v.name: os.path.relpath(_folder(workdir, v), workdir) for v in variants}
    traces = {
        v.name: {"config": v.fingerprint, "results": f"{folders[v.name]}/results.json"}
        for v in variants
    }
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
    from mmer_jax.metrics import intervals

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


def _markdown(config, variants, same, table, figures):
    from mmer_jax.reporting import analysis, comparison, report

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
            "**The corpus is synthetic**: this shows that the machinery works, and nothing about "
            "how much each part is worth on people's speech.",
            "",
        ]
    lines += [
        f"`{name}` is left out: its config is that of `{twin}`." for name, twin in same.items()
    ]
    lines += [""] if same else []
    places = [[v.title, v.fingerprint, f"{v.name}/{v.fingerprint}/results.json"] for v in variants]
    lines += ["Where each row is from:", "", *report.table(["system", "config", "results"], places)]
    return "\n".join(lines) + "\n"


def _command(_) -> int:
    """The command: prints the table, or one message and exit code 1."""
    return main.command(lambda c, workdir: (run(c, workdir, _VARIANTS.value), FILES), "ablation_")


if __name__ == "__main__":
    app.run(_command, flags_parser=main.parse_flags)
