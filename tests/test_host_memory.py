"""What malloc is told: a program that allocates and frees keeps its pages, up to a limit."""

import subprocess
import sys

import pytest

# Page faults of filling 200 MB that were filled and freed before: none where they were kept.
PROGRAM = """
import ctypes, resource, sys
from mmer_jax import host_memory
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes, size = [ctypes.c_void_p], 200_000_000
told = host_memory.keep() if sys.argv[1] == "keep" else True
def fill():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = libc.malloc(size)
    ctypes.memset(block, 1, size)
    libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
fill()
print(told, fill())
"""


def faults(mode):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, mode], capture_output=True, text=True, check=True
    )
    told, count = done.stdout.split()
    if told == "False":
        pytest.skip("not glibc: nothing is told")
    return int(count)


def test_freed_pages_are_kept():
    assert faults("default") > 50  # else the test shows nothing; huge pages are 2 MB
    assert faults("keep") < 10


# Blocks that were filled and freed, with something small in use behind each: no end of the heap to
# cut off. What of them is still in memory a while later, in MB.
HOLES = """
import ctypes, sys, time
from mmer_jax import host_memory
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes, size = [ctypes.c_void_p], 100_000_000
told = host_memory.keep(int(sys.argv[1]) << 20)
before, blocks = host_memory._resident(), []
for _ in range(4):
    blocks.append(libc.malloc(size))
    ctypes.memset(blocks[-1], 1, size)
    ctypes.memset(libc.malloc(100), 1, 100)
time.sleep(float(sys.argv[3]))
for block in blocks:
    libc.free(block)
left, until = 400, time.monotonic() + float(sys.argv[2])
while left > 100 and time.monotonic() < until:
    time.sleep(0.05)
    left = (host_memory._resident() - before) >> 20
print(told, left)
"""


def left_over(spare, seconds, used=0):
    """MB that are kept of 400 where `spare` MB must stay; waits `seconds` for them to go.

    Before, they are in use for `used` seconds.
    """
    done = subprocess.run(
        [sys.executable, "-c", HOLES, str(spare), str(seconds), str(used)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    told, megabytes = done.stdout.split()
    if told == "False":
        pytest.skip("not glibc: nothing is told")
    return int(megabytes)


def test_what_is_kept_is_given_back_where_memory_is_scarce():
    assert left_over(spare=0, seconds=1) > 300
    assert left_over(spare=10**9, seconds=60) < 100


def test_what_was_in_use_at_the_first_look_is_given_back_later():
    assert left_over(spare=10**9, seconds=60, used=2) < 100
