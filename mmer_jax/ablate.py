"""What each part is worth: `python -m mmer_jax.ablate --config=configs/demo.py`.

Runs the full model and the variants of `evaluation/ablations.py` over seeds and folds, and writes
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
    from mmer_jax.evaluation import ablations, cross_validation, finished

    config = config.copy_and_resolve_references()
    config.seeds = tuple(config.seeds) or SEEDS
    workdir = files.resolve(workdir)
    variants, same = ablations.make(config, names)
    for name, twin in same.items():
        print(f"{name}: left out, for its config is that of {twin}", flush=True)
    each = len(config.seeds) * len(cross_validation.selected_folds(config))
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
    from mmer_jax.evaluation import ablations, finished

    known = {v.name: v for v in variants}
    for name in ablations.CHANGES:
        if name in known or not files.exists(os.path.join(workdir, name)):
            continue
        try:
            variant = ablations.make(config, (name,))[0][-1]
        except UserError:
            continue  # of another config: this one has no such variant
        if variant.name not in known and finished.all_of(_folder(workdir, variant)):
            print(f"in the table too, finished before: {name}", flush=True)
            known[name] = variant
    return [known[name] for name in ablations.CHANGES if name in known]


def _folder(workdir, variant):
    return os.path.join(workdir, variant.name, variant.fingerprint)


def _live(variants, found):
    """A short table of what is finished so far."""
    from mmer_jax.evaluation import comparison

    kept = {v.name: found[v.name] for v in variants if found[v.name]}
    figures = comparison.compare(kept, "dialog")  # no interval is shown: any grouping would do
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
    from mmer_jax.evaluation import comparison, plots

    figures = comparison.compare(found, config.bootstrap)
    titles = {v.name: v.title for v in variants}
    head, rows = comparison.rows(figures, titles)
    table = _markdown(config, variants, same, head, rows, figures)
    traces = {
        v.name: {"config": v.fingerprint, "results": f"{v.name}/{v.fingerprint}/results.json"}
        for v in variants
    }
    systems = {v.name: traces[v.name] | {"title": v.title} | figures[v.name] for v in variants}
    summary = {
        "name": config.name, "fingerprint": configuration.fingerprint(config),
        "bootstrap": config.bootstrap, "selection": config.selection, "same": same,
        "systems": systems, "config": configuration.to_json(config),
    }  # fmt: skip
    content = {
        "ablation.md": table,
        "ablation.tex": comparison.latex(head, rows, _caption(config, figures)),
        "ablation.csv": comparison.csv_text(figures, titles, traces),
        "ablation.json": json.dumps(summary, indent=2) + "\n",
        "ablation.png": plots.comparison_png([_drawn(systems[v.name]) for v in variants]),
    }
    if processes.is_first():
        for name, data in content.items():
            files.replace_file(os.path.join(workdir, name), data)
    return table


def _drawn(system):
    tested = system["difference"] or {"difference": None, "interval": None}
    return {
        "title": system["title"], "values": system["ua"]["values"], "mean": system["ua"]["mean"],
        "difference": tested["difference"], "interval": tested["interval"],
    }  # fmt: skip


def _counted(name, numbers):
    return f"{name}{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"


def _caption(config, figures):
    full = figures["full"]
    seeds, folds = (_counted(k, full[f"{k}s"]) for k in ("seed", "fold"))
    chosen = (
        "the epoch chosen ON THE TEST SIDE (selection=published)"
        if config.selection == "published"
        else "the epoch chosen on held-out dialogs of the training side"
    )
    spread = "the seeds' means" if len(full["seeds"]) > 1 else "the folds"
    return (
        f"Ablation of {config.name}: {config.protocol} {folds}, {seeds}, {chosen}. In "
        f"percent; mean and standard deviation over {spread}."
    )


def _markdown(config, variants, same, head, rows, figures):
    from mmer_jax.evaluation import analysis, report

    tested = sum(f["difference"] is not None for f in figures.values())
    lines = [f"# Ablation of {config.name}", "", *report.table(head, rows), ""]
    lines += [
        _caption(config, figures),
        "",
        "WA = correct / all; UA = mean of the classes' recalls. The difference is over all test "
        f"utterances of all runs together; interval and two-sided p by drawing whole "
        f"{config.bootstrap}s, the same ones for both systems; p (Holm) corrects for the {tested} "
        "differences that are tested.",
        "",
    ]
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
