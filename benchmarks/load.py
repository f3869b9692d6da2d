"""Many callers at once, of the predictor and of the page: `python -m benchmarks.load MODEL FOLDER`.

Each caller asks for recordings of the folder in an order of its own, again and again; an answer
must be the one that the recording got alone, before. Memory is that of the answering process.
"""

import concurrent.futures
import http.client
import json
import os
import pathlib
import random
import re
import secrets
import signal
import socket
import subprocess
import sys
import time

import numpy as np

import mmer_jax
from benchmarks import common
from mmer_jax.data.preprocessing import SAMPLE_RATE
from mmer_jax.inference import audio_io

TOLERANCE = 1e-5  # of a probability, between one answer and another
MEMORY_EVERY = 1.0  # seconds
BUTTON = "Which emotion is it?"


class PredictorSide:
    """One `Predictor` in this process, asked by all threads."""

    def __init__(self, model: str):
        self._predictor = mmer_jax.load(model)
        self.pid = os.getpid()

    def ask(self, path: pathlib.Path) -> list[float]:
        """The probabilities of a recording."""
        return list(self._predictor.predict(str(path)).probabilities.values())

    def close(self) -> None:
        """Nothing is left open."""


class Visitors:
    """Of a page that is served on a port of this computer; they ask as a browser asks."""

    def __init__(self, port: int):
        self._port = port
        config = json.loads(self._request("GET", "/config"))
        titles = {x["id"]: x["props"].get("value") for x in config["components"]}
        asking = [
            f for f in config["dependencies"] if f["backend_fn"] and f["queue"]
            and any(titles.get(pressed) == BUTTON for pressed, _ in f["targets"])
        ]  # fmt: skip
        self._function = asking[0]["id"]

    def ask(self, path: pathlib.Path, visitor: str = "") -> list[float]:
        """The shares that the page shows for an upload, of a new visitor if none is named."""
        visitor, name = visitor or secrets.token_hex(8), f"{secrets.token_hex(4)}.wav"
        uploaded = json.loads(self._upload(name, path.read_bytes()))[0]
        file = {"path": uploaded, "orig_name": name, "meta": {"_type": "gradio.FileData"}}
        question = {"data": [file, "", False], "fn_index": self._function, "session_hash": visitor}
        self._request("POST", "/gradio_api/queue/join", json.dumps(question).encode(),
                      {"content-type": "application/json"})  # fmt: skip
        events = self._request("GET", f"/gradio_api/queue/data?session_hash={visitor}")
        for line in events.decode().splitlines():
            event = json.loads(line.removeprefix("data: ")) if line.startswith("data: ") else {}
            if event.get("msg") == "process_completed":
                shown = str(event["output"]["data"][0])
                if name not in shown:
                    raise RuntimeError(f"The answer is not for {name}: {shown[:500]}")
                return [float(x) / 100 for x in re.findall(r">(\d+) %<", shown)]
        raise RuntimeError(f"No answer: {events[-500:]!r}")

    def _upload(self, name, content):
        edge = secrets.token_hex(8)
        head = (
            f'--{edge}\r\ncontent-disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
        )
        body = head.encode() + content + f"\r\n--{edge}--\r\n".encode()
        kind = {"content-type": f"multipart/form-data; boundary={edge}"}
        return self._request("POST", "/gradio_api/upload", body, kind)

    def _request(self, method, path, body=None, headers=()):
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=120)
        try:
            connection.request(method, path, body, dict(headers))
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        if response.status != 200:
            raise RuntimeError(f"{path}: status {response.status}: {content[:500]!r}")
        return content


class PageSide(Visitors):
    """`mmer_jax.app` in a process of its own."""

    def __init__(self, model: str):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        command = [sys.executable, "-m", "mmer_jax.app", model, f"--port={port}"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.pid = self._process.pid
        for line in self._process.stdout:
            if line.startswith("Open http"):
                break
        else:
            raise SystemExit(f"The page did not start: {' '.join(command)}")
        super().__init__(port)

    def close(self) -> None:
        """Ends the page."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(30)


SIDES = {"predictor": PredictorSide, "page": PageSide}


def memory_mib(pid: int) -> float:
    """Resident memory of a process."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 1024


def measure(side, recordings, callers: int, seconds: float) -> dict:
    """Asks for `seconds`, all callers at once.

    Args:
      side: answers, see `SIDES`.
      recordings: paths.
      callers: threads.
      seconds: how long.

    Returns:
      `answers`, `mixed` (another recording's, or another number), `errors` (a text each),
      `rate` in answers per second, and `memory_mib`, at the quarters of that time.
    """
    expected = {path: side.ask(path) for path in recordings}
    began = time.monotonic()
    end = began + seconds

    def call(number):
        rng, answers, mixed, errors = random.Random(number), 0, 0, []
        while time.monotonic() < end:
            path = rng.choice(recordings)
            try:
                found = side.ask(path)
                mixed += not np.allclose(found, expected[path], rtol=0, atol=TOLERANCE)
                answers += 1
            except Exception as e:  # counted, whatever it is
                errors.append(f"{type(e).__name__}: {e}")
        return answers, mixed, errors

    with concurrent.futures.ThreadPoolExecutor(callers) as pool:
        calls = [pool.submit(call, number) for number in range(callers)]
        memory = [memory_mib(side.pid)]
        while time.monotonic() < end:
            time.sleep(min(MEMORY_EVERY, seconds / 8))
            if time.monotonic() - began > len(memory) * seconds / 4:
                memory.append(memory_mib(side.pid))
        memory.append(memory_mib(side.pid))
        counts = [x.result() for x in calls]
    took = time.monotonic() - began
    answers = sum(x[0] for x in counts)
    return {
        "answers": answers, "mixed": sum(x[1] for x in counts),
        "errors": [e for x in counts for e in x[2]], "rate": answers / took,
        "memory_mib": memory[:5],
    }  # fmt: skip


def main(argv=None) -> None:
    """Prints the table and writes load.json."""
    parser = common.parser(__doc__)
    parser.add_argument("model", metavar="MODEL", help="a finished fold or a model folder")
    parser.add_argument("folder", metavar="FOLDER", help="of recordings")
    parser.add_argument("--side", choices=SIDES, help="default: both")
    parser.add_argument("--callers", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=10.0, help="of each side")
    parser.add_argument("--recordings", type=int, default=64, help="the first of the folder")
    flags = parser.parse_args(argv)
    paths = sorted(pathlib.Path(flags.folder).rglob("*.wav"))[: flags.recordings]
    if not paths:
        raise SystemExit(f"No wav file below {flags.folder}.")
    audio = sum(len(audio_io.read(str(p))) for p in paths) / SAMPLE_RATE / len(paths)
    found, rows = {}, []
    for name in [flags.side] if flags.side else SIDES:
        side = SIDES[name](flags.model)
        try:
            found[name] = measure(side, paths, flags.callers, 60 * flags.minutes)
        finally:
            side.close()
        x = found[name]
        rows.append([name, x["answers"], x["mixed"], len(x["errors"]), x["rate"],
                     " / ".join(f"{m:.0f}" for m in x["memory_mib"])])  # fmt: skip
    head = ("", "answers", "wrong or mixed up", "errors", "answers / s",
            "MiB at start / after each quarter")  # fmt: skip
    text = (
        f"{flags.callers} callers for {flags.minutes:g} min each, {len(paths)} recordings of "
        f"{audio:.1f} s\n\n{common.table(head, rows)}"
    )
    common.report(flags, "load", found, text)


if __name__ == "__main__":
    main()
