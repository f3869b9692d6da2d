"""Trains and cross-validates MMER: `python -m mmer_jax.main --config=configs/iemocap.py`."""

import os
import sys
import time

from absl import app, flags, logging
from ml_collections import config_flags

from mmer_jax import cli, configuration, files, processes
from mmer_jax.errors import UserError

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "A file of configs/, and a variant behind a colon.", lock_config=True
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Where checkpoints and results go; default runs/<name of the config>."
)
_CACHE = flags.DEFINE_string(
    "compilation_cache", cli.CACHE, "Folder for compiled programs; empty: none."
)
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "One process per host, joined as the cluster tells jax (TPU, Slurm)."
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator_address", None, "HOST:PORT of the first process, in a run of several."
)
_PROCESSES = flags.DEFINE_integer("num_processes", None, "How many processes the run has.")
_PROCESS = flags.DEFINE_integer("process_id", None, "This process's number, from 0.")
flags.mark_flag_as_required("config")


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
    is_new = not files.exists(os.path.join(workdir, runs.CONFIG))
    whole = runs.open_workdir(workdir, config)
    try:
        with log_file(workdir):
            results, computed = cross_validation.run(config, workdir, on_fold)
    except UserError:
        if is_new:  # else the same command with the mistake mended would be refused
            runs.forget_config(workdir)
        raise
    seconds = time.monotonic() - began if computed else None
    everything = runs.with_earlier(results, workdir)
    earlier = [r for r in everything if r.key not in {done.key for done in results}]
    if earlier:
        print(f"in the tables too, finished before: {runs.listed(earlier)}", flush=True)
    return report.write(whole, everything, workdir, seconds, processes.hardware())


def command(work, prefix: str = "") -> int:
    """Does `work(config, workdir)` as the flags say; one message where it can't be done.

    Args:
      work: returns a table and the names of the files that it wrote.
      prefix: of the default workdir's name.

    Returns:
      The exit code.
    """
    logging.set_verbosity(logging.WARNING)
    config = _CONFIG.value
    workdir = _WORKDIR.value or os.path.join("runs", prefix + config.name)
    if _CACHE.value:
        cli.cache_compilations(_CACHE.value)

    def go():
        processes.start(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value, _DISTRIBUTED.value)
        if not processes.is_first():
            sys.stdout = open(os.devnull, "w")  # the first one speaks for all
        table, written = work(config, workdir)
        print(f"\n{table}\nWritten to {workdir}: {', '.join(written)}")

    return cli.attempt(go, "the same command goes on after the last whole epoch", workdir)


def _train(config, workdir):
    from mmer_jax.reporting import report

    return run(config, workdir), report.FILES


def main(_) -> int:
    """The command: prints the table, or one message and exit code 1."""
    return command(_train)


def parse_flags(argv):
    """Flags -> remaining arguments; a wrong option or variant is one message, not a traceback."""
    try:
        # ml_collections reads the config's options from sys.argv itself.
        sys.argv, notices = configuration.rename_arguments(argv)
        for notice in notices:
            print(notice, file=sys.stderr)
        rest = flags.FLAGS(sys.argv)
        _CONFIG.value.name  # noqa: B018 - a config file that isn't there is only reported on use
        return rest
    except (flags.Error, UserError) as e:
        message = str(e)
    except OSError as e:
        message = f"{str(e).strip()}\nSee configs/ for the config files that exist."
    except (AttributeError, KeyError, TypeError, ValueError) as e:
        # ml_collections: an option that the config lacks, or a value of another type.
        message = " ".join(str(a) for a in e.args)
    print(f"error: {message}", file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
