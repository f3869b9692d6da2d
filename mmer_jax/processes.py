"""One program in several processes, one per host: their start, and who writes what all compute.

Every process runs the same program on its own share of each batch. Files are written by the first
one alone, checkpoints (orbax) by all together. Without `start` there is one process, and nothing
here imports jax.
"""

import os

from mmer_jax.errors import UserError

_started = False


def start(coordinator: str | None, count: int | None, number: int | None, automatic: bool) -> None:
    """Joins the other processes, if there are to be any; call it before jax makes an array.

    Args:
      coordinator: host:port of the first process; default $JAX_COORDINATOR_ADDRESS.
      count: how many processes; default $JAX_NUM_PROCESSES.
      number: this one's, from 0; default $JAX_PROCESS_ID.
      automatic: jax asks the cluster (Cloud TPU, Slurm, Open MPI, Kubernetes) for all three.

    Raises:
      UserError: some of the three are missing, or the others can't be reached.
    """
    global _started
    given = {
        "coordinator_address": coordinator or os.environ.get("JAX_COORDINATOR_ADDRESS"),
        "num_processes": _number(count, "JAX_NUM_PROCESSES"),
        "process_id": _number(number, "JAX_PROCESS_ID"),
    }
    missing = [name for name, value in given.items() if value is None]
    if len(missing) == 3 and not automatic:
        return
    if missing and not automatic:
        raise UserError(
            f"Of the flags of a run in several processes --{', --'.join(missing)} is missing. Give "
            "all of --coordinator_address=HOST:PORT --num_processes=N --process_id=K, or "
            "--distributed where the cluster tells jax."
        )
    import jax

    try:
        jax.distributed.initialize(**given)
    except (RuntimeError, ValueError) as e:
        raise UserError(f"The processes of this run can't be joined: {e}") from e
    if jax.default_backend() == "cpu":
        # Read back from the cache, a program of XLA's CPU compiler runs its collectives in another
        # order in each process: gloo aborts with "distributed collective mismatch" (jax 0.10.2).
        jax.config.update("jax_enable_compilation_cache", False)
    _started = True


def _number(value, variable):
    if value is not None:
        return value
    text = os.environ.get(variable)
    if text is not None and not text.isdigit():
        raise UserError(f"The environment's {variable} is {text!r}; expected a number.")
    return None if text is None else int(text)


def is_first() -> bool:
    """Whether this process is the one that writes files and speaks."""
    if not _started:
        return True
    import jax

    return jax.process_index() == 0


def first_says(answer: bool) -> bool:
    """The first process's answer, in every process, when all have asked."""
    if not _started:
        return answer
    from jax.experimental import multihost_utils

    return bool(multihost_utils.broadcast_one_to_all(answer))


def hardware() -> str:
    """The devices, in words."""
    import jax

    kinds = [d.device_kind for d in jax.devices()]
    return f"{len(kinds)} x {kinds[0]} ({os.cpu_count()} CPU cores)"
