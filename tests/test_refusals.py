"""Whatever the system refuses is one message, and a reader that has gone ends a command quietly."""

import ast
import inspect
import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

import mmer_jax
from mmer_jax import cli, errors
from mmer_jax.reporting import report
from tests import harness
from tests.harness import command, fresh_command
from tests.inference import odd_recordings as odd

ROOT = pathlib.Path(__file__).resolve().parents[1]


def check_message(done, *words, lines=1):
    """One message, and no traceback beside it."""
    said = done.stderr
    assert done.returncode == 1, said
    assert "Traceback" not in said + done.stdout
    assert said.count("error: ") == 1 and all(word in said for word in words), said
    assert len(said.strip().splitlines()) <= lines, said


@pytest.fixture
def disk(tmp_path):
    """A function: size -> a folder that is a disk of that size."""
    mounted = []

    def make(size):
        folder = tmp_path / f"disk{len(mounted)}"
        if not harness.disk(folder, size):
            pytest.skip("no disk can be mounted here")
        mounted.append(folder)
        return folder

    try:
        yield make
    finally:
        for folder in mounted:
            subprocess.run(["umount", folder], check=True)


@pytest.fixture
def config_of(tmp_path):
    """A function: workdir -> a config file with the options of the run there."""
    return lambda workdir: harness.config_file(tmp_path / "config.py", workdir)


@pytest.fixture
def finished_run(tiny_run, tmp_path):
    """A copy of a finished run."""
    return pathlib.Path(shutil.copytree(tiny_run, tmp_path / "run"))


def test_a_disk_that_fills_up_while_training(prepared, disk, config_of, tiny_run):
    workdir = disk("200k") / "run"
    done = command("main", f"--config={config_of(tiny_run)}", f"--workdir={workdir}")
    check_message(done, "No space left on device", str(workdir), "same command")


def test_a_disk_that_is_full_from_the_start(disk, config_of, tiny_run):
    full = disk("8k")
    (full / "filler").write_bytes(bytes(4096))
    done = command("main", f"--config={config_of(tiny_run)}", f"--workdir={full / 'run'}")
    check_message(done, "No space left on device", str(full))


def test_a_disk_that_fills_up_while_predicting(disk, tiny_folder, tmp_path):
    (tmp_path / "speech").mkdir()
    for i in range(60):
        (tmp_path / "speech" / f"{i}.wav").write_bytes(odd.encoded(odd.voice(0.3)))
    out = disk("16k") / "o.jsonl"
    done = command("predict", tiny_folder, tmp_path / "speech", f"--out={out}")
    check_message(done, "No space left on device", "goes on where it stopped", lines=3)
    rows = out.read_text().splitlines()
    assert rows and json.loads(rows[0])["label"]


def test_a_disk_that_fills_up_while_exporting(disk, tiny_run):
    out = disk("32k") / "model"
    done = command("export", tiny_run, out, "--fold=5")
    check_message(done, "No space left on device", str(out))
    assert not any(out.parent.iterdir())


def test_a_finished_run_is_read_where_nothing_can_be_written(disk, config_of, tiny_run):
    workdir = disk("64m") / "run"
    shutil.copytree(tiny_run, workdir)
    table = (workdir / "results.md").read_text()
    arguments = f"--config={config_of(tiny_run)}", f"--workdir={workdir}"
    for content, code in ((table, 0), ("of another version\n", 1)):
        (workdir / "results.md").write_text(content)
        subprocess.run(["mount", "-o", "remount,ro", workdir.parent], check=True)
        done = command("main", *arguments)
        assert done.returncode == code, done.stderr
        assert report.aligned(table) in done.stdout
        if code:
            check_message(done, str(workdir), "Read-only file system")
        subprocess.run(["mount", "-o", "remount,rw", workdir.parent], check=True)


def test_a_terminal_of_ascii_without_a_unicode_locale_gets_the_table(finished_run, config_of):
    done = fresh_command(
        "main", f"--config={config_of(finished_run)}", f"--workdir={finished_run}",
        env={"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0",
             "PYTHONUTF8": "0"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert r"\xb1" in done.stdout and done.stdout.isascii()
    assert "±" in (finished_run / "results.md").read_text(encoding="utf-8")


def test_a_reader_that_goes_ends_it_without_a_word(finished_run, config_of):
    arguments = f"--config={config_of(finished_run)}", f"--workdir={finished_run}"
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as nobody:
        done = fresh_command("main", *arguments, stdout=nobody)
    assert (done.returncode, done.stderr) == (cli.PIPE_CLOSED, "")


@pytest.mark.parametrize("module", ["main", "export", "convert.original"])
def test_a_python_without_the_packages_is_one_message(module):
    done = fresh_command(module, "--help", python=["-S"])
    check_message(done, sys.executable, " lacks ")


def test_somebody_elses_module_is_not_ended(tmp_path):
    (tmp_path / "service").mkdir()
    (tmp_path / "service" / "__init__.py").write_text("import mmer_jax.errors\n")
    (tmp_path / "service" / "__main__.py").write_text("print('served')\n")
    done = subprocess.run(
        [sys.executable, "-S", "-m", "service", "mmer_jax.main"], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "served\n"), done.stderr


def test_a_python_that_is_too_old_comes_as_far_as_being_told(monkeypatch, capsys):
    for module in (mmer_jax, cli, errors):
        source = pathlib.Path(module.__file__).read_text(encoding="utf-8")
        ast.parse(source, feature_version=(3, 8))
        functions = [f for f in vars(module).values() if inspect.isfunction(f)]
        found = [a for f in functions for a in inspect.get_annotations(f).values()]
        assert all(isinstance(a, str) for a in found)  # an old Python can't evaluate them
    monkeypatch.setattr(sys, "version_info", (3, 9, 18))
    with pytest.raises(SystemExit):
        cli.check_python()
    assert "(Python 3.9) is too old; 3.10 or newer" in capsys.readouterr().err


class Wrapped(Exception):
    """As a library's; python 3.11's ExceptionGroup has the same attribute."""

    def __init__(self, text, exceptions=()):
        super().__init__(text)
        self.exceptions = exceptions


def _raise(error, cause=None):
    raise error from cause


@pytest.mark.parametrize(
    "error, cause, word",
    [
        (Wrapped("x"), OSError(28, "No space left on device", "/a/b"), "/a/b: No space left"),
        (Wrapped("Error writing /a/b: OS error 28: ENOSPC; more"), None, "/a/b: No space left"),
        (Wrapped("Disk quota exceeded [/a/b]"), None, "/a/b: Disk quota exceeded"),
        (Wrapped("x", [OSError(30, "Read-only file system")]), None, "Read-only"),
        (PermissionError(13, "Permission denied", "/a"), None, "/a: Permission denied"),
        (OSError(12, "Cannot allocate memory", "/a"), None, "--batch-size"),
        (MemoryError("Unable to allocate 1. GiB"), None, "memory: Unable to allocate 1. GiB."),
        (Wrapped("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes."), None, "chunk_size"),
    ],
)
def test_what_a_library_made_of_it_is_told_all_the_same(error, cause, word, capsys):
    assert cli.attempt(lambda: _raise(error, cause), "it goes on") == 1
    said = capsys.readouterr().err
    assert word in said and said.count("\n") == 1 and "It goes on." in said


def test_a_pipe_to_a_worker_that_breaks_is_told(monkeypatch):
    """Only where our own output has no reader any more is there nobody to be told."""
    reader, writer = os.pipe()
    with open(writer, "w") as out:
        monkeypatch.setattr(sys, "stdout", out)

        def end():
            return cli.attempt(lambda: _raise(BrokenPipeError(32, "Broken pipe")), "it goes")

        assert end() == 1
        os.close(reader)
        assert end() == cli.PIPE_CLOSED  # as without a buffer: nothing is left to be flushed


def test_an_error_while_a_broken_pipe_was_handled_is_told():
    def work():
        try:
            raise BrokenPipeError(32, "Broken pipe")
        except BrokenPipeError:
            raise RuntimeError("worker pool died")  # noqa: B904

    with pytest.raises(RuntimeError, match="worker pool died"):
        cli.attempt(work, "it goes on")


def test_a_bug_stays_a_traceback():
    with pytest.raises(KeyError):
        cli.attempt(lambda: {}["x"], "it goes on")


@pytest.mark.parametrize("error, line", [
    (ValueError(" bad header\nand where"), "bad header"), (EOFError(), "EOFError"),
    (KeyError(), "KeyError"), (ValueError("x" * 300), "x" * 200),
])  # fmt: skip
def test_the_first_line_of_a_librarys_error(error, line):
    assert errors.first_line(error) == line
