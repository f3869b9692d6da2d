"""An object in a process of its own: no side of a comparison computes in the other's memory."""

import multiprocessing
import time

from mmer_jax import host_memory


class Apart:
    """What `make(*args)` returns, in a new process.

    Args:
      make: a class or function that can be imported.
      args: its arguments.
      keep: whether freed memory is kept there, as the commands of mmer_jax do it.
    """

    def __init__(self, make, *args, keep: bool = False):
        spawn = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(theirs, make, args, keep), daemon=True)
        self._process.start()
        theirs.close()  # so that the end of the process is the end of the pipe

    def ask(self, method: str, *args):
        """What the object's method returns.

        Raises:
          RuntimeError: the process has ended, for want of memory as a rule.
        """
        return self.timed(method, *args)[0]

    def timed(self, method: str, *args):
        """(what the method returns, the processor time in seconds that it took)."""
        try:
            self._pipe.send((method, args))
            return self._pipe.recv()
        except (BrokenPipeError, EOFError, ConnectionResetError) as e:
            self._process.join()
            raise RuntimeError(
                f"a benchmark's process ended with exit code {self._process.exitcode} in "
                f"{method}; -9 is what the system does where memory runs out"
            ) from e

    def close(self) -> None:
        """Ends the process."""
        self._pipe.send((None, ()))
        self._process.join()


def _serve(pipe, make, args, keep):
    if keep:
        host_memory.keep()
    served = make(*args)
    while (asked := pipe.recv())[0] is not None:
        method, given = asked
        start = time.process_time()
        result = getattr(served, method)(*given)
        pipe.send((result, time.process_time() - start))
