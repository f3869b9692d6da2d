"""Trains and cross-validates MMER: `python -m mmer_jax.main --config=iemocap`."""

import os
import sys
import time

from mmer_jax import cli, config_file, configuration, files, processes


def run(config, workdir: str, on_fold=None) -> str:
    """Runs a config's folds and writes the results; what the command does, for notebooks.

    Args:
      config: see `mmer_jax/configuration.py`.
      workdir: where everything goes; a finished part of it is not done again.
      on_fold: called with each fold's result (see `cross_validation.run`) when it is there.

    Returns:
      The table of results.md: of every finished fold and seed of the workdir, whichever the config
      asks for.

    Raises:
      UserError: something that the user can mend.
    """
    began = time.monotonic()
    configuration.validate(config)
    # Imported late: a wrong option is reported at once, without seconds of imports.
    from mmer_jax import runs
    from mmer_jax.reporting import report
    from mmer_jax.training import cross_validation
    from mmer_jax.training.logging import log_file

    workdir = files.resolve(workdir)
    with runs.taken_back(workdir):
        whole = runs.open_workdir(workdir, config)
        with log_file(workdir):
            results, computed = cross_validation.run(config, workdir, on_fold)
    seconds = time.monotonic() - began if computed else None
    with runs.writing(workdir):
        everything = runs.with_earlier(results, workdir)
        earlier = [r for r in everything if r.key not in {done.key for done in results}]
        if earlier:
            print(f"in the tables too, finished before: {runs.listed(earlier)}", flush=True)
        return report.write(whole, everything, workdir, seconds, processes.hardware())


def parser(module: str, description: str) -> config_file.Parser:
    """With the options that training and ablation share."""
    parser = config_file.Parser(prog=f"python -m mmer_jax.{module}", description=description)
    add = parser.add_argument
    add("--workdir", help="for checkpoints and results; default: runs/<name of the config>")
    add("--compilation_cache", default=cli.CACHE, metavar="FOLDER",
        help="for compiled programs; empty: none; default: %(default)s")  # fmt: skip
    add("--distributed", nargs="?", const=True, default=False, type=config_file.truth,
        metavar="true", help="a process per host, joined as TPU or Slurm say")  # fmt: skip
    add("--coordinator_address", metavar="HOST:PORT", help="of the first of several processes")
    add("--num_processes", type=int, metavar="N", help="how many processes the run has")
    add("--process_id", type=int, metavar="N", help="this process's number, from 0")
    return parser


def command(args, config, work, prefix: str = "") -> int:
    """Does `work(config, workdir)` as the options say; one message where it can't be done.

    Args:
      args: what `parser` parsed.
      config: of the run.
      work: returns a table and the names of the files that it wrote.
      prefix: of the default workdir's name.

    Returns:
      The exit code.
    """
    workdir = args.workdir or os.path.join("runs", prefix + config.name)
    if args.compilation_cache:
        cli.cache_compilations(args.compilation_cache)

    def go():
        where = args.coordinator_address, args.num_processes, args.process_id
        processes.start(*where, args.distributed)
        if not processes.is_first():
            sys.stdout = open(os.devnull, "w")  # the first one speaks for all
        table, written = work(config, workdir)
        from mmer_jax.reporting import report

        print(f"\n{report.aligned(table)}\nWritten to {workdir}: {', '.join(written)}")

    return cli.attempt(go, "the same command goes on after the last whole epoch", workdir)


def _train(config, workdir):
    from mmer_jax.reporting import report

    return run(config, workdir), report.FILES


def main(argv: list[str] | None = None) -> int:
    """The command: prints the table, or one message and exit code 1."""
    return command(*parser("main", __doc__).parse(argv), _train)


if __name__ == "__main__":
    sys.exit(main())
