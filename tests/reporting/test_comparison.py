"""Metrics of systems side by side, and their tables, against values by hand."""

import csv
import io

import pytest

from mmer_jax.reporting import ablation_report, comparison, plots
from tests.made_results import fold_result, row

NAMES = ["ang", "hap"]


def result(matrix, seed=0, fold=1):
    rows = [
        row(NAMES[i], NAMES[j], speaker=f"s{fold}{k % 2}", dialog=f"d{fold}")
        for i in range(2)
        for k, j in enumerate([0] * matrix[i][0] + [1] * matrix[i][1])
    ]
    return fold_result(NAMES, rows, fold, seed, counts={"train": 80, "select": 8, "test": 20})


FULL = [result([[9, 1], [1, 9]], seed) for seed in (0, 1)]
WORSE = [result([[5, 5], [5, 5]], 0), result([[6, 4], [6, 4]], 1)]


def folds(*right):
    """A fold for each number of right ones of 10 in both classes."""
    return [result([[n, 10 - n], [10 - n, n]], fold=k) for k, n in enumerate(right, 1)]


def test_holm_by_hand():
    assert comparison.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert comparison.holm([0.9, 0.5]) == pytest.approx([1.0, 1.0])
    assert comparison.holm([]) == []


def named(compared):
    """The systems as `ablation_report.table` takes them."""
    return {
        name: {"title": name, "config": "x", "results": "y"} | metrics
        for name, metrics in compared.items()
    }


def test_one_fold_of_two_speakers_has_a_difference_and_no_p():
    systems = named(
        comparison.compare({"full": FULL, "worse": WORSE, "half": WORSE[:1]}, ("worse",))
    )
    assert systems["full"]["difference"] is None
    assert systems["worse"]["ua"]["mean"] == pytest.approx(0.5)
    assert systems["worse"]["ua"]["std"] is None  # one fold
    assert systems["worse"]["ua"]["std_seeds"] == pytest.approx(0.0)
    d = systems["worse"]["difference"]
    assert d["difference"] == pytest.approx(0.5 - 0.9)
    assert d["over"] is d["interval"] is d["p"] is d["p_holm"] is d["corrected"] is None
    assert d["parts"]["seed"] == {0: pytest.approx(-0.4), 1: pytest.approx(-0.4)}
    assert systems["half"]["runs"] == 1 and systems["half"]["ua"]["std_seeds"] is None
    head, rows = ablation_report.table(systems)
    assert head[-3:] == ["UA, deviation over seeds", "UA - full", "runs"]
    assert all(len(row) == len(head) for row in rows)
    assert rows[1][2] == "50.0" and rows[1][5:7] == ["0.0", "-40.0"] and rows[2][-1] == "1"
    assert rows[2][5] == ""  # one seed has no deviation
    head, rows = ablation_report.part_table(systems)
    assert head == ["UA - full", "seed 0", "seed 1", "speaker s10", "speaker s11"]
    assert rows[0][:3] == ["worse", "-40.0", "-40.0"] and rows[1][2] == ""


def test_holm_corrects_for_what_was_planned_and_run():
    systems = {
        "full": folds(9, 8, 9, 7, 8), "planned": folds(7, 7, 8, 6, 5), "late": folds(9, 8, 7, 7, 8),
        "found": folds(6, 6, 6, 6, 6),
    }  # fmt: skip
    systems = named(comparison.compare(systems, ("planned", "late", "not run")))
    planned, late, explored = (systems[n]["difference"] for n in ("planned", "late", "found"))
    assert [planned["p_holm"], late["p_holm"]] == comparison.holm([planned["p"], late["p"]])
    assert planned["p_holm"] == pytest.approx(2 * planned["p"]) and planned["p"] < late["p"]
    larger = [d["corrected"] for d in (planned, late)]
    assert [d["p_holm"] for d in larger] == comparison.holm([d["p"] for d in larger])
    assert larger[0]["p"] > planned["p"]
    assert explored["p"] < 0.05 and explored["p_holm"] is None
    assert explored["corrected"]["p_holm"] is None
    head, rows = ablation_report.table(systems)
    assert rows[0][head.index("UA")] == "82.0 ± 8.4"
    assert [row[head.index("p (Holm)")] for row in rows][::3] == ["", "exploratory"]
    assert ablation_report.part_table(systems) is None
    row = list(csv.DictReader(io.StringIO(ablation_report.csv_text(systems))))[1]
    assert float(row["ua_p_holm"]) == planned["p_holm"] and row["primary"] == "True"
    assert float(row["ua_nb_low"]) == larger[0]["interval"][0] and row["ua_std_seeds"] == ""


def test_latex_escapes_and_counts():
    text = ablation_report.latex(["a_b", "95 %"], [["x & y", "1.0 ± 0.1", "<0.001"]], "50 % of #1")
    assert (
        r"a\_b & 95 \%" in text
        and r"x \& y & 1.0 $\pm$ 0.1 & $<$0.001" in text
        and r"50 \% of \#1" in text
    )


def test_the_picture_is_a_png():
    for systems in ({"full": FULL, "worse": WORSE}, {"full": folds(9, 8, 9, 7, 8),
                                                     "worse": folds(7, 7, 8, 6, 5)}):  # fmt: skip
        drawn = named(comparison.compare(systems, ("worse",)))
        assert plots.png(plots.comparison(list(drawn.values())))[:4] == b"\x89PNG"
