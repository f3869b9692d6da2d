"""Loss and gradients don't depend on devices, processes or chunks (float32, dropout off)."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from tests.harness import free_port

PROGRAM = pathlib.Path(__file__).with_name("gradients.py")
ROOT = PROGRAM.parents[2]
TOLERANCE = 1e-5
pytestmark = pytest.mark.slow  # fourteen compilations, on eight devices and in two processes

ONE = [1, 1, 1]
EIGHT = [2, 2, 2]


def case(family="whisper", mesh=ONE, chunk=0, memory=0):
    return {"family": family, "mesh": mesh, "chunk": chunk, "memory": memory}


def run(out, cases, *options, wait=True):
    command = [sys.executable, str(PROGRAM), str(out), json.dumps(cases), *options]
    # One thread per process and device: more only get in each other's way.
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    program = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
    return finish(program) if wait else program


def finish(program):
    _, errors = program.communicate(timeout=900)
    assert program.returncode == 0, errors[-3000:]


@pytest.fixture(scope="module")
def computed(tmp_path_factory):
    """Folder of every case's numbers; programs of different device counts run side by side."""
    out = tmp_path_factory.mktemp("gradients")
    alone = {
        "one": case(),
        "one, memory": case(memory=40),
        "chunks, memory": case(chunk=8, memory=40),
        "one, wav2vec2": case("wav2vec2"),
    }
    eight = {
        "8": case(mesh=[8, 1, 1]),
        "4x2": case(mesh=[4, 2, 1]),
        "2x2x2, chunks": case(mesh=EIGHT, chunk=8),
        "2x2x2, wav2vec2": case("wav2vec2", mesh=EIGHT),
        "2x2x2, memory": case(mesh=EIGHT, memory=40),
    }
    first = run(out, alone, wait=False)
    run(out, eight, "--devices=8")
    finish(first)
    address = f"127.0.0.1:{free_port()}"
    two = {"2 processes, chunks": case(mesh=[2, 2, 1], chunk=8)}
    programs = [
        run(out, two, "--devices=2", "--processes", address, "2", str(i), wait=False)
        for i in range(2)
    ]
    for program in programs:
        finish(program)
    return out


def without_gradient(path):
    """A key's bias shifts all scores of a query alike: softmax cancels it, its gradient is 0."""
    return path.endswith(("key/bias", "k_proj/bias"))


@pytest.mark.parametrize(
    "name, reference",
    [
        ("8", "one"),
        ("4x2", "one"),
        ("2x2x2, chunks", "one"),
        ("2 processes, chunks", "one"),
        ("chunks, memory", "one, memory"),
        ("2x2x2, memory", "one, memory"),
        ("2x2x2, wav2vec2", "one, wav2vec2"),
    ],
)
def test_loss_and_every_gradient_are_equal(computed, name, reference):
    found, expected = (np.load(computed / f"{n}.npz") for n in (name, reference))
    assert set(found) == set(expected)
    largest = max(np.abs(expected[k]).max() for k in expected if "/" in k)
    for key in expected:
        scale = np.abs(expected[key]).max()
        if without_gradient(key):
            assert scale < 1e-6 * largest
            scale = largest
        difference = np.abs(found[key] - expected[key]).max()
        assert difference <= TOLERANCE * scale, f"{key}: {difference / scale:.2e}"


def test_the_memory_changes_the_contrastive_losses(computed):
    """Else the cases with a memory would show nothing."""
    plain, past = (np.load(computed / f"{n}.npz") for n in ("one", "one, memory"))
    for name in ("metric scl", "metric acl"):
        assert abs(plain[name] - past[name]) > 0.1, name
