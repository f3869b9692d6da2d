"""Trains and cross-validates MMER: `python -m mmer_jax.main --config=configs/iemocap.py`."""

import contextlib
import functools
import logging as std_logging
import os
import sys
import time

from absl import app, flags, logging
from ml_collections import config_flags

from mmer_jax import cli, configuration, files, host_memory, losses, processes
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
    from mmer_jax import runs as finished
    from mmer_jax.reporting import report
    from mmer_jax.training import cross_validation

    workdir = files.resolve(workdir)
    whole = finished.open_workdir(workdir, config)
    trainers = _Trainers()
    results = []
    with _log_file(workdir):
        for one, folder in _by_seed(config, workdir):
            if folder != workdir:
                finished.open_workdir(folder, one)
            make = functools.partial(trainers.get, one)
            results += cross_validation.run(one, folder, make, on_fold, workdir)
    seconds = time.monotonic() - began if trainers.needed else None
    everything = finished.with_earlier(results, workdir)
    earlier = [r for r in everything if r.key not in {done.key for done in results}]
    if earlier:
        print(f"in the tables too, finished before: {finished.listed(earlier)}", flush=True)
    return report.write(whole, everything, workdir, seconds, hardware())


def _by_seed(config, workdir):
    """(config, folder) of each seed's run."""
    if not config.seeds:
        return [(config, workdir)]
    runs = []
    for seed in config.seeds:
        one = config.copy_and_resolve_references()
        one.seed, one.seeds = seed, ()
        runs.append((one, os.path.join(workdir, f"seed{seed}")))
    return runs


class _Trainers:
    """Makes one trainer when it is first needed and lends it to every seed."""

    def __init__(self):
        self._made = None

    @property
    def needed(self) -> bool:
        """Whether there was anything left to compute."""
        return self._made is not None

    def get(self, config):
        if self._made is None:
            self._made = _trainer(config)
        self._made.reseed(config)
        return self._made


@contextlib.contextmanager
def _log_file(workdir):
    """What the program and its libraries log goes to log.txt; only warnings are shown as well.

    In the first process, and where the workdir is on a disk; elsewhere nothing is kept.
    """
    if files.is_remote(workdir) or not processes.is_first():
        yield
        return
    logger, shown = logging.get_absl_logger(), logging.get_absl_handler()
    levels = logger.level, shown.level
    try:
        kept = std_logging.FileHandler(os.path.join(workdir, "log.txt"), encoding="utf-8")
    except OSError as e:  # a finished run is read again wherever it lies
        print(f"no log is kept ({e})", flush=True)
        yield
        return
    kept.handleError = lambda record: None  # a full disk is said by what can't do without it
    kept.setFormatter(std_logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger.addHandler(kept)
    logger.setLevel(std_logging.INFO)
    shown.setLevel(std_logging.WARNING)
    try:
        yield
    finally:
        logger.removeHandler(kept)
        kept.close()
        logger.setLevel(levels[0])
        shown.setLevel(levels[1])


def _trainer(config):
    from mmer_jax.training.trainer import Trainer

    print("reading the corpus and building the model ...", flush=True)
    trainer = Trainer.for_corpus(config)
    f = trainer.collator
    edges = ", ".join(f"{n / 16000:.1f}" for n in f.edges)
    print(
        f"{len(f.corpus.utterances)} utterances, {len(f.edges)} buckets of {edges} s, "
        f"{100 * f.choice.padding:.1f} % padding; running on {hardware()}",
        flush=True,
    )
    for line in _about_views(config, f):
        print(line, flush=True)
    limit = config.data.max_padding
    if not config.data.buckets and not f.choice.reached:
        views = "the two views of an utterance differ too much in length."
        rows = f"too few utterances are of like length for batches of {config.data.batch_size}."
        reason = views if f.choice.floor > limit else rows
        print(f"config.data.max_padding={limit} is out of reach here: {reason}", flush=True)
    return trainer


def _about_views(config, collator):
    """What is to be known of the corpus's augmented views, line by line."""
    utterances, modalities = collator.corpus.utterances, tuple(config.model.modalities)
    texts, recordings = (
        [u.has_view((one,)) for u in utterances] for one in configuration.MODALITIES[::-1]
    )
    both = sum(a and b for a, b in zip(texts, recordings))
    if any(texts) or any(recordings):
        yield (
            f"Augmented views: {sum(texts)} utterances have a text, {sum(recordings)} a "
            f"recording, {both} both."
        )
    for loss in () if collator.augmented else losses.of_two_views(config.losses):
        needed = {"audio": "recordings", "text": "texts"}
        yield (
            f"{losses.LOSSES[loss].title.capitalize()} (losses.{loss}) is off: the corpus has no "
            f"augmented {' with '.join(needed[name] for name in modalities[::-1])} to train on."
        )
    voices = [v for u in utterances for v in u.aug_voices]
    if collator.augmented and "audio" in modalities and not all(voices):
        yield (
            f"Warning: {voices.count('')} of {len(voices)} augmented recordings do not say whose "
            "voice they have; a test speaker's may be among them. Say it in the column `voice` of "
            "the table in augmented/ and build the dataset again."
        )


def hardware() -> str:
    """The devices, in words."""
    import jax

    kinds = [d.device_kind for d in jax.devices()]
    return f"{len(kinds)} x {kinds[0]} ({os.cpu_count()} CPU cores)"


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
    host_memory.keep()  # now: jax's threads keep the arenas that they have begun with
    if _CACHE.value:
        cli.keep_compilations(_CACHE.value)

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
