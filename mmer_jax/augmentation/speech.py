"""Ways to say an utterance again in another voice, and whose recording a voice is cloned from."""

import collections
import contextlib
import dataclasses
import hashlib
import json
import os
import pkgutil
import shlex
import shutil
import signal as signals
import string
import subprocess
import sys
import tempfile
from concurrent import futures

import numpy as np
import soundfile
import soxr

from mmer_jax.augmentation import signal
from mmer_jax.data import preprocessing
from mmer_jax.data.corpus import Corpus, Utterance
from mmer_jax.data.preprocessing import SAMPLE_RATE
from mmer_jax.data.text import normalized
from mmer_jax.errors import UserError, first_line

WAYS = "signal, espeak, command or module:function"
PLACES = ("text", "wav", "out", "emotion", "seed", "language")  # in a command's template
SILENT = "silence"
_LIKED = (1.0, 12.0)  # seconds of a reference, if there is one
# The demo's prosodies by the first three letters of an emotion, under the names of other corpora.
_PROSODY = {"joy": "hap", "cal": "neu", "bor": "sad", "anx": "fea", "con": "dis"}


class Failure(Exception):
    """A view that could not be made: what happened, in one line."""


@dataclasses.dataclass(frozen=True)
class Request:
    """A view that is asked for.

    Attributes:
      utterance: of the corpus.
      number: of the view, from 1.
      text: what is to be said.
      emotion: name of the utterance's class.
      seed: of all that is drawn, 31 bits.
      wave: its own recording, float32 [n] at 16 kHz.
      reference: of another speaker with the same emotion, where the way clones a voice.
      reference_wave: its recording.
    """

    utterance: Utterance
    number: int
    text: str
    emotion: str
    seed: int
    wave: np.ndarray
    reference: Utterance | None = None
    reference_wave: np.ndarray | None = None


def seed_of(*parts) -> int:
    """31 bits, the same in every process."""
    digest = hashlib.sha256(json.dumps(parts).encode()).digest()
    return int.from_bytes(digest[:4], "big") % 2**31


class References:
    """Recordings that voices are cloned from: other speakers, the same emotion.

    A fold never draws a view in the voice of a speaker whom it tests. So the first view's voice is
    one that is tested together with the utterance itself, where the session has another speaker:
    no fold that trains on the utterance loses it. The further ones are of one speaker after
    another. Where the corpus has its own division, only its training part is taken.

    Raises:
      UserError: the corpus does not say who speaks.
    """

    def __init__(self, corpus: Corpus, seed: int):
        if not all(u.speaker for u in corpus.utterances):
            raise UserError(
                "The corpus does not say who speaks in each utterance, so a voice that is cloned "
                "from one could be a test speaker's. Build it with speakers, or make views "
                "without references: --speech=signal, or name the one voice by --voice=NAME."
            )
        self._seed, self._spoken = seed, collections.defaultdict(list)
        parts = any(u.part for u in corpus.utterances)
        for u in corpus.utterances:
            if not parts or u.part == "train":
                self._spoken[u.label, u.speaker].append(u)

    def __call__(self, u: Utterance, number: int) -> Utterance:
        """The reference of an utterance's view.

        Raises:
          Failure: no one else has the emotion.
        """
        others = [s for label, s in self._spoken if label == u.label and s != u.speaker]
        if not others:
            raise Failure("no other speaker of the training side has its emotion")
        order = np.random.default_rng([self._seed, seed_of(u.id)]).permutation(sorted(others))

        def apart(speaker):
            there = self._spoken[u.label, speaker][0]
            return not u.session or there.session != u.session

        order = sorted(order.tolist(), key=apart)
        spoken = self._spoken[u.label, order[(number - 1) % len(order)]]
        low, high = (seconds * SAMPLE_RATE for seconds in _LIKED)
        spoken = [x for x in spoken if low <= x.samples <= high] or spoken
        return spoken[seed_of(self._seed, u.id, number) % len(spoken)]


class Signal:
    """The utterance's own recording, see `signal.another_voice`; its words stay."""

    clones, needs_text, batch = False, False, 8
    settings = {
        "way": "signal", "pitch": signal.PITCH, "formants": signal.FORMANTS,
        "speed": signal.SPEED, "snr": signal.SNR, "reverberation": signal.REVERBERATION,
    }  # fmt: skip

    def voice(self, request: Request) -> str:
        """It is made of the speaker's own voice, and counts as that."""
        return request.utterance.speaker

    def speak(self, requests: list[Request]):
        """The samples of each, float32 [n] at 16 kHz, or why there are none."""
        return [signal.another_voice(r.wave, r.seed) for r in requests]


class Espeak:
    """espeak-ng in the demo's process, with an emotion's prosody, in ten voices of its own."""

    clones, needs_text, batch = False, True, 32

    def __init__(self):
        from mmer_jax.demo import speech

        self._speech = speech
        self._names = sorted(speech.AUGMENTED_VOICES)
        *_, version = speech.say([])
        self.settings = {"way": "espeak", "version": version, "voices": self._names}

    def _name(self, request):
        order = np.random.default_rng(seed_of(request.utterance.id)).permutation(self._names)
        return str(order[(request.number - 1) % len(order)])

    def voice(self, request: Request) -> str:
        """Nobody's."""
        return f"espeak-{self._name(request)}"

    def speak(self, requests: list[Request]):
        """The samples of each, float32 [n] at 16 kHz, or why there are none."""
        speech, jobs, prosodies = self._speech, [], []
        for r in requests:
            short = r.emotion.lower()[:3]
            label = _PROSODY.get(short, short)
            prosody = speech.draw_prosody(
                label if label in speech.MEANS else "oth", np.random.RandomState(r.seed)
            )
            job = speech.espeak_job(r.text, self._name(r), prosody, r.seed)
            if r.utterance.language not in ("", "en"):
                variant = job["voice"].partition("+")[2]
                job["voice"] = f"{r.utterance.language}+{variant}"
            jobs.append(job)
            prosodies.append(prosody)
        samples, rate, _ = speech.say(jobs)
        return [
            preprocessing.to_float(speech.colour(x, rate, p, r.seed)) if len(x) else Failure(SILENT)
            for x, p, r in zip(samples, prosodies, requests)
        ]


class _Outside:
    """What the ways with somebody else's program have in common: whose voice it is."""

    needs_text = True

    def __init__(self, name: str, voice: str):
        self.settings, self._voice = {"way": name, "voice": voice}, voice
        self.clones = not voice
        self._told = set()

    def voice(self, request: Request) -> str:
        """That of the reference, or the name that the user gave the only one."""
        return self._voice or request.reference.speaker

    def _at_16_khz(self, samples, rate):
        samples = np.asarray(samples, np.float32)
        if samples.ndim != 1 or not len(samples) or not np.isfinite(samples).all():
            raise Failure(f"samples of shape {samples.shape}; expected some, of one channel")
        if rate != SAMPLE_RATE and rate not in self._told:
            self._told.add(rate)
            print(f"note: it speaks at {rate} Hz, resampled to {SAMPLE_RATE}", file=sys.stderr)
        return soxr.resample(samples, rate, SAMPLE_RATE) if rate != SAMPLE_RATE else samples


class Function(_Outside):
    """A user's function `(text, reference, emotion, seed) -> (samples, rate)`.

    `reference` is float32 [n] at 16 kHz, or None where the user has named the voice; `samples` are
    float [m] within -1 and 1.
    """

    batch = 1

    def __init__(self, name: str, voice: str = ""):
        super().__init__(name, voice)
        self._function = resolve(name)

    def speak(self, requests: list[Request]):
        """The samples of each, float32 [n] at 16 kHz, or why there are none."""
        return [self._one(r) for r in requests]

    def _one(self, r):
        try:
            samples, rate = self._function(r.text, r.reference_wave, r.emotion, r.seed)
            return self._at_16_khz(samples, rate)
        except Failure as e:
            return e
        except Exception as e:  # of the user's code, whatever it is
            return Failure(f"{type(e).__name__}: {first_line(e)}")


class Command(_Outside):
    """A command line for each view.

    Args:
      template: split as a shell does, without a shell; {text}, {wav} (a file with the reference),
        {out} (the file that it is to write), {emotion}, {seed} and {language} stand for a view's.
      voice: name of the only voice; "" where it clones that of {wav}.
      limit: seconds after which it is ended, with all that it has started.
      workers: commands at once.

    Raises:
      UserError: a template that can't be meant, or no such program.
    """

    def __init__(self, template: str, voice: str = "", limit: float = 120.0, workers: int = 1):
        super().__init__("command", voice)
        try:
            self._words = shlex.split(template)
            fields = {f for w in self._words for _, f, *_ in string.Formatter().parse(w)} - {None}
        except ValueError as e:
            raise UserError(f"--tts_command={template} can't be read ({e}).") from e
        unknown, missing = fields - {*PLACES}, {"text", "out"} - fields
        if unknown or missing:
            said = f"has {', '.join(sorted(unknown))}" if unknown else ""
            said = said or f"lacks {' and '.join(sorted(missing))}"
            raise UserError(
                f"--tts_command {said}; it knows {', '.join(f'{{{p}}}' for p in PLACES)} and needs "
                "{text} and {out}, as in: yourtts --text {text} --reference {wav} --out {out}"
            )
        if ("wav" in fields) == bool(voice):
            raise UserError(
                "--tts_command either clones the voice of {wav}, or has a voice of its own that "
                f"--voice=NAME names; it has {'both' if voice else 'neither'}."
            )
        if shutil.which(self._words[0]) is None:
            raise UserError(f"--tts_command: there is no program {self._words[0]}.")
        self.settings |= {"template": template}
        self._limit, self.batch, self._running = limit, workers, set()

    def speak(self, requests: list[Request]):
        """The samples of each, float32 [n] at 16 kHz, or why there are none."""
        with futures.ThreadPoolExecutor(self.batch) as pool:
            try:
                return list(pool.map(self._one, requests))
            except BaseException:  # Ctrl-C: the pool would wait for them
                for process in list(self._running):
                    _end(process)
                raise

    def _one(self, r):
        with tempfile.TemporaryDirectory() as folder:
            wav, out = (os.path.join(folder, name) for name in ("reference.wav", "out.wav"))
            if r.reference_wave is not None:
                soundfile.write(wav, r.reference_wave, SAMPLE_RATE, "PCM_16")
            values = {"text": r.text, "wav": wav, "out": out, "emotion": r.emotion,
                      "seed": r.seed, "language": r.utterance.language or "en"}  # fmt: skip
            try:
                self._run([word.format_map(values) for word in self._words])
                samples, rate = _read(out)
                return self._at_16_khz(samples, rate)
            except Failure as e:
                return e

    def _run(self, words):
        """Runs it to its end, or Failure; nothing that it has started stays behind."""
        with tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors,
                start_new_session=True,
            )  # fmt: skip
            self._running.add(process)
            try:
                code = process.wait(self._limit)
            except subprocess.TimeoutExpired:
                raise Failure(f"not finished after {self._limit:g} s, ended") from None
            finally:
                self._running.discard(process)
                _end(process)
            if code:
                errors.seek(0)
                said = errors.read().decode("utf-8", "replace").strip().splitlines()
                raise Failure(f"exit code {code}{f' ({said[-1][:200]})' if said else ''}")


def _end(process):
    """Ends a command, and all that it has started and left."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signals.SIGKILL)
    process.wait()


def _read(path):
    if not os.path.isfile(path):
        raise Failure("it wrote no file to {out}")
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError) as e:
        reason = first_line(e).rpartition(": ")[2].rstrip(".")
        raise Failure(f"what it wrote is no recording ({reason})") from e
    return samples.mean(axis=1), rate


def resolve(name: str):
    """The function `module:function`, found from the current folder too.

    Raises:
      UserError: there is none.
    """
    sys.path.append(os.getcwd())
    try:
        function = pkgutil.resolve_name(name)
    except (ImportError, AttributeError, ValueError) as e:
        raise UserError(f"{name} is no function that can be imported ({first_line(e)}).") from e
    finally:
        sys.path.remove(os.getcwd())
    if not callable(function):
        raise UserError(f"{name} is a {type(function).__name__}; expected a function.")
    return function


def can_be_said(text: str) -> bool:
    """Whether a text has words."""
    return bool(normalized(text))


def create(way: str, template: str = "", voice: str = "", limit: float = 120.0, workers: int = 1):
    """The way that `--speech` names.

    Raises:
      UserError: there is no such way, or something that it needs is missing.
    """
    if (way == "command") != bool(template):
        raise UserError("--speech=command and --tts_command=TEMPLATE belong together.")
    if way == "signal":
        return Signal()
    if way == "espeak":
        return Espeak()
    if way == "command":
        return Command(template, voice, limit, workers)
    if ":" in way:
        return Function(way, voice)
    raise UserError(f"--speech={way} is no way to make speech; the choices are: {WAYS}.")
