"""Damaged folders of runs: configs, results, metrics, predictions, transcript files."""

import csv
import io
import json
import os
import pathlib
import shutil

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mmer_jax import runs
from mmer_jax.data import transcripts
from mmer_jax.data.corpus import Utterance
from tests.inputs import damage, guard
from tests.inputs.guard import Damaged
from tests.made_transcripts import RECOGNIZER


def used(run):
    """A run, and what reports make of it."""
    for fold in run.folds:
        r = fold.result
        assert np.isfinite(r.probabilities(scaled=True)).all() and r.confusion.sum() == len(
            r.labels
        )
        runs.series(fold.metrics, "loss")
    return run


def test_runs(tiny_run, tmp_path_factory):
    place = tmp_path_factory.mktemp("runs")
    names = ["config.json", "fold4/result.json", "fold5/result.json", "fold5/metrics.jsonl",
             "results.json", "results.md"]  # fmt: skip
    spoilt = damage.Spoilt(tiny_run, place / "in" / "spoilt")
    expected = repr(used(runs.read(str(spoilt.folder))))

    @given(damage.in_a_folder(pathlib.Path(tiny_run), names))
    def run(found):
        name, damaged = found
        damaged = Damaged(damaged.data, f"{name}: {damaged.how}")
        guard.judge("run: results", damaged,
                    lambda: spoilt.read(name, damaged.data, lambda f: used(runs.read(f))),
                    lambda x: repr(x) == expected)  # fmt: skip

    run()


def test_predictions_of_an_evaluation(tiny_run, tmp_path_factory):
    """Beside its results.json: a row that is lost, or contradicts itself, is known."""
    place = tmp_path_factory.mktemp("evaluated")
    spoilt = damage.Spoilt(tiny_run, place / "in" / "spoilt")
    out = spoilt.folder / "text_ctc"
    out.mkdir()
    for name in ("results.json", "predictions.csv"):
        shutil.copy(spoilt.folder / name, out / name)
    text = (out / "predictions.csv").read_bytes()
    head, *cells = csv.reader(io.StringIO(text.decode(), newline=""))

    def read(folder):
        run, results = runs.read_results(os.path.join(folder, "text_ctc"))
        return [vars(p) for r in results for p in r.predictions]

    expected = read(str(spoilt.folder))
    shares = {f"p_{name}": ("-1", "nan", "inf", "1e308", "soon", "") for name in ("ang", "hap")}
    refused = shares | {"seed": ("nan", "soon", ""), "fold": ("soon", "", "1e308"),
                        "label": ("soon", ""), "prediction": ("soon", ""),
                        "seen": ("soon", "-1")}  # fmt: skip

    @given(
        st.one_of(damage.damaged_table(head, cells, refused=refused), damage.damaged_bytes(text))
    )
    def run(damaged):
        guard.judge(
            "run: predictions.csv", damaged,
            lambda: spoilt.read("text_ctc/predictions.csv", damaged.data, read),
            lambda x: x == expected,
            lambda x: expected and len(x) == len(expected),
        )  # fmt: skip

    run()


def test_transcript_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("transcripts")
    path = folder / "made-00000000.json"
    utterances = tuple(Utterance(i, f"u{i}", 0, 8000 + i) for i in range(4))

    class Corpus:
        versions = {"iemocap/emotions4": "2.0.0"}

    corpus = Corpus()
    corpus.utterances = utterances
    writer = transcripts.Writer(str(path), {"dataset": "x", "recognizer": RECOGNIZER})
    writer.add([{"id": u.id, "samples": u.samples, "text": f"Words {u.id}.", "confidence": 0.9,
                 "no_speech": 0.1, "note": ""} for u in utterances])  # fmt: skip
    writer.finish([u.id for u in utterances])
    good = path.read_bytes()

    def read(data):
        path.write_bytes(data)
        return transcripts.read(str(path), str(folder), corpus)

    expected = read(good).transcripts

    def check_texts(found):
        for u in utterances:
            text = found.texts[u.id]
            assert isinstance(text, str) and "\0" not in text and text.encode() is not None

    @given(st.one_of(damage.damaged_json(json.loads(good)), damage.damaged_bytes(good)))
    def run(damaged):
        guard.judge("transcripts: JSON", damaged, lambda: read(damaged.data),
                    lambda x: x.transcripts == expected, check_texts)  # fmt: skip

    run()
