"""How far a run is: a bar on a terminal, a plain line now and then elsewhere."""

import sys
import time

import tqdm

from mmer_jax import processes


class Progress:
    """Loss, utterances per second and time left of one fold's training.

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
        self._bar = None
        if sys.stderr.isatty() and processes.is_first():
            self._bar = tqdm.tqdm(total=total, initial=start, desc=title, unit="step")

    def update(self, step: int, utterances: int, loss: float | None = None) -> None:
        """After each step: its number from 1, its utterances, and the loss where it is known."""
        self._utterances += utterances
        if self._bar is not None:
            self._bar.update(step - self._step)
        self._step = step
        if loss is not None:
            self._show(loss)

    def say(self, text: str) -> None:
        """A line that stays."""
        if self._bar is not None:
            self._bar.write(f"{self._title}: {text}")
        else:
            print(f"{self._title}: {text}", flush=True)

    def _show(self, loss):
        rate = self._utterances / max(time.monotonic() - self._began, 1e-9)
        if self._bar is not None:
            self._bar.set_postfix_str(f"loss {loss:.3f}, {rate:.0f} utterances/s")
        elif time.monotonic() - self._said > self._every:
            self._said = time.monotonic()
            self.say(
                f"step {self._step}/{self._total}, loss {loss:.3f}, {rate:.0f} utterances/s, "
                f"{self._left():.0f} s left"
            )

    def _left(self):
        done = max(self._step - self._start, 1)
        return (time.monotonic() - self._began) / done * (self._total - self._step)

    def close(self) -> None:
        """Takes the bar away."""
        if self._bar is not None:
            self._bar.close()
