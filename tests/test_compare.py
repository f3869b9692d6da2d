"""Two runs side by side: what changed, by hand, and runs that can't be compared."""

import csv
import dataclasses
import io
import json
import shutil

import pytest

from mmer_jax import compare, runs
from mmer_jax.errors import UserError
from mmer_jax.reporting import paired, report
from tests.made_results import fold_result, row
from tests.reporting.test_html import BAD, Tags

NAMES = ["ang", "hap", "neu"]


def said(name, label, p, speaker="s", **values):
    return row(label, NAMES[p.index(max(p))], utterance=name, probabilities=p, logits=p,
               speaker=speaker, **values)  # fmt: skip


A = [
    said("right", "ang", [0.9, 0.1, 0.0]),
    said("lost", "ang", [0.6, 0.3, 0.1]),
    said("won", "hap", [0.5, 0.4, 0.1]),
    said("same", "hap", [0.7, 0.2, 0.1]),
    said("other", "neu", [0.8, 0.1, 0.1]),
]
B = [
    said("other", "neu", [0.2, 0.7, 0.1]),
    said("right", "ang", [0.8, 0.2, 0.0]),
    said("lost", "ang", [0.1, 0.5, 0.4]),
    said("won", "hap", [0.0, 1.0, 0.0]),
    said("same", "hap", [0.6, 0.3, 0.1]),
]


def both(a, b, **values):
    return [fold_result(NAMES, a, **values)], [fold_result(NAMES, b, **values)]


def test_what_changed_by_hand():
    found = paired.compare(*paired.pair(*both(A, B)))
    assert found["outcomes"] == dict(zip(paired.OUTCOMES, (1, 1, 1, 2)))
    assert found["same_error"] == 1  # `same` stays ang, `other` turns from ang to hap
    assert found["classes"] == {"ang": [2, 1, 0], "hap": [2, 0, 1], "neu": [1, 0, 0]}
    names = [u["utterance"] for u in found["utterances"]]
    assert names == ["won", "same", "other", "right", "lost"]
    assert [u["change"] for u in found["utterances"]] == pytest.approx([0.6, 0.1, 0, -0.1, -0.5])
    won = found["utterances"][0]
    assert (won["a"], won["b"], won["outcome"]) == (("ang", 0.5), ("hap", 1.0), "only B right")
    assert found["estimate"]["metrics"]["wa"]["value"] == 0 and found["metrics"][0]["wa"] == 0.4
    tables = {title: rows for title, _, rows, _ in paired.tables(found, [("model.gate", 1, 2)])}
    assert [r[0] for r in tables["Utterances that A is better at"]] == ["lost", "right"]
    assert [r[0] for r in tables["Utterances that B is better at"]] == ["won", "same"]
    assert tables["Options that differ"] == [["model.gate", "1", "2"]]
    assert "no interval" in paired.sentences(found)[0]


def test_an_utterance_of_several_seeds_is_listed_once_with_their_mean():
    pairs = [both(A, B, seed=seed) for seed in (0, 1)]
    first, second = ([r for pair in pairs for r in pair[i]] for i in (0, 1))
    surer = [said(p.utterance, p.label, [0.0, 0.0, 1.0]) for p in A]
    second[1] = dataclasses.replace(second[1], predictions=surer)
    found = paired.compare(*paired.pair(first, second))
    assert sum(found["outcomes"].values()) == 10 and len(found["utterances"]) == 5
    other = next(u for u in found["utterances"] if u["utterance"] == "other")
    assert other["b"] == ("neu", pytest.approx(0.55)) and other["outcome"] == "only B right"


@pytest.mark.parametrize("prefix, over", [("fold ", "folds"), ("", "speakers and seeds")])
def test_a_difference_has_the_interval_of_its_kind(prefix, over):
    """Folds test other utterances, or all their models were tested on another corpus."""
    perfect = [dataclasses.replace(p, prediction=p.label) for p in A]

    def of(rows, k):
        name = f"{prefix}{k}" if prefix else ""
        rows = sorted(rows * 2, key=lambda p: p.utterance)
        return [
            dataclasses.replace(p, utterance=f"{name}{i}", dialog=name, speaker=name or f"{i % 7}")
            for i, p in enumerate(rows)
        ]

    folds = [both(of(A, k), of(perfect if k > 1 else B, k), fold=k) for k in range(1, 7)]
    first, second = ([r for pair in folds for r in pair[i]] for i in (0, 1))
    estimate = paired.compare(*paired.pair(first, second[::-1]))["estimate"]
    assert estimate["over"] == over and estimate["metrics"]["wa"]["interval"]


def test_seeds_that_differ_are_paired_in_their_order():
    first, second = both(A, B)
    second = [dataclasses.replace(second[0], seed=7)]
    assert [r.seed for rs in paired.pair(first, second) for r in rs] == [0, 0]
    # With one in common only that is compared.
    more = [*first, dataclasses.replace(first[0], seed=7)]
    assert [r.seed for rs in paired.pair(more, second) for r in rs] == [7, 7]


@pytest.mark.parametrize(
    "other, message",
    [
        (fold_result(NAMES, A[1:]), "tests 5 utterances in A and 4 in B, and 1 of them"),
        (fold_result(NAMES, [dataclasses.replace(A[0], label="neu"), *A[1:]]), "same label"),
        (fold_result(NAMES, [dataclasses.replace(A[0], speaker="x"), *A[1:]]), "and speaker"),
        (fold_result(NAMES, A, fold=2), "A has the folds 1, B 2"),
        (fold_result(NAMES[::-1], A), "A has the classes ang, hap, neu, B neu"),
    ],
)
def test_runs_that_were_not_tested_on_the_same_are_refused(other, message):
    with pytest.raises(UserError, match=message):
        paired.pair([fold_result(NAMES, A)], [other])


def test_what_people_said_stays_text():
    evil = [[dataclasses.replace(p, transcript=BAD, speaker=BAD) for p in rows] for rows in (A, B)]
    page = paired.render(paired.compare(*both(*evil)), BAD, "b")["compare.html"]
    assert not {tag for tag, _ in Tags(page).tags} & {"script", "img"}
    assert BAD in Tags(page).text


def test_a_transcript_stays_in_its_cell():
    odd = [[dataclasses.replace(p, transcript="a|b\n\n# c") for p in rows] for rows in (A, B)]
    text = paired.render(paired.compare(*both(*odd)), "a", "b")["compare.md"]
    rows = [x for x in text.splitlines() if x.startswith(("| won", "| lost"))]
    assert len(rows) == 2 and all(x.endswith(r"| a\|b # c   |") for x in rows)


def test_tables_are_aligned():
    text = report.aligned("a\n\n| x | yy |\n|-|-|\n| long |  |\n\nb | c")
    assert text == "a\n\n| x    | yy |\n| ---- | -- |\n| long |    |\n\nb | c"


@pytest.fixture
def two(tiny_run, tmp_path):
    """The run, and a folder as `evaluate` writes it, in which all is taken for sad."""
    folder = shutil.copytree(tiny_run, tmp_path / "run")
    results = [
        dataclasses.replace(f.result, predictions=[
            dataclasses.replace(p, prediction="sad", probabilities=[0.0, 0.0, 0.0, 1.0])
            for p in f.result.predictions
        ])
        for f in runs.read(str(folder)).folds
    ]  # fmt: skip
    (folder / "text_none").mkdir()
    (folder / "text_none" / "predictions.csv").write_text(report.predictions_csv(results))
    return folder, folder / "text_none"


def test_the_command_compares_a_run_with_what_evaluate_wrote(two, capsys):
    a, b = two
    assert compare.main([f"{a}/", str(b)]) == 0
    printed = capsys.readouterr().out
    out = b / f"compare_{a.name}"
    assert (out / "compare.md").read_text() in printed and "| sad " in printed
    rows = list(csv.DictReader(io.StringIO((out / "compare.csv").read_text())))
    tested = [p for f in runs.read(str(a)).folds for p in f.result.predictions]
    assert {r["utterance"] for r in rows} == {p.utterance for p in tested}
    right = sum(p.label == "sad" for p in tested)
    assert sum(r["outcome"] in ("both right", "only B right") for r in rows) == right
    page = Tags((out / "compare.html").read_text())
    assert "Options that differ" not in page.text and "Who is right" in page.text


def test_the_command_says_what_is_wrong(two, tmp_path, capsys):
    a, b = two
    assert compare.main([str(a), f"{a}/"]) == 1
    assert compare.main([str(a), str(tmp_path / "gone")]) == 1
    config = json.loads((a / "config.json").read_text())
    (a / "text_none" / "predictions.csv").write_text("seed,fold,utterance\n0,4,x\n")
    assert config and compare.main([str(a), str(b)]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 3 and all(line.startswith("error: ") for line in errors)
    assert "two different runs" in errors[0] and "gone" in errors[1] and "damaged" in errors[2]
