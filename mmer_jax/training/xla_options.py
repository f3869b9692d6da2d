"""XLA's compiler options of a training step."""

import jax

# As jaxlib names it: until 0.9.0, and after.
_BEFORE = {"xla_cpu_enable_concurrency_optimized_scheduler": False}
_SINCE = {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}


def compiler_options() -> dict:
    """For `jax.jit(..., compiler_options=...)`: on CPUs the order of least memory, else {}.

    By default a CPU runs whatever it can at once. What a layer computes a second time for its
    derivative is then computed early and kept, so that nothing is saved by it. A step's large
    products fill the cores one by one; running two at once does not make them faster.
    """
    if jax.default_backend() != "cpu":
        return {}
    return _SINCE if jax.__version_info__ >= (0, 9, 1) else _BEFORE
