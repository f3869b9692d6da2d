"""Floors on a run's folds, beside the results of a run whose layers are weighted."""

import json

import numpy as np
import pytest

from mmer_jax import baselines, main, runs
from mmer_jax.metrics import classification
from mmer_jax.training.trainer import Trainer


@pytest.fixture(scope="module")
def run(prepared, tiny_config, tmp_path_factory):
    """Workdir of a finished run with its floors."""
    folder = tmp_path_factory.mktemp("run")
    config = tiny_config(prepared)
    config.audio.layers, config.model.pooling = "weighted", "statistics"
    config.train.epochs = 1
    main.run(config, str(folder))
    assert baselines.main([str(folder)]) == 0
    return folder


def floors(run):
    stored = json.loads((run / "baselines.json").read_text())["floors"]
    return {f["title"]: {int(k): np.array(c) for k, c in f["confusions"].items()} for f in stored}


def test_every_floor_is_tested_on_the_runs_test_utterances(run):
    found = runs.read(str(run))
    layers = found.config.audio.size.layers
    speech = [*(f"speech, layer {k}" for k in range(layers + 1)), "speech, all layers"]
    assert list(floors(run)) == ["majority class", "transcripts, TF-IDF", *speech]
    for confusions in floors(run).values():
        for fold in found.folds:
            np.testing.assert_array_equal(
                confusions[fold.result.fold].sum(axis=1), fold.result.confusion.sum(axis=1)
            )


def test_the_majority_is_that_of_the_training_side(run):
    found = runs.read(str(run))
    trainer = Trainer.for_corpus(found.config)
    for fold in found.folds:
        number = fold.result.fold
        tested = {p.utterance for p in fold.result.predictions}
        labels = [u.label for u in trainer.corpus.utterances if u.id not in tested]
        confusion = floors(run)["majority class"][number]
        assert confusion[:, np.bincount(labels).argmax()].sum() == confusion.sum()
        assert classification.rates(confusion)["ua"] == 1 / len(confusion)


def test_simple_classifiers_learn_what_the_demo_corpus_holds(run):
    """Its words tell valence, its prosody arousal: both beat the majority class."""

    def ua(title):
        counts = sum(floors(run)[title].values())
        return classification.rates(counts)["ua"]

    assert ua("transcripts, TF-IDF") > 0.35 and ua("speech, all layers") > 0.35


def test_results_name_the_highest_floor_and_the_layers_weights(run):
    table = (run / "results.md").read_text()
    assert "| speech, all layers |" in table and "majority class" in table
    above = "not above the highest" in table
    summary = runs.read(str(run)).summary
    highest = max(
        np.mean([classification.rates(c)["ua"] for c in confusions.values()])
        for confusions in floors(run).values()
    )
    assert above == (summary.mean["ua"]["mean"] <= highest)
    weights = summary.folds[0]["layer_weights"]
    assert len(weights) == 2 and abs(sum(weights) - 1) < 1e-3 and weights[0] != weights[1]
    assert "Weights of the audio encoder's hidden states" in table
