"""The host's memory of one step kept for the next one instead of given back to the system."""

import ctypes
import os
import sys
import threading
import time

# glibc's malloc.h
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
_SHARE = 0.5  # of the machine's memory that the process may keep
_SECONDS = 0.2  # between two looks
# Where a control group (a container, a cluster's job) says how much it may have.
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def keep(most: int | None = None) -> bool:
    """Tells glibc's malloc to hold on to what is freed.

    Call it before jax starts its threads, for a thread stays with the arena that it began with.

    XLA's CPU client allocates a step's temporary buffer, gigabytes for a large model, anew in each
    step. malloc would map it and unmap it, and the kernel would clear every page again. One arena,
    because the others can't grow so far. The price: the process stays as large as it once was, and
    larger where batches of several shapes leave holes that the next one does not fit. So a thread
    looks: beyond `most`, what is free is given back after all.

    Args:
      most: bytes; None: half of what the machine, or the process' control group, has.

    Returns:
      Whether it could be told; False on other systems and C libraries, where nothing changes.
    """
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version") or not hasattr(libc, "mallopt"):
        return False
    told = all(libc.mallopt(*option) for option in (
        (_ARENA_MAX, 1), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1),
    ))  # fmt: skip
    if told:
        most = int(_SHARE * _memory()) if most is None else most
        threading.Thread(target=_watch, args=(libc, most), name="host memory", daemon=True).start()
    return told


def _watch(libc, most):
    """Gives back what is free whenever the process is beyond `most` bytes."""
    left = 0
    while True:
        time.sleep(_SECONDS)
        # What is in use can't be given back: looked at again when a fifth more has come on top.
        if _resident() > max(most, left + most // 5):
            libc.malloc_trim(0)
            left = _resident()


def _resident():
    """Bytes of the process that are in memory."""
    with open("/proc/self/statm", encoding="ascii") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _memory():
    """Bytes that the machine has, or that the process' control group may have."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in _LIMITS:
        try:
            with open(path, encoding="ascii") as f:
                found.append(int(f.read()))
        except (OSError, ValueError):  # no such control group, or "max"
            continue
    return min(found)
