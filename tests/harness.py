"""Commands as processes of their own, and what can befall them: killed, a full disk, two at once.

An interpreter takes some 10 s to import what a command needs. So a process that has imported it
forks for each command: what is forked has its own flags, output, exit code and signals.
"""

import atexit
import functools
import importlib
import json
import logging
import os
import pathlib
import runpy
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import traceback

ROOT = pathlib.Path(__file__).resolve().parents[1]
# What commands import; no module that defines flags, for a command is run as `__main__`.
IMPORTS = (
    "mmer_jax.training.cross_validation", "mmer_jax.reporting.report",
    "mmer_jax.inference.predictor", "mmer_jax.training.checkpoint_io", "matplotlib.pyplot",
)  # fmt: skip
TIMEOUT = 300  # seconds


def command(module, *arguments, cwd=ROOT, env=(), kill=None):
    """A finished process of `python -m mmer_jax.MODULE ARGUMENTS`, its output as text.

    Args:
      module: below mmer_jax.
      arguments: of the command.
      cwd: where it runs.
      env: variables that are set besides. Of no use for those that Python or jax read when they
        are imported: see `fresh_command`.
      kill: (module, name, count): the process is killed (signal 9) when it comes to call this
        function or method for the count-th time.
    """
    with tempfile.TemporaryDirectory() as folder:
        out, err = (os.path.join(folder, name) for name in ("out", "err"))
        request = {
            "module": f"mmer_jax.{module}", "arguments": list(map(str, arguments)),
            "cwd": str(cwd), "env": dict(env), "kill": kill, "out": out, "err": err,
        }  # fmt: skip
        server = _server()
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        code = int(server.stdout.readline())
        said = [pathlib.Path(f).read_text(encoding="utf-8", errors="replace") for f in (out, err)]
    return subprocess.CompletedProcess([module, *arguments], code, *said)


def fresh_command(module, *arguments, python=(), env=(), **options):
    """The same in an interpreter of its own, with the options `python`."""
    return subprocess.run(
        [sys.executable, *python, "-m", f"mmer_jax.{module}", *map(str, arguments)],
        cwd=ROOT, text=True, timeout=TIMEOUT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **dict(env)},
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
    )  # fmt: skip


def config_file(path: pathlib.Path, workdir: pathlib.Path) -> pathlib.Path:
    """Writes a config file with the options of the run in `workdir`."""
    path.write_text(
        "import json\nfrom mmer_jax import configuration\n\n\ndef get_config():\n"
        f"    plain = json.load(open({str(workdir / 'config.json')!r}))\n"
        "    return configuration.from_json(plain)\n"
    )
    return path


class Killed(BaseException):
    """Stands for a kill in this process: nothing of ours catches it."""


def killed(*_):
    """What a function is replaced with where the run is to be killed."""
    raise Killed


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def png_size(content: bytes) -> tuple[int, int]:
    """(width, height) of a PNG file in pixels."""
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", content[16:24])


def disk(folder: pathlib.Path, size: str) -> bool:
    """Makes `folder` a disk of that size (`200k`); False where none can be mounted."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder]
    return subprocess.run(mount, capture_output=True).returncode == 0


@functools.cache
def _server():
    server = subprocess.Popen(
        [sys.executable, __file__], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    atexit.register(server.stdin.close)
    return server


def _serve():
    from mmer_jax import cli

    for name in IMPORTS:
        importlib.import_module(name)
    cli.cache_compilations = lambda folder="": None  # they are kept where the tests' own are
    # An import logs and so leaves a handler, which a command that imports later does not have.
    logging.getLogger().handlers.clear()
    replies = os.fdopen(os.dup(1), "w")
    while line := sys.stdin.readline():
        pid = os.fork()
        if pid == 0:
            replies.close()
            _become(json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), file=replies, flush=True)


def _become(request):
    """Runs a command as Python itself does, up to its end."""
    signal.alarm(TIMEOUT)
    for fd, path in ((0, os.devnull), (1, request["out"]), (2, request["err"])):
        opened = os.open(path, os.O_RDONLY if fd == 0 else os.O_WRONLY | os.O_CREAT)
        os.dup2(opened, fd)
        os.close(opened)
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    os.chdir(request["cwd"])
    os.environ.update(request["env"])
    sys.argv = [request["module"], *request["arguments"]]
    if request["kill"]:
        _kill_at(*request["kill"])
    code = 1
    try:
        runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as e:
        code = e.code if isinstance(e.code, int) else int(e.code is not None)
        if isinstance(e.code, str):
            print(e.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    try:
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
    finally:
        os._exit(code)


def _kill_at(module, name, count):
    *owners, last = name.split(".")
    owner = functools.reduce(getattr, owners, importlib.import_module(module))
    original, calls = getattr(owner, last), []

    @functools.wraps(original)
    def killing(*args, **kwargs):
        calls.append(1)
        if len(calls) == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)

    setattr(owner, last, killing)


if __name__ == "__main__":
    _serve()
