"""The facts that a report begins with, from made-up results."""

import dataclasses

import pytest

from mmer_jax import configuration, runs
from mmer_jax.reporting import analysis, findings, plots, report
from tests.made_results import fold_result, row
from tests.reporting.test_html import Tags

NAMES = ["ang", "hap", "neu"]


def result(fold, matrix, **values):
    """Both speakers of a fold say the same; [i][j] of each of class i are taken for j."""
    rows = [
        row(NAMES[i], NAMES[j], utterance=f"{fold}{s}{i}{j}{k}", speaker=f"{fold}{s}", session=fold,
            dialog=f"{fold}", probabilities=[0.6 if j == c else 0.2 for c in range(3)], seen=k == 0,
            logits=[float(j == c) for c in range(3)])
        for s in "FM" for i in range(3) for j in range(3) for k in range(matrix[i][j])
    ]  # fmt: skip
    return fold_result(NAMES, rows, fold, counts={"train": 90, "test": len(rows)}, **values)


def run_of(results, workdir="nowhere"):
    config = configuration.default()
    folds = tuple(runs.FoldRun("", config, r, [], []) for r in results)
    return runs.Run(str(workdir), config, folds, (), None, "")


GOOD, FAIR = [[5, 0, 0], [1, 4, 0], [0, 1, 4]], [[4, 1, 0], [3, 2, 0], [0, 0, 5]]


def test_what_is_best_worst_and_confused():
    run = run_of([result(1, GOOD), result(2, FAIR)])
    found = findings.facts(run, {"gold": [f.result for f in run.folds]})
    assert found["best"] == {"name": "neu", "count": 18, "of": 20, "share": 0.9}  # as is ang
    assert found["worst"]["name"] == "hap" and found["worst"]["count"] == 12
    assert found["confused"] == {
        "name": "hap", "taken_for": "ang", "count": 8, "of": 20, "share": 0.4,
    }  # fmt: skip
    assert found["utterances"] == 60 and found["speakers"] == 4
    assert found["folds"] == [(pytest.approx(11 / 15), 2), (pytest.approx(13 / 15), 1)]
    assert found["leakage"]["share"] == pytest.approx(20 / 60)
    assert found["texts"] == [] and found["held_out"] is None
    rows = findings.speakers([f.result for f in run.folds], found["estimate"]["parts"]["speaker"])
    assert [r["name"] for r in rows] == ["2F", "2M", "1F", "1M"]
    assert rows[0]["utterances"] == 15 and rows[0]["ua"] == pytest.approx(11 / 15)


def test_no_error_is_no_confusion():
    run = run_of([result(1, [[2, 0, 0], [0, 2, 0], [0, 0, 0]])])
    found = findings.facts(run, {})
    assert found["confused"] is None and found["best"]["share"] == found["worst"]["share"] == 1
    assert found["worst"]["name"] in ("ang", "hap")  # neu has no utterance


def test_what_text_adds_is_a_paired_difference():
    own = [result(k, GOOD if k < 5 else FAIR) for k in range(1, 6)]
    none = [result(k, FAIR) for k in range(1, 6)]
    same = {p.utterance for r in own for p in r.predictions}
    assert same != {p.utterance for r in none for p in r.predictions}  # made so; only counts matter
    (text,) = findings.facts(run_of(own), {"gold": own, "none": none})["texts"]
    assert text["ua"] - text["alone"] == pytest.approx(text["difference"]["value"])
    assert text["difference"]["value"] == pytest.approx(0.8 * 2 / 15)
    assert text["difference"]["corrected"] and text["difference"]["interval"][1] > 0.1
    # One fold less on one side: both figures are of those that were tested both ways.
    (fewer,) = findings.facts(run_of(own), {"gold": own, "none": none[:4]})["texts"]
    assert fewer["ua"] == pytest.approx(13 / 15) and fewer["difference"]["interval"] is None


def test_what_evaluate_wrote_is_read_back(tmp_path):
    own = [result(1, GOOD, seed=3), result(2, FAIR, seed=3)]
    other = [dataclasses.replace(r, predictions=r.predictions[::-1]) for r in own]
    run = run_of(own, tmp_path)
    folder = tmp_path / "text_none"
    folder.mkdir()
    (folder / "predictions.csv").write_text(report.predictions_csv(other))
    texts = findings.by_text(run)
    assert list(texts) == ["gold", "none"]
    for got, want in zip(texts["none"], other):
        assert got.key == want.key and got.temperature is None
        for a, b in zip(got.predictions, want.predictions):
            assert dataclasses.replace(a, logits=b.logits) == b
    # Trained anew on other folds since: nothing to compare with.
    (folder / "predictions.csv").write_text(report.predictions_csv([result(1, FAIR, seed=3)]))
    assert list(findings.by_text(run)) == ["gold"]


def test_the_page_shows_speakers_corpora_and_what_errors_were_taken_for():
    results = [result(1, GOOD), result(2, FAIR)]
    results = [
        dataclasses.replace(r, predictions=[
            dataclasses.replace(p, corpus="one" if p.speaker.endswith("F") else "two")
            for p in r.predictions
        ])
        for r in results
    ]  # fmt: skip
    run = run_of(results)
    run.config.model.modalities = ("audio",)
    page = Tags(analysis.render(run, run.folds[0])[0])
    rows = [a["aria-label"] for tag, a in page.tags if tag == "table" and "aria-label" in a]
    assert rows == ["UA of each corpus", "UA of each speaker"]
    widths = [a["style"] for tag, a in page.tags if tag == "div" and "width" in a.get("style", "")]
    assert widths == ["width:80.0%"] * 2 + ["width:73.3%"] * 2 + ["width:86.7%"] * 2
    assert "without words" not in page.text and "second guess" in page.text
    bars = plots.emotion_colours(NAMES)
    assert any(bars["hap"] in a.get("style", "") for tag, a in page.tags if tag == "span")
