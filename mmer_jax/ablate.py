"""What each part is worth: `python -m mmer_jax.ablate --config=demo`.

Runs the full model and the variants of `reporting/ablation.py` over seeds and folds, and writes
one table of them: Markdown, LaTeX, CSV, JSON and a plot. Whatever is finished is not run again,
and a changed config has folders of its own, so the same command continues after any interruption.
"""

import sys

from mmer_jax import files
from mmer_jax import main as training

SEEDS = (0, 1, 2)  # where the config names none: one seed says nothing about chance


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
    from mmer_jax import runs
    from mmer_jax.data import folds
    from mmer_jax.reporting import ablation, ablation_report

    config = config.copy_and_resolve_references()
    config.seeds = tuple(config.seeds) or SEEDS
    workdir = files.resolve(workdir)
    variants, same = ablation.make(config, names)
    for name, twin in same.items():
        print(f"{name}: left out, for its config is that of {twin}", flush=True)
    runs_in_all = len(config.seeds) * len(folds.of_dataset(variants[0].config)) * len(variants)
    results = {v.name: [] for v in variants}

    def on_fold(variant, result):
        results[variant.name].append(result)
        done = sum(map(len, results.values()))
        print(f"\n{done} of {max(done, runs_in_all)} runs are finished:", flush=True)
        print(ablation_report.progress(variants, results), flush=True)

    for variant in variants:
        print(f"\n== {variant.name}: {variant.title} ==", flush=True)
        folder = ablation.folder_of(workdir, variant)
        training.run(variant.config, folder, lambda result, v=variant: on_fold(v, result))
    with runs.writing(workdir):
        variants = ablation.with_finished(config, workdir, variants)
        folders = {v.name: ablation.folder_of(workdir, v) for v in variants}
        results = {n: runs.with_earlier(results.get(n, []), path) for n, path in folders.items()}
        earlier = runs.read(folders[variants[0].name]).config
        config.folds, config.seeds = earlier.folds, earlier.seeds  # of all calls
        return ablation_report.write(config, workdir, variants, same, results)


def main(argv: list[str] | None = None) -> int:
    """The command: prints the table, or one message and exit code 1."""
    parser = training.parser("ablate", __doc__)
    parser.add_argument(
        "--variants", type=lambda names: [n.strip() for n in names.split(",") if n], default=(),
        metavar="NAME,NAME,...", help="to compare with `full`; default: all there are",
    )  # fmt: skip
    args, config = parser.parse(argv)

    def work(config, workdir):
        from mmer_jax.reporting.ablation_report import FILES

        return run(config, workdir, args.variants), FILES

    return training.command(args, config, work, "ablation_")


if __name__ == "__main__":
    sys.exit(main())
