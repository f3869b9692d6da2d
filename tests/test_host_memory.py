"""What malloc is told: a program that allocates and frees keeps its pages."""

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
