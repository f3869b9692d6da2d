"""Training and evaluation read what a recogniser wrote: from its file, and from nowhere else."""

import json
import shutil

import numpy as np
import pytest

from mmer_jax import evaluate, main, runs
from mmer_jax.data.corpus import Corpus
from mmer_jax.errors import UserError
from mmer_jax.metrics import asr
from mmer_jax.reporting import embeddings
from mmer_jax.training import evaluation
from mmer_jax.training.trainer import Trainer
from tests import made_transcripts


@pytest.fixture(scope="module")
def corpus(prepared):
    return Corpus(str(prepared / "tfds"))


@pytest.fixture(scope="module")
def texts(corpus):
    """Every third word of each transcript is wrong, in capitals and with a full stop."""
    wrong = lambda words: ["WRONG" if i % 3 == 2 else w for i, w in enumerate(words)]  # noqa: E731
    return {u.id: " ".join(wrong(u.transcript.split())).upper() + "." for u in corpus.utterances}


@pytest.fixture(scope="module")
def file(corpus, texts, tmp_path_factory):
    return made_transcripts.write(tmp_path_factory.mktemp("asr") / "made.json", corpus, texts)


@pytest.fixture(scope="module")
def run(prepared, tiny_config, file, tmp_path_factory):
    """Workdir of a finished run whose half of the utterances came with them."""
    folder, config = tmp_path_factory.mktemp("run"), tiny_config(prepared)
    config.train.asr_texts, config.data.asr_transcripts, config.train.epochs = 0.5, file, 1
    main.run(config, str(folder))
    return folder


def test_a_share_of_training_reads_them_and_nothing_else_changes(prepared, tiny_config, file,
                                                                 texts):  # fmt: skip
    def read(share):
        config = tiny_config(prepared)
        config.train.text_dropout = 0.2
        config.train.asr_texts, config.data.asr_transcripts = share, file
        collator = Trainer.for_corpus(config).collator
        us, ids, found = collator.corpus.utterances, collator.preprocessor.text_ids, {}
        for at in range(0, len(us), 8):
            batch = collator.batch(us[at : at + 8], collator.buckets[0], (0, 1))
            for u, row, mask in zip(us[at:], batch["text_ids"], batch["text_mask"]):
                ways = {"gold": u.transcript, "none": "", "asr": texts[u.id]}
                found[u.id] = [k for k, t in ways.items() if np.array_equal(ids(t), row[mask > 0])]
        assert all(len(ways) == 1 for ways in found.values())  # whole: the buckets have room
        return {key: ways[0] for key, ways in found.items()}

    without, half = read(0.0), read(0.5)
    assert set(without.values()) == {"gold", "none"}
    assert 0.35 < list(half.values()).count("asr") / len(half) < 0.65
    for key, way in half.items():
        assert way in (without[key], "asr") and (way == "none") is (without[key] == "none")


def test_held_out_figures_are_of_this_recognisers_texts(run, texts):
    fold = runs.read(str(run)).folds[0]
    measured = fold.result.text_sources
    assert list(measured) == ["gold", "asr", "ctc", "none"]
    assert measured["asr"]["recognizer"] == made_transcripts.RECOGNIZER["name"]
    assert measured["asr"]["temperature"] > 0 and 0.2 < measured["asr"]["wer"] < 0.5
    assert fold.result.pretrained["asr_transcripts"]["source"] == "made-00000000"


def test_evaluation_reads_the_file(run, corpus, texts, file, capsys, tmp_path):
    fold = runs.read(str(run)).folds[0]
    trainer, state, utterances = embeddings.open_fold(fold)
    expected = evaluation.predict(trainer, state, utterances, texts)["logits"]
    assert evaluate.main([str(run), "--text_source=asr"]) == 0
    results = json.loads((run / "text_asr" / "results.json").read_text())
    rows = (run / "text_asr" / "predictions.csv").read_text().splitlines()[1:]
    assert len(rows) == len(utterances)
    found = results["asr_transcripts"]
    rates = asr.recognizer_rates([u.transcript for u in utterances],
                                 [texts[u.id] for u in utterances])  # fmt: skip
    assert found["recognizer"] == made_transcripts.RECOGNIZER
    assert {k: found[k] for k in rates} == rates and results["text_source"] == "asr"
    table = (run / "text_asr" / "results.md").read_text()
    assert "made-00000000" in table and f"WER {100 * rates['wer']:.1f} %" in table
    confusion = np.zeros((4, 4), int)
    np.add.at(confusion, ([u.label for u in utterances], expected.argmax(-1)), 1)
    assert results["pooled"]["confusion"] == confusion.tolist()
    temperature = fold.result.text_sources["asr"]["temperature"]
    assert results["folds"][0]["temperature"] == temperature
    # Another recogniser's text has no temperature, be it in a file of the same form.
    other = tmp_path / "other.json"
    other.write_text(open(file).read().replace("made-00000000", "other-1"))
    assert evaluate.main([str(run), "--text_source=asr", f"--transcripts={other}"]) == 0
    again = json.loads((run / "text_asr" / "results.json").read_text())
    assert again["folds"][0]["temperature"] is None
    assert again["pooled"] == results["pooled"]


def test_a_file_that_is_gone_is_refused_before_training_and_not_missed_after(
    run, prepared, tiny_config, file, tmp_path
):
    config = tiny_config(prepared)
    config.data.asr_transcripts = str(tmp_path / "gone.json")
    with pytest.raises(UserError, match="python -m mmer_jax.transcribe iemocap/emotions4"):
        Trainer.for_corpus(config)
    copy = shutil.copytree(run, tmp_path / "run")
    stored = json.loads((copy / "config.json").read_text())
    stored["data"]["asr_transcripts"] = str(tmp_path / "gone.json")
    (copy / "config.json").write_text(json.dumps(stored))
    assert evaluate.main([str(copy), "--text_source=none"]) == 0
    assert evaluate.main([str(copy), "--text_source=asr"]) == 1


def test_error_rates_of_a_recognisers_text_know_no_case_and_punctuation():
    said = ["It's over, Mark!", "No."]
    assert asr.recognizer_rates(said, ["it's over mark", "NO"])["wer"] == 0
    assert asr.recognizer_rates(said, ["its over mark", "no"])["wer"] == pytest.approx(1 / 4)
    parts = asr.by_confidence(said, ["it's over, Mark.", "yes"], [0.95, 1.0])
    assert [(low, high, p["utterances"]) for low, high, p in parts] == [(0.9, 1.0, 2)]
