"""The host's memory of one step kept for the next one instead of given back to the system."""

import ctypes
import os
import sys
import threading
import time

# glibc's malloc.h
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
_SHARE = 0.25  # of the machine's memory that must stay available
_SECONDS = 0.2  # between two looks
_NOTABLE = 0.05  # share of the process' memory that is worth giving back
# Where a control group (a container, a cluster's job) says what it may have, and what it has taken.
_GROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    ),
)


def keep(spare: int | None = None) -> bool:
    """Tells glibc's malloc to hold on to what is freed.

    Call it before jax starts its threads, for a thread stays with the arena that it began with.

    XLA's CPU client allocates a step's temporary buffer, gigabytes for a large model, anew in each
    step. malloc would map it and unmap it, and the kernel would clear every page again. One arena,
    because the others can't grow so far. The price: the process stays as large as it once was, and
    larger where batches of several shapes leave holes that the next one does not fit. So a thread
    looks: where less than `spare` is available, what is free is given back after all.

    Args:
      spare: bytes; None: a quarter of what the machine, or the process' control group, has.

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
        spare = int(_SHARE * _memory()[0]) if spare is None else spare
        threading.Thread(target=_watch, args=(libc, spare), name="host memory", daemon=True).start()
    return told


def _watch(libc, spare):
    """Gives back what is free whenever less than `spare` bytes are available."""
    left = 0
    while True:
        time.sleep(_SECONDS)
        if _memory()[1] >= spare:
            continue
        resident = _resident()
        # What can't be given back is left over: looked at again when something has come on top.
        if resident - _in_use(libc) > left + _NOTABLE * resident:
            libc.malloc_trim(0)
            left = _resident() - _in_use(libc)


class _MallInfo(ctypes.Structure):
    """glibc's `struct mallinfo2`."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
            "fordblks", "keepcost",
        )
    ]  # fmt: skip


def _in_use(libc):
    """Bytes that malloc has given out; 0 before glibc 2.33, which could not tell."""
    if not hasattr(libc, "mallinfo2"):
        return 0
    libc.mallinfo2.restype = _MallInfo
    return libc.mallinfo2().uordblks


def _resident():
    """Bytes of the process that are in memory."""
    with open("/proc/self/statm", encoding="ascii") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _memory():
    """Bytes that there are, and those available: of the machine, or of the control group."""
    with open("/proc/meminfo", encoding="ascii") as f:
        kib = {name: int(rest.split()[0]) for name, rest in (x.split(":") for x in f)}
    found = [(kib["MemTotal"] << 10, kib["MemAvailable"] << 10)]
    for limit, taken in _GROUPS:
        try:
            with open(limit, encoding="ascii") as a, open(taken, encoding="ascii") as b:
                most = int(a.read())
                found.append((most, most - int(b.read())))
        except (OSError, ValueError):  # no such control group, or "max"
            continue
    return min(found)
