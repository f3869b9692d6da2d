"""Compiled programs by the shapes of their batches, and their compilation ahead, in threads."""

import concurrent.futures
import threading

import jax
import tqdm

WORKERS = 4  # programs that are compiled at once
# Python traces one at a time, or all of them, the first one too, would wait for each other.
_TRACING = threading.Lock()


class Programs:
    """A jitted function whose programs may be compiled before they are needed.

    What `lower(...).compile()` gives is not found by a call of the jitted function: so it is kept
    here, by the batch's shapes.

    Args:
      function: jitted, (anything, batch) -> anything; the first argument always has the same
        shapes.
      name: for messages.

    Attributes:
      function: as given.
      expected: how many shapes there are to be, for messages; 0: not known.
    """

    def __init__(self, function, name: str):
        self.function, self._name = function, name
        self._compiled, self._seen = {}, set()
        self.expected = 0

    def __call__(self, first, batch):
        """The function's value, by the program that was compiled ahead if there is one."""
        key = _shapes(batch)
        future = self._compiled.get(key)
        if future is None and key not in self._seen:
            self._announce(key)
        return (future.result() if future else self.function)(first, batch)

    def compile(self, pool, first, batch) -> None:
        """Has a program compiled in a thread of the pool; a call that needs it waits for it.

        Args:
          pool: a `concurrent.futures.Executor`.
          first: shapes of the first argument.
          batch: host arrays.
        """
        shapes = jax.eval_shape(lambda x: x, batch)
        key = _shapes(shapes)
        if key in self._seen or key in self._compiled:
            return

        def work():
            with _TRACING:
                self._announce(key)
                lowered = self.function.lower(first, shapes)
            return lowered.compile()

        self._compiled[key] = pool.submit(work)

    def forget_cancelled(self) -> None:
        """Drops what a pool that was shut down will not compile any more."""
        kept = {key: future for key, future in self._compiled.items() if not future.cancelled()}
        self._compiled = kept

    def count(self) -> int:
        """How many there are."""
        return len(self._compiled) + self.function._cache_size()

    def _announce(self, key):
        self._seen.add(key)
        count = len(self._seen)
        of = f" of {self.expected}" if count <= self.expected else ""
        with tqdm.tqdm.external_write_mode():
            print(f"{self._name}: compiling shape {count}{of}", flush=True)


def _shapes(batch):
    return tuple(sorted((name, x.shape, str(x.dtype)) for name, x in batch.items()))


def pays() -> bool:
    """Whether programs are compiled ahead.

    On CPUs the steps need the cores themselves; of several processes each would compile in an order
    of its own.
    """
    return jax.default_backend() != "cpu" and jax.process_count() == 1


class Ahead:
    """Programs that are compiled in threads while the first steps run, where it `pays`."""

    def __init__(self):
        self._pool = None
        if pays():
            self._pool = concurrent.futures.ThreadPoolExecutor(WORKERS, "compiler")
        self._programs = []

    def add(self, programs: Programs, first, batches, step: int = 0) -> None:
        """Begins to compile what a pass needs, in its order.

        Args:
          programs: see there.
          first: shapes of their first argument.
          batches: a `loader.Batches`.
          step: where the pass begins.
        """
        if self._pool is None:
            return
        self._programs.append(programs)
        for example in batches.examples(step):
            programs.compile(self._pool, first, example)

    def close(self) -> None:
        """What has not begun is compiled when it is needed."""
        if self._pool is None:
            return
        self._pool.shutdown(wait=False, cancel_futures=True)
        for programs in self._programs:
            programs.forget_cancelled()
