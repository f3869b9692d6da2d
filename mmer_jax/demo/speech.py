"""How an emotion sounds: prosody as espeak-ng's settings, loudness and spectral tilt.

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
import soxr
from scipy.io import wavfile
from scipy.signal import lfilter

from mmer_jax.errors import UserError

WORKER = Path(__file__).with_name("espeak.py")
INSTALL = (
    "the demo corpus is spoken by espeak-ng, and the package espeakng-loader that brings it is "
    'not installed: pip install "mmer_jax[demo]"'
)

SAMPLE_RATE = 16000
# Lengths are whole milliseconds, so that the four decimals of a label file hold them exactly.
GRID = SAMPLE_RATE // 1000
NOISE = 0.5
LEAD_SECONDS, TAIL_SECONDS = 0.15, 0.1


class Prosody(NamedTuple):
    """How one utterance is said, in units of the spread between emotions.

    Attributes:
        arousal: loudness, pitch, pace and brightness together; 1 is hot anger, -1 is sadness.
        range: liveliness of the pitch.
        tilt: brightness on top of that of arousal.
        pace, pitch: habits of the moment that tell nothing of the emotion (standard normal).
    """

    arousal: float
    range: float
    tilt: float
    pace: float
    pitch: float


# Anger and joy lie close to each other, as do sadness and calm: the words have to help.
# Arousal, range and tilt by label.
MEANS = {
    "ang": (1.0, 0.0, 0.5), "hap": (0.8, 0.6, 0.0), "exc": (0.8, 0.6, 0.0),
    "neu": (-0.15, -0.3, 0.0), "sad": (-1.0, -0.5, -0.4), "fru": (0.6, -0.1, 0.25),
    "sur": (0.7, 0.7, 0.0), "fea": (0.5, 0.2, 0.1), "dis": (0.3, 0.0, 0.2),
    "oth": (0.0, 0.0, 0.0), "xxx": (0.2, 0.0, 0.0),
}  # fmt: skip
# Speaker (session and gender): espeak-ng voice variant and its base pitch.
VOICES = {
    "1F": ("f2", 46), "1M": ("m3", 46), "2F": ("f4", 42), "2M": ("m1", 40), "3F": ("linda", 50),
    "3M": ("m7", 48), "4F": ("f5", 50), "4M": ("adam", 52), "5F": ("steph", 44), "5M": ("m2", 44),
}  # fmt: skip
# The same of the augmented recordings, by the name of the variant: none is a speaker's or like one.
AUGMENTED_VOICES = {
    "Alicia": ("Alicia", 44), "Andrea": ("Andrea", 46), "Annie": ("Annie", 48),
    "edward": ("edward", 48), "f1": ("f1", 44), "f3": ("f3", 46), "m4": ("m4", 44),
    "m5": ("m5", 46), "m6": ("m6", 42), "robert": ("robert", 46),
}  # fmt: skip


def draw_prosody(label, random):
    """Draws how an utterance with an emotion label is said.

    Args:
        label: three letters of `MEANS`.
        random: numpy RandomState.

    Returns:
        A Prosody.
    """
    noise = random.randn(5)
    arousal, pitch_range, tilt = np.array(MEANS[label]) + NOISE * noise[:3]
    return Prosody(*map(float, (arousal, pitch_range, tilt, noise[3], noise[4])))


def record(takes):
    """Writes the sound of some plan.Turn or plan.Clip.

    Args:
        takes: list of (path of the wav file, what it is).

    Returns:
        The seconds of each, and espeak-ng's version.
    """
    jobs = [espeak_job(take.spoken, take.voice, take.prosody, take.seed) for _, take in takes]
    speech, rate, version = say(jobs)
    seconds = []
    for (path, take), samples in zip(takes, speech):
        audio = colour(samples, rate, take.prosody, take.seed, take.max_seconds)
        wavfile.write(path, SAMPLE_RATE, audio)
        seconds.append(len(audio) / SAMPLE_RATE)
    return seconds, version


def espeak_job(text, voice, prosody, seed):
    """Returns the job for `say` in which a speaker or augmented voice says a text."""
    variant, base = (VOICES | AUGMENTED_VOICES)[voice]
    arousal = prosody.arousal
    settings = {
        "rate": np.clip(170 * (1 + 0.13 * arousal + 0.05 * prosody.pace), 90, 330),
        "pitch": np.clip(base + 13 * arousal + 4 * prosody.pitch, 0, 99),
        "range": np.clip(50 + 22 * prosody.range + 12 * arousal, 0, 100),
        "volume": np.clip(85 * (1 + 0.3 * arousal), 30, 130),
        "gap": 0 if arousal > -0.5 else 1,
    }
    job = {name: int(value) for name, value in settings.items()}
    return job | {"text": text, "voice": f"en-us+{variant}", "seed": seed}


def say(jobs):
    """Speaks jobs; the same job gives the same samples beside any others.

    Args:
        jobs: list of dicts of `text`, `voice` (an espeak-ng voice name), `rate` (words a minute),
            `pitch` (0..99), `range` (0..100), `volume` (0..200), `gap` (10 ms between words) and
            `seed`, all but the first two integers.

    Returns:
        int16 [n] of each job, their sample rate in Hz, and espeak-ng's version.

    Raises:
        UserError: espeakng-loader is not installed, its library cannot be used here, or it refused
            a job.
    """
    if not hasattr(os, "fork"):
        raise UserError("the demo corpus needs os.fork, which this system lacks: use Linux")
    done = subprocess.run(
        [sys.executable, str(WORKER)],
        input="".join(json.dumps(job) + "\n" for job in jobs).encode(),
        capture_output=True,
        # Keeps this folder off the worker's import path, where it could hide other modules.
        env=os.environ | {"PYTHONSAFEPATH": "1"},
    )
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").splitlines()
        reason = said[-1] if said else f"it stopped with code {done.returncode}"
        missing = reason.startswith(("ImportError", "ModuleNotFoundError"))
        raise UserError(INSTALL if missing else f"espeak-ng failed: {reason}")
    out = io.BytesIO(done.stdout)
    greeting = json.loads(out.readline())
    sizes = (int(out.readline()) for _ in jobs)
    samples = [np.frombuffer(out.read(size), np.int16) for size in sizes]
    return samples, greeting["sample_rate"], greeting["version"]


def colour(speech, rate, prosody, seed, max_seconds=None):
    """Gives synthetic speech the loudness and brightness of its prosody.

    Args:
        speech: int16 [n].
        rate: its sample rate in Hz.
        prosody: Prosody.
        seed: of the background noise.
        max_seconds: cut after so many seconds, if not None.

    Returns:
        int16 [n'], 16 kHz, n' a whole number of milliseconds.
    """
    audio = soxr.resample(speech.astype(np.float32) / 32768, rate, SAMPLE_RATE)
    audio = _tilt(audio, np.clip(0.45 * prosody.tilt + 0.15 * prosody.arousal, -0.85, 0.85))
    loudness = 0.1 * (1 + 0.35 * prosody.arousal)
    gain = loudness / (np.sqrt(np.mean(audio**2)) + 1e-6)
    audio = audio * np.clip(gain, 0.1, 30)
    audio = audio + 0.002 * np.random.RandomState(seed).randn(len(audio))
    audio = np.pad(audio, (int(LEAD_SECONDS * SAMPLE_RATE), int(TAIL_SECONDS * SAMPLE_RATE)))
    if max_seconds is not None:
        audio = audio[: int(max_seconds * SAMPLE_RATE)]
    audio = np.pad(audio, (0, -len(audio) % GRID))
    return (np.clip(audio, -1, 1) * 32767).astype(np.int16)


def _tilt(audio, slope):
    """First-order filter: pre-emphasis for a positive slope, low pass for a negative one."""
    if slope > 0:
        return lfilter([1, -slope], [1], audio)
    return lfilter([1 + slope], [1, slope], audio)
