"""Metrics of a training, to JSONL and TensorBoard, and its progress, to the terminal."""

import contextlib
import json
import logging as std_logging
import os
import sys
import time

import tqdm
from absl import logging

from mmer_jax import files, processes, runs


@contextlib.contextmanager
def _silent_stderr():
    """Nothing that native code writes to stderr is seen while this lasts."""
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


# tensorflow says at every start, whatever its log level, which CPU instructions and which CUDA it
# has or lacks: of no use to those who read a training's progress, as it only writes event files.
with _silent_stderr():
    import tensorflow as tf
    from clu import metric_writers


class MetricsWriter:
    """Scalars by step, to `folder/metrics.jsonl` and to TensorBoard in `folder/tensorboard`.

    A line of JSON per step: {"step": 20, "train/loss": 1.2, ...}. Processes but the first write
    nothing.

    Args:
      folder: made if missing.
      resumed_at: lines after this step, left by an interrupted run, are dropped.
    """

    def __init__(self, folder: str, resumed_at: int):
        self._path = os.path.join(folder, runs.METRICS)
        self._file = self._events = None
        if not processes.is_first():
            return
        # An object can't be appended to: there the lines are kept and written as a whole.
        self._lines = self._begin(resumed_at)
        if not files.is_remote(folder):
            os.makedirs(folder, exist_ok=True)
            self._file = open(self._path, "a", encoding="utf-8")
        # tensorflow only writes event files here; left alone it would take the whole GPU.
        tf.config.set_visible_devices([], "GPU")
        self._events = metric_writers.SummaryWriter(os.path.join(folder, "tensorboard"))

    def _begin(self, step):
        if not files.exists(self._path):
            return ""
        lines = files.read_text(self._path).splitlines(keepends=True)
        kept = [x for x in lines if x.endswith("\n") and json.loads(x)["step"] <= step]
        files.replace_file(self._path, "".join(kept))
        return "".join(kept)

    def write(self, step: int, scalars: dict) -> None:
        """Appends a line; written at once, to both, so that a killed run keeps it."""
        if self._events is None:
            return
        scalars = {name: float(value) for name, value in scalars.items()}
        line = json.dumps({"step": step} | scalars) + "\n"
        self._lines += line
        if self._file is not None:
            self._file.write(line)
            self._file.flush()
        self._events.write_scalars(step, scalars)
        self._events.flush()

    def close(self) -> None:
        """Writes what waits, and closes the files."""
        if self._events is None:
            return
        if self._file is not None:
            self._file.close()
        else:
            files.replace_file(self._path, self._lines)
        self._events.close()


class Progress:
    """A bar on a terminal or in a notebook, elsewhere a line now and then: loss, speed, time left.

    Args:
      title: what is running, e.g. `fold 5`.
      total: steps of the whole run.
      start: steps that an earlier run did.
      every: seconds between two plain lines.
    """

    def __init__(self, title: str, total: int, start: int, every: float = 20.0):
        self._title, self._total, self._start, self._every = title, total, start, every
        self._step, self._utterances = start, 0
        self._began = self._said = time.monotonic()
        shown = sys.stderr.isatty() or "ipykernel" in sys.modules  # a terminal, or a notebook
        hidden = not (shown and processes.is_first())
        self._bar = tqdm.tqdm(total=total, initial=start, desc=title, unit="step", disable=hidden)

    def update(self, step: int, utterances: int) -> None:
        """After each step is given to the devices: its number from 1, and its utterances."""
        self._utterances += utterances
        self._bar.update(step - self._step)
        self._step = step

    def show(self, step: int, loss: float) -> None:
        """The loss up to a step, when it is known, with speed and time left."""
        now = time.monotonic()
        rate = self._utterances / max(now - self._began, 1e-9)
        self._bar.set_postfix_str(f"loss {loss:.3f}, {rate:.0f} utterances/s")
        if self._bar.disable and now - self._said > self._every:
            self._said = now
            per_step = (now - self._began) / max(self._step - self._start, 1)
            self.say(
                f"step {step}/{self._total}, loss {loss:.3f}, {rate:.0f} utterances/s, "
                f"{per_step * (self._total - self._step):.0f} s left"
            )

    def say(self, text: str) -> None:
        """A line that stays."""
        with self._bar.external_write_mode():
            print(f"{self._title}: {text}", flush=True)

    def close(self) -> None:
        """Takes the bar away."""
        self._bar.close()


@contextlib.contextmanager
def log_file(workdir: str):
    """What the program and its libraries log goes to log.txt; only warnings are shown as well.

    In the first process, and where the workdir is on a disk; elsewhere nothing is kept.
    """
    if files.is_remote(workdir) or not processes.is_first():
        yield
        return
    logger = logging.get_absl_logger()
    level, propagates = logger.level, logger.propagate
    try:
        kept = std_logging.FileHandler(os.path.join(workdir, runs.LOG), encoding="utf-8")
    except OSError as e:  # a finished run is read again wherever it lies
        print(f"no log is kept ({e})", flush=True)
        yield
        return
    kept.handleError = lambda record: None  # a full disk is said by what can't do without it
    kept.setFormatter(std_logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    warnings = std_logging.Handler(std_logging.WARNING)
    warnings.emit = std_logging.root.handle
    for handler in (kept, warnings):
        logger.addHandler(handler)
    logger.setLevel(std_logging.INFO)
    logger.propagate = False  # a notebook's root logger would show every record
    try:
        yield
    finally:
        for handler in (kept, warnings):
            logger.removeHandler(handler)
        kept.close()
        logger.setLevel(level)
        logger.propagate = propagates
