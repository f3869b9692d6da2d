"""Paths on a disk and in a bucket; the bucket is a stand-in, as none can be reached in a test."""

import json
import threading
from unittest import mock

import pytest
from etils import epath

from mmer_jax import configuration, files, runs
from mmer_jax.errors import UserError
from mmer_jax.training import cross_validation, logging
from tests.made_results import fold_result, row


@pytest.fixture
def bucket(monkeypatch):
    """gs:// paths that end in a dictionary; whatever is not listed here fails the test."""
    objects = {}

    class Path:
        def __init__(self, path):
            assert str(path).startswith("gs://"), path
            self.name = str(path)

        def exists(self):
            return self.name in objects

        def iterdir(self):
            raise FileNotFoundError(self.name)

        def read_bytes(self):
            return objects[self.name]

        def write_bytes(self, data):
            objects[self.name] = data

    monkeypatch.setattr(epath, "Path", Path)
    return objects


def test_resolve():
    assert files.resolve("gs://bucket/run") == "gs://bucket/run"
    assert files.resolve("~/run").startswith("/") and "~" not in files.resolve("~/run")


def test_a_workdir_in_a_bucket(bucket):
    config = configuration.default()
    config.data.dir = "gs://b/data"  # where nothing is: a finished run is read without its dataset
    runs.open_workdir("gs://b/run", config)
    runs.open_workdir("gs://b/run", config)  # found again, and the same
    stored = fold_result(["ang", "hap"], [row("ang", "ang")], fold=3)
    runs.write_result(stored, "gs://b/run/fold3")
    config.folds = (3,)
    assert cross_validation.run(config, "gs://b/run") == ([stored], False)
    assert set(bucket) == {"gs://b/run/config.json", "gs://b/run/fold3/result.json"}


def test_lines_of_metrics_in_a_bucket(bucket, monkeypatch):
    monkeypatch.setattr(logging.metric_writers, "SummaryWriter", mock.MagicMock())
    for resumed_at in (0, 1):
        writer = logging.MetricsWriter("gs://b", resumed_at)
        for step in (1 + resumed_at, 2 + resumed_at):  # the second is done again when it resumes
            writer.write(step, {"loss": 0.5 + resumed_at})
        writer.close()
    lines = bucket["gs://b/metrics.jsonl"].decode().splitlines()
    expected = [(1, 0.5), (2, 1.5), (3, 1.5)]
    assert [json.loads(line) for line in lines] == [{"step": s, "loss": x} for s, x in expected]


def test_a_file_is_whole_or_not_there(tmp_path, monkeypatch):
    path = tmp_path / "new" / "a.txt"
    files.replace_file(str(path), "one")
    monkeypatch.setattr(files.os, "replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError):
        files.replace_file(str(path), "two")
    assert path.read_text() == "one"
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_what_a_killed_process_left_is_written_over(tmp_path):
    (tmp_path / ".a.txt.tmp").write_text("what it left is longer than what comes")
    (tmp_path / ".model.writing").mkdir()
    (tmp_path / ".model.writing" / "rest").touch()
    (tmp_path / ".model.writing.lock").touch()
    files.replace_file(str(tmp_path / "a.txt"), "one")
    with files.new_folder(str(tmp_path / "model")) as made:
        files.replace_file(f"{made}/b.txt", "two")
    found = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")}
    assert found == {"a.txt", "model", "model/b.txt"}
    assert (tmp_path / "a.txt").read_text() == "one"


def test_what_one_holds_no_other_gets(tmp_path):
    path, order = str(tmp_path / "lock"), []

    def wait():
        with files.lock(path, on_wait=waiting.set):
            order.append("second")

    waiting, second = threading.Event(), threading.Thread(target=wait)
    with files.lock(path):
        with pytest.raises(UserError, match="taken"), files.lock(path, "taken"):
            pytest.fail("it was not")
        second.start()
        waiting.wait()
        order.append("first")
    second.join()
    assert order == ["first", "second"] and not list(tmp_path.iterdir())


def test_one_process_writes_lines(tmp_path):
    journal = files.Journal(str(tmp_path / "lines"), "head")
    journal.add("one")
    with pytest.raises(UserError, match="Another process is writing .*lines"):
        files.Journal(str(tmp_path / "lines"), "head")
    journal.close()
    again = files.Journal(str(tmp_path / "lines"), "head")
    assert again.entries == ["one"]
    again.close()
