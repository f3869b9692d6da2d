"""Figures of systems side by side, against values by hand."""

import numpy as np
import pytest

from mmer_jax.evaluation import comparison, plots

NAMES = ["ang", "hap"]


def result(matrix, seed=0, fold=1):
    rows = [
        {"label": NAMES[i], "prediction": NAMES[j], "speaker": "s", "dialog": f"d{i}{k}",
         "transcript": "yes", "recognized": None}
        for i in range(2) for k, j in enumerate([0] * matrix[i][0] + [1] * matrix[i][1])
    ]  # fmt: skip
    return {"seed": seed, "fold": fold, "label_names": NAMES, "confusion": matrix,
            "predictions": rows}  # fmt: skip


FULL = [result([[9, 1], [1, 9]], seed) for seed in (0, 1)]
WORSE = [result([[5, 5], [5, 5]], 0), result([[6, 4], [6, 4]], 1)]


def test_holm_by_hand():
    assert comparison.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert comparison.holm([0.9, 0.5]) == pytest.approx([1.0, 1.0])
    assert comparison.holm([]) == []


def test_rates_differences_and_what_cannot_be_compared():
    systems = {"full": FULL, "worse": WORSE, "half": WORSE[:1], "none": []}
    found = comparison.compare(systems, "dialog")
    assert "none" not in found and found["full"]["difference"] is None
    assert found["worse"]["ua"]["mean"] == pytest.approx(0.5)
    assert found["worse"]["ua"]["std"] == pytest.approx(0.0)
    d = found["worse"]["difference"]
    assert d["difference"] == pytest.approx(0.5 - 0.9)
    assert d["interval"][1] < 0 and d["p"] < 0.01
    assert d["p_holm"] >= d["p"]
    assert found["half"]["runs"] == 1 and found["half"]["ua"]["std"] is None
    assert comparison.compare(systems, "speaker")["worse"]["difference"] is None  # one speaker
    head, rows = comparison.rows(found, {n: n for n in systems})
    assert all(len(row) == len(head) for row in rows)
    assert rows[1][2] == "50.0 ± 0.0" and rows[1][5] == "-40.0" and rows[3][-1] == "0"


def test_latex_escapes_and_counts():
    text = comparison.latex(["a_b", "95 %"], [["x & y", "1.0 ± 0.1"]], "50 % of #1")
    assert r"a\_b & 95 \%" in text and r"x \& y & 1.0 $\pm$ 0.1" in text and r"50 \% of \#1" in text


def test_the_picture_is_a_png():
    full = {"title": "full", "values": [0.7], "mean": 0.7, "difference": None, "interval": None}
    other = full | {"difference": -0.1, "interval": [-0.2, np.float64(0.1)]}
    assert plots.comparison_png([full, other])[:4] == b"\x89PNG"
