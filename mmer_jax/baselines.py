"""Floors beside a run's results, on the same folds: `python -m mmer_jax.baselines WORKDIR`.

Majority class, transcripts alone and the untrained audio encoder's states alone, by scikit-learn;
written to WORKDIR/baselines.json and, of a finished run, into its results.md.
"""

import json
import os
import sys

from mmer_jax import cli, files, processes


def run(workdir: str, data_dir: str = "") -> str:
    """Measures the floors of a run; what the command does, for notebooks.

    Args:
      workdir: of a run of `mmer_jax.main`, begun or finished.
      data_dir: where the prepared dataset is now; empty: where the run had it.

    Returns:
      A Markdown table of the floors.

    Raises:
      UserError: no run there, or its dataset is gone.
    """
    from mmer_jax import runs
    from mmer_jax.data import folds
    from mmer_jax.reporting import report
    from mmer_jax.training import baselines
    from mmer_jax.training.trainer import Trainer

    workdir = files.resolve(workdir)
    config = runs.read_config(workdir)
    if data_dir:
        config.data.dir = data_dir
    config.data.cache_features = False  # of all layers' states only their moments are wanted here
    cli.cache_compilations()
    trainer = Trainer.for_corpus(config)
    tested = folds.selected(trainer.corpus.utterances, config)
    floors = baselines.measure(trainer, tested, lambda s: print(s, flush=True))
    content = json.dumps({"floors": floors, "versions": report.versions()}, indent=1) + "\n"
    files.replace_file(os.path.join(workdir, report.BASELINES), content)
    finished = runs.finished_folds(workdir)
    if finished and files.exists(os.path.join(workdir, runs.SUMMARY)):
        results = [fold.result for fold in finished]
        report.write(config, results, workdir, None, processes.hardware())
    return report.floor_table(report.floor_rates(floors))


def main(argv: list[str] | None = None) -> int:
    """The command; 1 and one message where something is wrong."""
    parser = cli.Parser(prog="python -m mmer_jax.baselines", description=__doc__)
    parser.add_argument("workdir", metavar="WORKDIR", help=f"{cli.RUN}, or of one that has begun")
    parser.add_argument(
        "--data_dir", default="", help="where the prepared dataset is, if it has moved"
    )
    args = parser.parse_args(argv)

    def work():
        table = run(args.workdir, args.data_dir)
        from mmer_jax.reporting import report

        place = files.resolve(args.workdir)
        print(f"\n{report.aligned(table)}\n\nWritten to {place}/baselines.json")

    return cli.attempt(work, "nothing was written")


if __name__ == "__main__":
    sys.exit(main())
