"""Text to speech by espeak-ng.

The GPL-licensed library is loaded by a process of its own (`espeak.py`) and never by this one.
"""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmer_jax.errors import UserError

WORKER = Path(__file__).with_name("espeak.py")
INSTALL = (
    "the demo corpus is spoken by espeak-ng, and the package espeakng-loader that brings it is "
    'not installed: pip install "mmer_jax[demo]"'
)


class Speech(NamedTuple):
    """Synthesised speech.

    Attributes:
        samples: int16 [n] of each job.
        sample_rate: in Hz.
        version: espeak-ng's own version text.
    """

    samples: list[np.ndarray]
    sample_rate: int
    version: str


def say(jobs):
    """Speaks jobs one after another; the same job gives the same samples beside any others.

    Args:
        jobs: list of dicts of `text`, `voice` (an espeak-ng voice name), `rate` (words a minute),
            `pitch` (0..99), `range` (0..100), `volume` (0..200), `gap` (10 ms between words) and
            `seed`, all but the first two integers.

    Returns:
        A Speech.

    Raises:
        UserError: espeakng-loader is not installed, its library cannot be used here, or it refused
            a job.
    """
    if not hasattr(os, "fork"):
        raise UserError("the demo corpus needs os.fork, which this system lacks: use Linux")
    done = subprocess.run(
        [sys.executable, str(WORKER)],
        input="".join(json.dumps(job) + "\n" for job in jobs).encode(),
        stdout=subprocess.PIPE,
        # Keeps this folder off the worker's import path, where it could hide other modules.
        env=os.environ | {"PYTHONSAFEPATH": "1"},
    )
    out = io.BytesIO(done.stdout)
    greeting = _message(out)
    samples = [np.frombuffer(_payload(out, 2 * _message(out)["samples"]), np.int16) for _ in jobs]
    return Speech(samples, greeting["sample_rate"], greeting["version"])


def _message(out):
    message = json.loads(_payload(out, None))
    if message.get("error", "").startswith("missing:"):
        raise UserError(INSTALL)
    if "error" in message:
        raise UserError(f"espeak-ng failed: {message['error']}")
    return message


def _payload(out, size):
    """So many bytes, or with None a line."""
    data = out.readline() if size is None else out.read(size)
    if len(data) < size if size is not None else not data.endswith(b"\n"):
        raise UserError(
            "the espeak-ng worker stopped too early; what it printed above says why, if anything"
        )
    return data
