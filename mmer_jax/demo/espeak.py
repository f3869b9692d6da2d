"""The worker process that loads espeak-ng: jobs come in on stdin, speech goes out on stdout.

espeak-ng is GPL-3 software. It is loaded here, in a process of its own, and nowhere else: this
file imports nothing of the project, and the project starts it by its path (see `speech.py`).

Protocol: one JSON line per job (`text`, `voice`, `rate`, `pitch`, `range`, `volume`, `gap`, `seed`)
until stdin ends. The worker writes the line `{"version": str, "sample_rate": int}`, and for each
job a line with a number of bytes and then these, int16 samples in the machine's byte order. Where
something goes wrong it ends with another code than 0 and the error in stderr's last line.
"""

import ctypes
import json
import os
import signal
import sys
import traceback

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
        self.version = self.library.espeak_Info(ctypes.byref(ctypes.c_char_p())).decode()
        self.chunks = []
        # The library keeps only a pointer: without this reference Python would free the callback.
        self.callback = Callback(self._collect)
        self.library.espeak_SetSynthCallback(self.callback)

    def _collect(self, wav, count, _events):
        if wav and count > 0:
            self.chunks.append(ctypes.string_at(wav, 2 * count))
        return 0

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


def send(line, payload=b""):
    """Writes a line and the bytes that belong to it."""
    sys.stdout.buffer.write(f"{line}\n".encode() + payload)
    sys.stdout.buffer.flush()


def answer(espeak, line):
    """Speaks one job in a fork, because the library's state leaks from one text into the next."""
    child = os.fork()
    if child == 0:
        # Whatever happens, a child must never return into the loop that reads jobs.
        try:
            payload = espeak.say(json.loads(line))
            send(len(payload), payload)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1]


def main():
    """Answers one job after another until stdin ends."""
    # Ctrl-C reaches every process of a terminal; the parent answers it and closes stdin.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    espeak = Espeak()
    send(json.dumps({"version": espeak.version, "sample_rate": espeak.sample_rate}))
    # After a child that failed, no further answer can be trusted.
    return int(any(answer(espeak, line) for line in sys.stdin.buffer))


if __name__ == "__main__":
    sys.exit(main())
