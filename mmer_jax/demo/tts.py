"""Text to speech: hands jobs to espeak-ng worker processes.

The GPL-licensed library is loaded by the workers (`espeak.py`) and never by this process.
"""

import json
import os
import queue
import subprocess
import sys
from pathlib import Path

import numpy as np

from mmer_jax.errors import UserError

WORKER = Path(__file__).with_name("espeak.py")
MAX_WORKERS = 8
INSTALL = (
    "the demo corpus is spoken by espeak-ng, and the package espeakng-loader that brings it is "
    'not installed: pip install "mmer_jax[demo]"'
)


class _Worker:
    """One worker process, spoken to in lock step."""

    def __init__(self):
        # -P keeps this folder off the worker's import path, where it could hide other modules.
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(WORKER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        try:
            self.greeting = self._read()
        except BaseException:
            self.close()
            raise

    def _read(self):
        line = self.process.stdout.readline()
        if not line.endswith(b"\n"):
            raise UserError(
                "the espeak-ng worker stopped without an answer; what it printed above says why"
            )
        message = json.loads(line)
        if message.get("error", "").startswith("missing:"):
            raise UserError(INSTALL)
        if "error" in message:
            raise UserError(f"espeak-ng failed: {message['error']}")
        return message

    def say(self, job):
        try:
            self.process.stdin.write(json.dumps(job).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise UserError("the espeak-ng worker has stopped; run the command again") from None
        size = 2 * self._read()["samples"]
        data = self.process.stdout.read(size)
        if len(data) < size:
            raise UserError("the espeak-ng worker stopped in mid-answer; run the command again")
        return np.frombuffer(data, np.int16)

    def close(self):
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        self.process.stdout.close()
        self.process.wait()


class Espeak:
    """A pool of espeak-ng worker processes, used as a context manager.

    Args:
        workers: processes to start; the number of usable cores (at most 8) if None.

    Attributes:
        workers: how many calls of `say` may run at the same time.
        sample_rate: of the speech, in Hz.
        version: the library's own version text.

    Raises:
        UserError: espeakng-loader is not installed, or its library cannot be used here.
    """

    def __init__(self, workers=None):
        if not hasattr(os, "fork"):
            raise UserError("the demo corpus needs os.fork, which this system lacks: use Linux")
        self.workers = workers or min(MAX_WORKERS, _cores())
        self._idle = queue.Queue()
        self._all = []

    def __enter__(self):
        try:
            for _ in range(self.workers):
                self._all.append(_Worker())
                self._idle.put(self._all[-1])
        except BaseException:
            self.__exit__()
            raise
        self.sample_rate = self._all[0].greeting["sample_rate"]
        self.version = self._all[0].greeting["version"]
        return self

    def __exit__(self, *_):
        for worker in self._all:
            worker.close()

    def say(self, job):
        """Speaks one job; the same job gives the same samples in any order and any process.

        Args:
            job: dict of `text`, `voice` (an espeak-ng voice name), `rate` (words a minute), `pitch`
                (0..99), `range` (0..100), `volume` (0..200), `gap` (10 ms between words) and
                `seed`, all but the first two integers.

        Returns:
            int16 [n], at `sample_rate`.

        Raises:
            UserError: espeak-ng refused the job or its process ended.
        """
        worker = self._idle.get()
        try:
            return worker.say(job)
        finally:
            self._idle.put(worker)


def _cores():
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
