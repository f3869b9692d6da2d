"""Commands as processes of their own, and what can befall them: killed, a full disk, two at once.

An interpreter takes some 10 s to import what a command needs. So a process that has imported it
forks for each command: what is forked has its own flags, output, exit code and signals.
"""

import atexit
import contextlib
import functools
import importlib
import itertools
import json
import logging
import os
import pathlib
import resource
import runpy
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback

from tests import system_calls

ROOT = pathlib.Path(__file__).resolve().parents[1]
# What commands import; no module that defines flags, for a command is run as `__main__`.
IMPORTS = (
    "mmer_jax.training.cross_validation", "mmer_jax.reporting.report",
    "mmer_jax.inference.predictor", "mmer_jax.training.checkpoint_io", "matplotlib.pyplot",
    "mmer_jax.models.encoders.text", "mmer_jax.models.encoders.whisper",
)  # fmt: skip
# What another program's command imports, once it is asked for.
IMPORTED_BY = {"tensorflow_datasets.scripts.cli.main": "tensorflow_datasets.scripts.cli.build"}
# Where control groups of memory are, and the file of their limit: version 1, and 2.
GROUPS = (
    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max"),
)  # fmt: skip
TIMEOUT = 300  # seconds
PATIENCE = 5.0  # seconds that a first command stands still while a second one runs


def command(module, *arguments, cwd=ROOT, env=(), kill=None, **faults):
    """A finished process of `python -m mmer_jax.MODULE ARGUMENTS`, its output as text.

    Args:
      module: below mmer_jax.
      arguments: of the command.
      cwd: where it runs.
      env: variables that are set besides. Of no use for those that Python or jax read when they
        are imported: see `fresh_command`.
      kill: (module, name, count): the process is killed (signal 9) when it comes to call this
        function or method for the count-th time.
      faults: see `faulty_command`.
    """
    return faulty_command(f"mmer_jax.{module}", *arguments, cwd=cwd, env=env, kill=kill, **faults)


def faulty_command(module, *arguments, cwd=ROOT, env=(), kill=None, watch=None, beside=False,
                   clock=0, memory=0, group=None):  # fmt: skip
    """`command` of any module, and with what may befall it.

    Args:
      module: whole name.
      watch: arguments of `system_calls.Watch`. The process has `changes`, their count.
      beside: whether, where the watch has a change `at`, the same command runs a second time before
        that is done. The process has it as `second`.
      clock: after so many looks at it the clock goes back by a day, for Python; 0: it doesn't.
      memory: MB of addresses that it may take besides those it has at its start; 0: any number.
      group: folder of the control group that it is put into, see `memory_group`.
    """
    with tempfile.TemporaryDirectory() as folder:
        outputs = [[os.path.join(folder, f"{kind}{i}") for kind in ("out", "err")] for i in (0, 1)]
        request = {
            "module": module, "arguments": list(map(str, arguments)), "cwd": str(cwd),
            "env": dict(env), "kill": kill, "watch": watch, "clock": clock, "memory": memory,
            "group": group, "outputs": outputs if beside else outputs[:1],
        }  # fmt: skip
        server = _server()
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        reply = json.loads(server.stdout.readline())
        done = [
            subprocess.CompletedProcess([module, *arguments], code, *map(_said, paths))
            for code, paths in zip(reply["codes"], outputs)
        ]
    done[0].changes, done[0].second = reply["changes"], done[-1] if len(done) > 1 else None
    return done[0]


@contextlib.contextmanager
def memory_group(megabytes):
    """Folder of a control group whose processes have so much memory, besides what they came with.

    Where they need more the kernel kills one of them. None where no group can be made.
    """
    for parent, limit in GROUPS:
        folder = pathlib.Path(parent, f"mmer-{os.getpid()}")
        try:
            folder.mkdir()
        except OSError:
            continue
        try:
            # No file that isn't there can be made in a control group, nor is each there.
            for name, value in ((limit, megabytes * 2**20), ("memory.swap.max", 0)):
                if (folder / name).exists():
                    (folder / name).write_text(str(value))
            if (folder / limit).exists():
                yield str(folder)
                return
        finally:
            folder.rmdir()
    yield None


def _said(path):
    return pathlib.Path(path).read_text(encoding="utf-8", errors="replace")


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
        [sys.executable, __file__], cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "USE_TORCH": "0"},  # as commands have it
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    atexit.register(server.stdin.close)
    return server


def _serve():
    import jax

    from mmer_jax import cli

    for name in IMPORTS:
        importlib.import_module(name)
    assert not jax._src.xla_bridge._backends  # its threads would be missing in a fork
    cli.cache_compilations = lambda folder="": None  # they are kept where the tests' own are
    # An import logs and so leaves a handler, which a command that imports later does not have.
    logging.getLogger().handlers.clear()
    replies = os.fdopen(os.dup(1), "w")
    while line := sys.stdin.readline():
        print(json.dumps(_run(json.loads(line), replies)), file=replies, flush=True)


def _run(request, replies):
    """Exit codes of a command and of the one beside it, and the changes that were counted."""
    importlib.import_module(IMPORTED_BY.get(request["module"], "mmer_jax"))
    ours, theirs = socket.socketpair()
    watched = theirs if request["watch"] else None
    pid, second = _start(request, replies, request["outputs"][0], watched), []

    def start_second():
        second.append(_start(request, replies, request["outputs"][1]))
        # One that waits for the first would never end before it.
        patience = time.monotonic() + PATIENCE
        while time.monotonic() < patience and not _has_ended(second[0]):
            time.sleep(0.02)

    changes = 0
    theirs.close()
    if watched:
        pause = start_second if len(request["outputs"]) > 1 else None
        watch = system_calls.Watch(**request["watch"], pause=pause)
        watch.follow(ours, pid)
        changes = watch.count
    ours.close()
    codes = [os.waitstatus_to_exitcode(os.waitpid(p, 0)[1]) for p in (pid, *second)]
    return {"codes": codes, "changes": changes}


def _start(request, replies, outputs, watched=None):
    """The number of a new process that runs the command."""
    pid = os.fork()
    if pid == 0:
        replies.close()
        _become(request, outputs, watched)
    return pid


def _has_ended(pid):
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _become(request, outputs, watched):
    """Runs a command as Python itself does, up to its end."""
    signal.alarm(TIMEOUT)
    for fd, path in zip(range(3), (os.devnull, *outputs)):
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
    if request["clock"]:
        _turn_back_at(request["clock"])
    if watched:
        system_calls.begin(watched)
    if request["memory"]:
        _limit_memory(request["memory"])
    if request["group"]:
        pathlib.Path(request["group"], "cgroup.procs").write_text(str(os.getpid()))
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


def _turn_back_at(count):
    now, looks = time.time, itertools.count(1)
    time.time = lambda: now() - 86_400 * (next(looks) >= count)


def _limit_memory(megabytes):
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


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
