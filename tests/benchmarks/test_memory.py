"""The memory benchmark runs, its search finds what fits, and chunks need less by the plan."""

import json

import pytest

from benchmarks import memory


def test_the_command_writes_what_it_found(tmp_path, capsys):
    assert memory.main(["--tiny", f"--out={tmp_path}", "--batches=8,32", "--run_batches=8"]) == 0
    found = json.loads((tmp_path / "memory.json").read_text())
    assert (tmp_path / "memory.png").read_bytes()[:4] == b"\x89PNG"
    plans = {m: {n: x["total"] for n, x in row.items()} for m, row in found["plans"].items()}
    assert plans.keys() == {"plain", "remat", "chunks"}
    for row in plans.values():
        assert 0 < row["8"] < row["32"]
    assert plans["chunks"]["8"] == plans["plain"]["8"]  # one chunk is the plain program
    # Its excess over one chunk is that of the batch itself, not of its activations.
    assert plans["chunks"]["32"] < 0.6 * plans["plain"]["32"]
    runs = found["runs"]
    assert [(r["method"], r["rows"]) for r in runs] == [("plain", 8), ("remat", 8)]
    # The state and all that a step makes of it lies in the process.
    assert all(r["peak_gib"] > r["plan_gib"] > 0 for r in runs)
    printed = capsys.readouterr().out
    assert "Planned by XLA" in printed and "By plan: an effective batch of 32" in printed


def test_the_plan_is_the_sum_without_what_is_shared():
    class Compiled:
        def memory_analysis(self):
            names = ("argument", "output", "alias", "temp")
            sizes = zip(names, (5, 4, 3, 2))
            return type("Plan", (), {f"{n}_size_in_bytes": s * 2**30 for n, s in sizes})

    assert memory.planned(Compiled())["total"] == 5 + 4 - 3 + 2


@pytest.mark.parametrize("unit, rows", [(1, 33), (8, 32)])
def test_the_largest_batch_that_fits(unit, rows):
    plan = lambda n: 3 + 0.3921 * n + 1e-4 * n * n  # noqa: E731
    points = {8: plan(8), 32: plan(32), 64: plan(64)}
    found = memory.largest(plan, points, 16.1, unit)
    assert found == {"rows": rows, "gib": plan(rows), "exact": True}


def test_where_nothing_fits_or_no_end_is_found():
    plan = lambda n: 20.0 + n  # noqa: E731
    assert memory.largest(plan, {8: 28.0, 32: 52.0}, 16.0, 8)["rows"] == 0
    flat = lambda n: 1.0  # noqa: E731
    found = memory.largest(flat, {8: 1.0, 16: 1.0}, 16.0, 8)
    assert found["rows"] >= 64 and not found["exact"]


def test_a_process_that_fails_is_told_with_its_last_words():
    with pytest.raises(RuntimeError, match="unexpected keyword"):
        memory.child("benchmarks.memory", {"cases": [{"no": "case"}]})


@pytest.mark.parametrize("flag", ["--batches=8,12", "--run_batches=4"])
def test_batches_are_whole_chunks(flag):
    with pytest.raises(SystemExit):
        memory.main(["--tiny", flag])
