"""A finished run tested on another corpus."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from mmer_jax import evaluate, main, runs
from mmer_jax.data.corpus import Corpus
from mmer_jax.errors import UserError
from mmer_jax.metrics import classification
from mmer_jax.reporting import across
from mmer_jax.training import checkpoint
from mmer_jax.training.evaluation import predict
from mmer_jax.training.trainer import Trainer

ABROAD, MAP = "speech_emotion/abroad", {"froh": "hap"}


@pytest.fixture(scope="module")
def run(people, prepared, tiny_config, tmp_path_factory):
    """Workdir of a finished run on the people: two folds, speech and text."""
    folder = tmp_path_factory.mktemp("across")
    config = tiny_config(prepared)
    config.data.dir, config.data.dataset = str(people), "speech_emotion/people"
    config.protocol, config.folds, config.train.epochs = "speakers", (1, 2), 1
    main.run(config, str(folder))
    return folder


def summary(folder):
    return json.loads((folder / "results.json").read_text())


def test_every_model_is_tested_on_all_of_it(run, people):
    table = evaluate.run(str(run), data=ABROAD, label_map=MAP)
    found, corpus = summary(run / "on_abroad"), Corpus(str(people), ABROAD)
    assert found["label_names"] == ["exc", "hap", "neu", "sad"]  # the models' own
    on = found["tested_on"]
    assert (on["dataset"], on["version"], on["utterances"]) == (ABROAD, "1.0.0", 35)
    assert on["left_out"] == {"bored": 7} and on["missing"] == ["exc", "neu"]
    assert on["trained_on"] == ["speech_emotion/people"] and on["label_map"] == MAP
    labels = {u.id: corpus.label_names[u.label] for u in corpus.utterances}
    rows = (run / "on_abroad" / "predictions.csv").read_text().splitlines()[1:]
    for number in (1, 2):
        own = [r.split(",") for r in rows if r.startswith(f"0,{number},")]
        expected = {name: MAP.get(x, x) for name, x in labels.items() if x != "bored"}
        assert {r[2]: r[6] for r in own} == expected
    # The tables say what they are of.
    for words in (ABROAD, "speech_emotion/people", "froh as hap", "bored 7", "of exc, neu",
                  "recalls over all utterances and models", "| ensemble |"):  # fmt: skip
        assert words in table
    assert "Words known from training" not in table
    recall = np.array(found["pooled"]["confusion"])
    assert found["pooled"]["ua"] == pytest.approx(
        np.mean([recall[i, i] / recall[i].sum() for i in (1, 3)])
    )
    assert table == (run / "on_abroad" / "results.md").read_text()


def test_the_logits_are_those_of_the_fold_s_model(run, people, tmp_path):
    """As if the other corpus had been the run's own."""
    finished = runs.read(str(run))
    corpus = across.open_corpus(finished, ABROAD, label_map=MAP)
    results = across.test(finished, corpus)
    fold = finished.folds[1]
    config = fold.config.copy_and_resolve_references()
    # The same utterances in another order, read by a trainer of another protocol.
    config.data.dataset, config.protocol = ABROAD, "speaker"
    trainer = Trainer.for_corpus(config)
    state = trainer.trained_state(checkpoint.read_params(fold)[1])
    chosen = [u for u in trainer.corpus.utterances if trainer.label_names[u.label] != "bored"][::-1]
    expected = predict(trainer, state, chosen)["logits"][::-1]
    found = np.array([p.logits for p in results[1].predictions])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    mean = np.mean([r.probabilities() for r in results], axis=0).argmax(-1)
    counts = classification.confusion(results[0].labels, mean, 4)
    facts = across.facts(finished, corpus, MAP, "gold", results)
    assert facts["ensemble"]["confusion"] == counts.tolist() and facts["ensemble"]["models"] == 2
    assert (facts["languages"], facts["trained_languages"]) == (["de"], [])
    assert not any("language" in note for note in facts["notes"])
    english = [dataclasses.replace(r, languages=["en"]) for r in results]
    notes = across.facts(finished, corpus, MAP, "gold", english)["notes"]
    assert any(note.startswith("Another language: de, where") for note in notes)
    assert any(note.startswith("Another language") and "text encoder" in note for note in notes)
    notes = across.facts(finished, corpus, MAP, "none", english)["notes"]
    assert not any("text encoder" in note or "transcript" in note for note in notes)


def test_what_the_models_read_there(run, capsys):
    finished = runs.read(str(run))
    corpus = across.open_corpus(finished, ABROAD, label_map=MAP)
    assert across.resolve_text_source(finished.config, corpus, "") == "gold"
    results = {source: across.test(finished, corpus, source) for source in ("none", "ctc")}
    assert results["none"][0].temperature != results["ctc"][0].temperature
    table = evaluate.run(str(run), "none", data=ABROAD, label_map=MAP)
    assert "no words at all" in table
    assert (run / "on_abroad" / "text_none" / "results.md").exists()
    gold = evaluate.run(str(run), "gold", data=ABROAD, label_map=MAP)
    assert "7 utterances have no transcript" in gold and "7 utterances" not in table
    silent = corpus.utterances[::6]
    corpus.utterances = tuple(u for u in corpus.utterances if not u.transcript)
    assert silent and across.resolve_text_source(finished.config, corpus, "") == "none"
    with pytest.raises(UserError, match="has none"):
        across.resolve_text_source(finished.config, corpus, "gold")


@pytest.mark.parametrize(
    "options, message",
    [
        (["--data=speech_emotion/people"], "is what this run was trained on"),
        (["--data=speech_emotion/abroad", "--label_map={'froh': 'joy'}"], "maps to 'joy'"),
        (["--data=speech_emotion/abroad", "--label_map={'sad': 'hap'}"], "Less than two"),
        (["--data=emodb"], "expected a prepared dataset's name"),
        (["--data=speech_emotion/emodb"], "No prepared dataset speech_emotion/emodb"),
        (["--label_map={'froh': 'hap'}"], "name it by --data"),
        (["--data=speech_emotion/abroad", "--text_source=guessed"], "the choices are"),
        (["--data=speech_emotion/abroad", "--text_source=asr"], "no transcript file"),
    ],
)
def test_what_can_not_be_tested_is_one_message(run, options, message, capsys):
    before = sorted(run.rglob("*"))
    assert evaluate.main([str(run), *options]) == 1
    assert message in capsys.readouterr().err
    assert sorted(run.rglob("*")) == before


def test_a_label_map_that_can_not_be_read_is_named(run, capsys):
    for wrong in ("{'froh'", "froh", "{1: 'hap'}", "('froh', 'hap')"):
        with pytest.raises(SystemExit, match="1"):
            evaluate.main([str(run), f"--data={ABROAD}", f"--label_map={wrong}"])
        assert "is no map of labels" in capsys.readouterr().err


def test_the_same_recordings_elsewhere_are_known_too(run, people, tmp_path):
    shutil.copytree(people / "speech_emotion/people", tmp_path / "speech_emotion/moved")
    with pytest.raises(UserError, match="of its utterances are in the run's tables"):
        evaluate.run(str(run), data="speech_emotion/moved", data_dir=str(tmp_path))


def test_one_model_has_no_ensemble(run):
    finished = runs.read(str(run))
    (one,) = [f.result for f in finished.folds][:1]
    assert across._ensemble([one]) is None
