"""The files of a run, from made-up results."""

import csv
import io

import numpy as np
import pytest

from mmer_jax import configuration, files
from mmer_jax.evaluation import plots, report

NAMES = ["ang", "hap"]


def result(fold, matrix):
    predictions = [
        {"utterance": f"u{fold}{i}{j}{k}", "session": fold, "label": NAMES[i],
         "prediction": NAMES[j], "probabilities": [1.0 - j, float(j)]}
        for i in range(2) for j in range(2) for k in range(matrix[i][j])
    ]  # fmt: skip
    return {
        "fold": fold, "label_names": NAMES, "confusion": matrix, "predictions": predictions,
        "chosen": {"epoch": 3, "step": 30}, "counts": {"train": 8, "select": 2, "test": 10},
    }  # fmt: skip


RESULTS = [result(1, [[4, 1], [1, 4]]), result(2, [[5, 0], [5, 0]])]


def test_mean_and_pooled_figures_by_hand():
    summary = report.summarize(configuration.default(), RESULTS)
    assert summary["mean"]["wa"]["mean"] == pytest.approx((0.8 + 0.5) / 2)
    assert summary["mean"]["ua"]["std"] == pytest.approx(np.std([0.8, 0.5], ddof=1))
    assert summary["pooled"]["confusion"] == [[9, 1], [6, 4]]
    assert summary["pooled"]["wa"] == pytest.approx(13 / 20)


def test_predictions_csv_has_a_row_per_utterance():
    rows = list(csv.reader(io.StringIO(report.predictions_csv(RESULTS))))
    assert rows[0] == ["utterance", "session", "label", "prediction", "p_ang", "p_hap"]
    assert len(rows) == 1 + 20
    assert rows[1] == ["u1000", "1", "ang", "ang", "1.000000", "0.000000"]


@pytest.mark.parametrize("selection", ["heldout", "published"])
def test_the_table_says_how_the_epoch_was_chosen(selection):
    config = configuration.default()
    config.selection = selection
    summary = report.summarize(config, RESULTS)
    summary |= {"seconds": 1.0, "hardware": "1 x test", "versions": {"jax": "0"}}
    table = report.markdown(summary)
    assert ("ON THE TEST SESSION" in table) == (selection == "published")
    assert "| 1 | 80.0 | 80.0 |" in table
    assert "65.0 ± 21.2" in table
    summary["config"]["train"]["epochs"] = 0
    assert "Nothing was trained" in report.markdown(summary)


def test_the_picture_is_a_png():
    assert plots.confusion_png(np.array([[9, 1], [0, 0]]), NAMES)[:4] == b"\x89PNG"


def test_a_failed_write_leaves_the_old_file_alone(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    files.replace_file(str(path), "old")

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(files.os, "replace", full)
    with pytest.raises(OSError):
        files.replace_file(str(path), "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]
