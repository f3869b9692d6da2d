"""The host's memory of one step kept for the next one instead of given back to the system."""

import ctypes
import sys

# glibc's malloc.h
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def keep() -> bool:
    """Tells glibc's malloc to hold on to what is freed.

    Call it before jax starts its threads, for a thread stays with the arena that it began with.

    XLA's CPU client allocates a step's temporary buffer, gigabytes for a large model, anew in each
    step. malloc would map it and unmap it, and the kernel would clear every page again. One arena,
    because the others can't grow so far. The price: the process stays as large as it once was.

    Returns:
      Whether it could be told; False on other systems and C libraries, where nothing changes.
    """
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version") or not hasattr(libc, "mallopt"):
        return False
    return all(libc.mallopt(*option) for option in (
        (_ARENA_MAX, 1), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1),
    ))  # fmt: skip
