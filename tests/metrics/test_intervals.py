"""What a run's results allow to say: intervals by the rule table, or the parts alone."""

import dataclasses
import json

import numpy as np
import pytest
from scipy import stats

from mmer_jax.metrics import classification, intervals
from tests.made_results import fold_result, row

NAMES = ["ang", "hap", "neu"]


def result(fold, seed=0, accuracy=0.7, speakers=2, size=24, dialog="", rng=None):
    """A fold's result; labels depend on the fold alone, predictions on the generator."""
    rng = rng or np.random.default_rng([fold, seed, int(1000 * accuracy)])
    label = np.arange(size) % 3
    prediction = np.where(rng.random(size) < accuracy, label, rng.integers(0, 3, size))
    rows = [
        row(NAMES[i], NAMES[j], speaker=f"{fold}-{k % speakers}", dialog=dialog or f"d{fold}")
        for k, (i, j) in enumerate(zip(label, prediction))
    ]
    counts = {"train": 4 * size, "select": 0, "test": size}
    return fold_result(NAMES, rows, fold, seed, counts=counts)


def test_over_folds_the_seeds_of_each_together():
    ours = [result(f, s, 0.8) for f in range(1, 6) for s in (0, 1)]
    theirs = [result(f, s, 0.6) for f in range(1, 6) for s in (0, 1)]
    found = intervals.estimate(ours, theirs)
    assert found["over"] == "folds" and found["groups"] == 5
    by_fold = [
        np.mean(
            [
                [
                    classification.rates(r.confusion)["wa"]
                    for r in one
                    if r.fold == f
                ]
                for one in (ours, theirs)
            ],
            axis=1,
        )
        for f in range(1, 6)
    ]  # fmt: skip
    expected = stats.ttest_rel(*np.array(by_fold).T)  # folds of one size: WA is their mean
    wa = found["metrics"]["wa"]
    assert wa["value"] == pytest.approx(np.mean(by_fold, axis=0) @ [1, -1])
    assert wa["p"] == pytest.approx(expected.pvalue)
    assert wa["interval"] == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert found["test_to_train"] == pytest.approx(1 / 4)
    assert wa["corrected"]["error"] == pytest.approx(wa["error"] * (1 + 5 / 4) ** 0.5)
    assert wa["corrected"]["p"] > wa["p"]
    alone = intervals.estimate(ours)["metrics"]["wa"]
    assert "p" not in alone and alone["interval"][0] < alone["value"] < alone["interval"][1]
    json.dumps(found, allow_nan=False)


def test_one_fold_counts_the_chance_of_training():
    ours, theirs = ([result(1, s, a, speakers=6, size=240) for s in (0, 1, 2)] for a in (0.8, 0.7))
    found = intervals.estimate(ours, theirs)
    assert found["over"] == "speakers and seeds" and found["groups"] == 6
    wa = found["metrics"]["wa"]
    runs = [[classification.rates(r.confusion)["wa"] for r in one] for one in (ours, theirs)]
    chance = sum(np.var(values, ddof=1) / 3 for values in runs)
    by_speaker = [v["wa"] for v in found["parts"]["speaker"].values()]
    assert wa["error"] ** 2 == pytest.approx(stats.sem(by_speaker) ** 2 + chance)
    assert wa["corrected"] is None and wa["degrees"] > 2


def test_models_of_all_folds_on_the_same_speakers():
    """Their chance counts by fold, and by seed where there are several."""
    one = result(1, speakers=6, size=240)
    for seeds in ((0,), (0, 1, 2)):
        results = []
        for fold in (1, 2, 3):
            for seed in seeds:
                other = result(1, seed, 0.8 - 0.05 * fold, speakers=6, size=240)
                results.append(dataclasses.replace(other, fold=fold))
        assert intervals.estimate(results)["over"] is None  # of folds that have speakers in common
        found = intervals.estimate(results, same_test=True)
        assert found["over"] == "speakers and seeds" and found["groups"] == 6
        wa = np.array([classification.rates(r.confusion)["wa"] for r in results]).reshape(3, -1)
        by_speaker = [v["wa"] for v in found["parts"]["speaker"].values()]
        chance = np.var(wa.mean(1), ddof=1) / 3
        chance += np.var(wa.mean(0), ddof=1) / 3 if len(seeds) > 1 else 0
        assert found["metrics"]["wa"]["value"] == pytest.approx(wa.mean())
        error = found["metrics"]["wa"]["error"]
        assert error**2 == pytest.approx(stats.sem(by_speaker) ** 2 + chance)
        assert found["metrics"]["wa"]["corrected"] is None is found["test_to_train"]
    assert intervals.estimate([one], same_test=True)["over"] is None  # one model
    few = [dataclasses.replace(result(1, speakers=5, size=60), fold=f) for f in (1, 2)]
    assert intervals.estimate(few, same_test=True)["over"] is None
    nameless = renamed(results, speaker="", dialog="")
    assert intervals.estimate(nameless, same_test=True)["over"] is None


@pytest.mark.parametrize(
    "results",
    [
        [result(f) for f in (1, 2, 3, 4)],
        [result(1, s) for s in (0, 1, 2)],  # two speakers
        [result(1, speakers=8)],  # one seed
        [result(f, dialog="the same") for f in range(1, 7)],  # one conversation in all folds
    ],
)
def test_anything_less_has_its_parts_alone(results):
    found = intervals.estimate(results)
    assert found["over"] is None
    for one in found["metrics"].values():
        assert one["value"] and one["interval"] is one["error"] is one["corrected"] is None
    parts = found["parts"]
    assert set(parts["fold"]) == {r.fold for r in results}
    assert set(parts["seed"]) == {r.seed for r in results}
    assert len(parts["speaker"]) == len({p.speaker for r in results for p in r.predictions})
    pooled = classification.rates(sum(r.confusion for r in results))
    assert found["metrics"]["ua"]["value"] == pytest.approx(pooled["ua"])


def test_folds_of_one_conversation_are_one_unit():
    results = [result(f, speakers=1, dialog=f"d{(f + 1) // 2}") for f in range(1, 11)]
    units = [[1, 2], [3, 4], [5, 6], [7, 8], [9, 10]]
    assert intervals.independent(results) == units
    found = intervals.estimate(results)
    assert found["groups"] == 5 and len(found["folds"]) == 10
    merged = found["metrics"]["wa"]["error"]
    halves = [sum(results[f - 1].confusion for f in unit) for unit in units]
    assert merged == pytest.approx(stats.sem([classification.rates(m)["wa"] for m in halves]))


def renamed(results, **columns):
    return [
        dataclasses.replace(
            r, predictions=[dataclasses.replace(p, **columns) for p in r.predictions]
        )
        for r in results
    ]


def test_without_dialogs_speakers_tell_folds_apart():
    results = renamed([result(f) for f in range(1, 7)], dialog="")
    assert intervals.estimate(results)["over"] == "folds"
    # One speaker in all folds makes them one unit, and without names nothing is known.
    assert intervals.independent(renamed(results, speaker="s")) == [[1, 2, 3, 4, 5, 6]]
    for speaker in ("s", ""):
        assert intervals.estimate(renamed(results, speaker=speaker))["over"] is None
    dialogs = [r for f in range(1, 7) for r in renamed([result(f)], speaker="", dialog=f"d{f}")]
    assert intervals.estimate(dialogs)["over"] == "folds"
    one = renamed([result(1, s, speakers=8) for s in (0, 1)], speaker="")
    assert intervals.estimate(one)["over"] is None


def test_folds_that_do_not_differ_have_no_interval():
    same = [result(f) for f in range(1, 6)]
    found = intervals.estimate(same, same)["metrics"]["ua"]
    assert found["value"] == 0 and found["interval"] is found["p"] is found["error"] is None


def test_only_shared_runs_of_the_same_utterances_are_compared():
    assert intervals.estimate([result(1)], [result(2)]) is None
    found = intervals.estimate([result(1), result(2)], [result(2), result(3)])
    assert found["folds"] == [2]
    with pytest.raises(ValueError, match="same utterances"):
        intervals.estimate([result(1)], [result(1, size=27)])


def test_a_fold_counts_once_in_the_ratio_however_many_seeds_have_it():
    once = [result(f, size=24 + 3 * f) for f in range(1, 6)]
    found = intervals.estimate(once), intervals.estimate([*once, result(5, 1, size=39)])
    sizes = [24 + 3 * f for f in range(1, 6)]
    expected = np.mean(sizes) / np.mean([4 * n for n in sizes])
    assert [f["test_to_train"] for f in found] == pytest.approx([expected] * 2)
    assert [f["runs"] for f in found] == [5, 6]


def test_seeds_are_set_side_by_side_on_the_folds_that_all_have():
    runs = [result(1), result(2), result(2, 1)]
    seeds = intervals.estimate(runs)["parts"]["seed"]
    expected = [classification.rates(r.confusion)["ua"] for r in runs[1:]]
    assert [seeds[s]["ua"] for s in (0, 1)] == pytest.approx(expected)
    assert intervals.estimate([result(1), result(2, 1)])["parts"]["seed"] == {}


def test_a_refits_ratio_is_to_all_that_it_was_trained_on():
    def ratio(**trained):
        results = [result(f) for f in range(1, 6)]
        for r in results:
            r.counts.update({"train": 72, "select": 24} | trained)
        return intervals.estimate(results)["test_to_train"]

    assert ratio() == pytest.approx(24 / 72)  # an earlier version's
    assert ratio(trained=96) == pytest.approx(24 / 96)
    assert ratio(trained=0) is None
