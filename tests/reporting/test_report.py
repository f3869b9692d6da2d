"""The files of a run, from made-up results."""

import csv
import dataclasses
import io

import numpy as np
import pytest

from mmer_jax import configuration, files
from mmer_jax.metrics import reliability
from mmer_jax.reporting import plots, report
from tests.made_results import fold_result, row

NAMES = ["ang", "hap"]


def result(fold, matrix, seed=0, temperature=2.0):
    rows = [
        row(NAMES[i], NAMES[j], utterance=f"u{fold}{i}{j}{k}", session=fold,
            speaker=f"s{fold}{k % 2}", dialog=f"d{fold}{k}", probabilities=[1.0 - j, float(j)],
            logits=[9.0 - 9 * j, 9.0 * j], seen=k == 0, recognized="YES NO", transcript="Yes, no.")
        for i in range(2) for j in range(2) for k in range(matrix[i][j])
    ]  # fmt: skip
    return fold_result(NAMES, rows, fold, seed, temperature=temperature)


MADE = {"seconds": 1.0, "hardware": "1 x test", "versions": {"jax": "0"}}


def summarize(results, config=None):
    return report.summarize(config or configuration.default(), results, **MADE)


RESULTS = [result(1, [[4, 1], [1, 4]]), result(2, [[5, 0], [5, 0]])]


def test_mean_and_pooled_figures_by_hand():
    summary = summarize(RESULTS)
    assert summary.mean["wa"]["mean"] == pytest.approx((0.8 + 0.5) / 2)
    assert summary.mean["ua"]["std"] == pytest.approx(np.std([0.8, 0.5], ddof=1))
    assert summary.pooled["confusion"] == [[9, 1], [6, 4]]
    assert summary.pooled["wa"] == pytest.approx(13 / 20)


def test_predictions_csv_has_a_row_per_utterance():
    rows = list(csv.reader(io.StringIO(report.predictions_csv(RESULTS))))
    assert rows[0] == [
        *("seed", "fold", "utterance", "session", "speaker", "dialog", "label", "prediction"),
        *("p_ang", "p_hap", "seen", "recognized"),
    ]
    assert len(rows) == 1 + 20
    assert rows[1] == [
        *("0", "1", "u1000", "1", "s10", "d10", "ang", "ang", "1.000000", "0.000000", "1"),
        "YES NO",
    ]


def test_several_seeds_are_averaged_and_their_deviation_is_told():
    other = [result(1, [[5, 0], [0, 5]], seed=1), result(2, [[5, 0], [0, 5]], seed=1)]
    summary = summarize(RESULTS + other)
    assert summary.seeds == [0, 1]
    wa = summary.mean["wa"]
    assert wa["mean"] == pytest.approx((0.9 + 0.75) / 2)
    assert wa["std"] == pytest.approx(np.std([0.9, 0.75], ddof=1))
    assert wa["std_seeds"] == pytest.approx(np.std([0.65, 1.0], ddof=1))
    table = report.markdown(summary)
    assert "| 1 | 90.0 | 90.0 |" in table and "| 3, 3 |" in table
    assert "over the seeds' means: WA 24.7" in table and "Seeds 0, 1" in table
    alone = summary.intervals["parts"]["seed"]
    assert [alone[s]["wa"] for s in (0, 1)] == pytest.approx([0.65, 1.0])
    assert "| seed 0 | 65.0 |" in table and "| speaker s10 |" in table
    assert "| 20 |  |" in table  # utterances, each once
    assert "the mean of 2 seeds" in table


def test_one_fold_has_no_deviation():
    summary = summarize(RESULTS[:1])
    assert summary.mean["wa"] == {"mean": 0.8, "std": None, "std_seeds": None}
    table = report.markdown(summary)
    assert "±" not in table and "| all | 80.0 | 80.0 |" in table
    assert "No interval" in table and "| speaker s10 |" in table


def test_a_seed_that_lacks_folds_takes_none_away():
    summary = summarize([*RESULTS, result(2, [[4, 1], [1, 4]], 1)])
    wa = summary.mean["wa"]
    assert wa["mean"] == pytest.approx((0.8 + (0.5 + 0.8) / 2) / 2)
    assert wa["std_seeds"] == pytest.approx(np.std([0.5, 0.8], ddof=1))  # of the fold of both
    table = report.markdown(summary)
    assert "| 20 |  |" in table and "the mean of up to 2 seeds" in table


def test_five_folds_have_both_intervals():
    five = [result(k, [[n, 10 - n], [10 - n, n]]) for k, n in enumerate((9, 8, 9, 7, 8), 1)]
    summary = summarize(five)
    known = summary.intervals["metrics"]["ua"]
    for ends in (known["interval"], known["corrected"]["interval"]):
        assert ends[0] < summary.pooled["ua"] < ends[1]
        assert f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f}" in report.markdown(summary)
    assert "share training data" in report.markdown(summary)


def test_intervals_leakage_calibration_and_words():
    summary = summarize(RESULTS)
    assert summary.intervals["over"] is None and len(summary.intervals["speakers"]) == 4
    leak = summary.leakage
    seen = [p for r in RESULTS for p in r.predictions if p.seen]
    assert leak["seen"]["count"] == len(seen)
    assert leak["seen"]["wa"] == np.mean([p.label == p.prediction for p in seen])
    assert leak["share"] == len(seen) / 20 and leak["unseen"]["count"] == 20 - len(seen)
    assert summary.calibration["ece"] > summary.calibration["ece_scaled"] > 0
    assert summary.recognition == {"wer": 0.0, "cer": 0.0, "utterances": 20}
    known = [dataclasses.replace(p, seen=True) for p in RESULTS[0].predictions]
    assert summarize([dataclasses.replace(RESULTS[0], predictions=known)]).leakage["unseen"] is None
    none = [result(1, [[4, 1], [1, 4]], temperature=None)]
    assert summarize(none).calibration["ece_scaled"] is None


@pytest.mark.parametrize("changes, start, end", [
    ({}, "95 % intervals over 5 folds (jackknife, t distribution).", "that the folds share."),
    ({"test_to_train": None}, "95 % intervals over 5 folds (jackknife, t distribution).", "on)."),
    ({"groups": 3, "seeds": [0, 1], "runs": 9},
     "95 % intervals over 3 groups of folds without a common conversation or speaker, each the "
     "mean of up to 2 seeds (jackknife,", "that the folds share."),
    ({"over": "speakers and seeds", "seeds": [0, 1]}, "95 % intervals for this training set: over 6"
     " test speakers (jackknife) and 2 seeds (", "say nothing of other training material."),
    ({"over": None, "folds": [1], "runs": 1}, "No interval and no p: 1 fold, 6 test speakers, 1 "
     "seed. It takes 5 folds", "6 test speakers and 2 seeds."),
    ({"over": None, "folds": [1, 2], "seeds": [0, 1], "runs": 3}, "No interval and no p: 2 folds, ",
     "seeds. Each seed's own figures are of the folds that all seeds have."),
    ({"over": "speakers and seeds", "same_test": True}, "95 % intervals for this training material:"
     " over 6 test speakers (jackknife) and the 5 folds' models (S", "nor of other seeds."),
    ({"over": "speakers and seeds", "same_test": True, "seeds": [0, 1]}, "95 % intervals for this "
     "training material: over 6 test speakers (jackknife) and the 5 folds' models of 2 seeds (S",
     "say nothing of other training material."),
    ({"over": None, "same_test": True, "runs": 1}, "No interval: 6 test speakers, 1 model. It ",
     "6 named test speakers and 2 models."),
])  # fmt: skip
def test_an_interval_says_what_it_is_over(changes, start, end):
    five = {"over": "folds", "groups": 5, "folds": [1, 2, 3, 4, 5], "runs": 5, "seeds": [0],
            "speakers": list("abcdef"), "test_to_train": 0.25, "same_test": False}  # fmt: skip
    text = report.explain(five | changes)
    assert text.startswith(start) and text.endswith(end)


@pytest.mark.parametrize("selection", ["heldout", "original"])
def test_the_table_says_how_the_epoch_was_chosen(selection):
    config = configuration.default()
    config.selection = selection
    summary = summarize(RESULTS, config)
    table = report.markdown(summary)
    assert ("ON THE TEST SIDE" in table) == (selection == "original")
    assert "| 1 | 80.0 | 80.0 |" in table
    assert "65.0 ± 21.2" in table
    summary.config["train"]["epochs"] = 0
    assert "Nothing was trained" in report.markdown(summary)


@pytest.mark.parametrize(
    "shared, words",
    [([], ""), (["a", "b"], "3 test speakers trained on as well"), (None, "does not name all")],
)
def test_the_table_says_whose_speakers_are_on_both_sides(shared, words):
    first, second = (dataclasses.replace(r, shared_speakers=shared) for r in RESULTS)
    if shared:
        second = dataclasses.replace(second, shared_speakers=["b", "c"])
    summary = summarize([first, second])
    table = report.markdown(summary)
    assert words in table
    assert bool(words) == ("trained on as well" in table or "does not name all" in table)
    assert summary.shared_speakers == (["a", "b", "c"] if shared else shared)


def test_the_table_says_what_was_held_out_and_tested():
    named = [
        dataclasses.replace(r, protocol="speakers", heldout="speaker", name=f"speakers {k} (x, y)")
        for k, r in enumerate(RESULTS)
    ]
    table = report.markdown(summarize(named))
    assert "| test speakers |" in table and "Folds: speakers 0 (x, y); speakers 1 (x, y)." in table
    assert "on held-out speakers of the training side" in table
    assert "Their speakers train" not in table and "Their speakers train" in report.markdown(
        summarize(RESULTS)
    )


def test_the_pictures_are_pngs():
    summary = summarize(RESULTS).calibration
    for scaled in (summary["reliability_scaled"], None):
        assert plots.png(plots.reliability(summary["reliability"], scaled))[:4] == b"\x89PNG"
    assert plots.png(plots.confusion(np.array([[9, 1], [0, 0]]), NAMES))[:4] == b"\x89PNG"


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


def test_what_an_untrained_ctc_head_writes_is_no_text_source():
    config = configuration.default()
    assert reliability.text_sources(config) == ("gold", "ctc", "none")
    config.losses.ctc.weight = 0.0
    assert reliability.text_sources(config) == ("gold", "none")
