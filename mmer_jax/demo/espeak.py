"""The worker process that loads espeak-ng: jobs come in on stdin, speech goes out on stdout.

espeak-ng is GPL-3 software. It is loaded here, in a process of its own, and nowhere else: this
file imports nothing of the project, and the project starts it by its path (see `tts.py`).

Protocol: the worker greets with one JSON line, `{"version": str, "sample_rate": int}` or
`{"error": str}`. Then it reads one JSON line per job (`text`, `voice`, `rate`, `pitch`, `range`,
`volume`, `gap`, `seed`) and answers `{"samples": n}` in one line, followed by n int16 samples in
the machine's byte order, or `{"error": str}`. It ends when stdin does.
"""

import ctypes
import json
import os
import signal
import sys

SYNCHRONOUS = 2
DONT_EXIT_ON_ERROR = 0x8000
UTF8 = 1
PARAMETERS = {"rate": 1, "volume": 2, "pitch": 3, "range": 4, "gap": 7}
Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


class Espeak:
    """The espeak-ng library, ready to speak."""

    def __init__(self):
        import espeakng_loader

        self.library = ctypes.CDLL(espeakng_loader.get_library_path())
        self.library.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
        self.library.espeak_Info.restype = ctypes.c_char_p
        data = os.fsencode(espeakng_loader.get_data_path())
        self.sample_rate = self.library.espeak_Initialize(SYNCHRONOUS, 0, data, DONT_EXIT_ON_ERROR)
        if self.sample_rate <= 0:
            raise OSError(f"espeak-ng found no voices under {os.fsdecode(data)}")
        self.chunks = []
        # The library keeps only a pointer: without this reference Python would free the callback.
        self.callback = Callback(self._collect)
        self.library.espeak_SetSynthCallback(self.callback)

    def _collect(self, wav, count, _events):
        if wav and count > 0:
            self.chunks.append(ctypes.string_at(wav, 2 * count))
        return 0

    def version(self):
        """espeak-ng's version."""
        path = ctypes.c_char_p()
        return self.library.espeak_Info(ctypes.byref(path)).decode()

    def say(self, job):
        """Speaks one job and returns its samples as bytes."""
        # Some voices draw on rand(), which the library otherwise seeds by the clock.
        self.library.espeak_ng_SetRandSeed(job["seed"])
        self._check(self.library.espeak_SetVoiceByName(job["voice"].encode()), "voice", job)
        for name, number in PARAMETERS.items():
            self._check(self.library.espeak_SetParameter(number, job[name], 0), name, job)
        text = job["text"].encode() + b"\0"
        size = ctypes.c_size_t(len(text))
        self._check(self.library.espeak_Synth(text, size, 0, 1, 0, UTF8, None, None), "text", job)
        self.library.espeak_Synchronize()
        return b"".join(self.chunks)

    @staticmethod
    def _check(code, what, job):
        if code != 0:
            raise OSError(f"espeak-ng refused {what} {job[what]!r} with code {code}")


def send(message, payload=b""):
    """Writes a line of JSON and the bytes that belong to it."""
    sys.stdout.buffer.write(json.dumps(message).encode() + b"\n" + payload)
    sys.stdout.buffer.flush()


def answer(espeak, line):
    """Speaks one job in a fork, because the library's state leaks from one text into the next."""
    child = os.fork()
    if child == 0:
        # Whatever happens, a child must never return into the loop that reads jobs.
        code = 1
        try:
            send(*reply(espeak, line))
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return status


def reply(espeak, line):
    """Returns the message and the payload that answer one line."""
    try:
        payload = espeak.say(json.loads(line))
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}, b""
    return {"samples": len(payload) // 2}, payload


def main():
    """Answers one job after another until stdin closes."""
    # Ctrl-C reaches every process of a terminal; the parent answers it and closes stdin.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        espeak = Espeak()
    except ImportError as error:
        send({"error": f"missing: {error}"})
        return 1
    except OSError as error:
        send({"error": str(error)})
        return 1
    send({"version": espeak.version(), "sample_rate": espeak.sample_rate})
    for line in sys.stdin.buffer:
        # A child that was killed may have answered by half, so no further answer can be trusted.
        if answer(espeak, line) != 0:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
