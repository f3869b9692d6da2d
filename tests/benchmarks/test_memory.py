"""The memory benchmark sums what XLA plans, and chunks need less."""

import json

import pytest

from benchmarks import memory


def test_the_plan_is_the_sum_without_what_is_shared():
    class Compiled:
        def memory_analysis(self):
            names = ("argument", "output", "alias", "temp")
            sizes = zip(names, (5, 4, 3, 2))
            return type("Plan", (), {f"{n}_size_in_bytes": s * 2**30 for n, s in sizes})

    assert memory.planned(Compiled())["total"] == 5 + 4 - 3 + 2


def test_the_command_writes_what_it_found(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(memory, "plan", lambda method, rows, *_: {"total": rows / 2.0})
    memory.main(["--tiny", f"--out={tmp_path}", "--batches=8,32"])
    found = json.loads((tmp_path / "memory.json").read_text())["plans"]
    assert found["chunks"] == {"8": {"total": 4.0}, "32": {"total": 16.0}}
    assert "| 32 | 16 (+300.0%) |" in capsys.readouterr().out


@pytest.mark.slow
def test_chunks_and_the_whole_batch_by_the_plan():
    whole, small = (memory.plan("plain", rows, 1.0, True)["total"] for rows in (32, 8))
    chunks = memory.plan("chunks", 32, 1.0, True)["total"]
    # The excess over one chunk is that of the batch itself, not of its activations.
    assert 0 < small < chunks < 0.6 * whole


def test_batches_are_whole_chunks():
    with pytest.raises(SystemExit):
        memory.main(["--tiny", "--batches=8,12"])
