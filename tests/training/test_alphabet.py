"""A run whose CTC head writes its corpus' own characters: they stay with all that comes of it."""

import json

import numpy as np
import pytest

from mmer_jax import evaluate, main, runs
from mmer_jax.data.alphabet import Alphabet
from mmer_jax.errors import UserError
from mmer_jax.inference import model_card
from mmer_jax.inference.predictor import Predictor
from mmer_jax.training import checkpoint_io, cross_validation
from tests import made_corpora

TEXTS = ("Ничего нового, друг.", "Я так рада!", "Почему ты молчишь?")
CHARACTERS = set("".join(TEXTS).lower()) - set(" ,.!?")


@pytest.fixture(scope="module")
def config(prepared, tiny_config, tmp_path_factory):
    """A function: a config of a Russian corpus and what changes of it."""
    data_dir = tmp_path_factory.mktemp("russian")
    rows = [
        row | {"transcript": TEXTS[i % 3], "language": "ru"}
        for i, row in enumerate(made_corpora.people(4))
    ]
    made_corpora.prepare(data_dir, {"russian": rows})

    def make(alphabet="corpus"):
        c = tiny_config(prepared)
        c.data.dir, c.data.dataset = str(data_dir), "speech_emotion/russian"
        c.protocol, c.folds, c.train.epochs = "speaker", (1,), 1
        c.losses.ctc.alphabet = alphabet
        return c

    return make


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    """Workdir of its first fold, to which a test adds the second."""
    folder = tmp_path_factory.mktemp("run")
    main.run(config(), str(folder))
    return folder


def test_predictions_and_rates_are_in_its_characters(run):
    (fold,) = runs.read(str(run)).folds
    assert set(fold.result.alphabet) == CHARACTERS and fold.result.languages == ["ru"]
    written = "".join(p.recognized for p in fold.result.predictions)
    assert written and set(written) <= CHARACTERS | {" "}
    rates = json.loads((run / "results.json").read_text())["recognition"]
    assert rates["utterances"] == 8 and 0 < rates["cer"] and 0 < rates["wer"]
    measured = fold.result.text_sources
    assert measured["ctc"]["cer"] > 0 and measured["gold"]["cer"] is None
    assert "corpus' own characters" in (run / "results.md").read_text()


def test_a_finished_fold_and_what_is_exported_keep_them(run, tmp_path):
    model = checkpoint_io.read(str(run / "fold1"))
    assert model.alphabet.characters == runs.read(str(run)).folds[0].result.alphabet
    card = model_card.markdown(model)
    assert "language: ru" in card and "(language: ru)" in card
    checkpoint_io.write(model, str(tmp_path / "out"), card)
    again = checkpoint_io.read(str(tmp_path / "out"))
    assert again.alphabet == model.alphabet and not again.lacks_ctc
    wave = np.random.default_rng(0).standard_normal(16_000).astype(np.float32) / 10
    text = Predictor(again, detect_speech=False).predict(wave, rate=16_000).text
    assert text and set(text) <= CHARACTERS | {" "}


def test_further_folds_and_evaluation_take_the_stored_ones(run, config, monkeypatch, capsys):
    """They aren't looked for again: another version of the corpus may have others."""
    monkeypatch.setattr(Alphabet, "of_transcripts", lambda _: pytest.fail("they were"))
    more = config()
    more.folds = (2,)
    main.run(more, str(run))
    one, two = (f.result for f in runs.read(str(run)).folds)
    assert one.alphabet == two.alphabet
    assert f"CTC writes {len(CHARACTERS)} characters" in capsys.readouterr().out
    evaluate.run(str(run), "ctc")
    rates = json.loads((run / "text_ctc" / "results.json").read_text())["recognition"]
    assert rates == json.loads((run / "results.json").read_text())["recognition"]


def test_what_starts_from_it_writes_the_same(run, config, tmp_path, monkeypatch):
    monkeypatch.setattr(Alphabet, "of_transcripts", lambda _: pytest.fail("it looked itself"))
    started = config()
    started.init_from, started.train.epochs = str(run / "fold1"), 0
    main.run(started, str(tmp_path / "run"))
    (fold,) = runs.read(str(tmp_path / "run")).folds
    before = runs.read(str(run)).of(0, 1).result
    assert fold.result.alphabet == before.alphabet
    assert [p.recognized for p in fold.result.predictions] == [
        p.recognized for p in before.predictions
    ]
    started.losses.ctc.alphabet = "english"
    with pytest.raises(UserError, match="losses.ctc.alphabet=corpus"):
        main.run(started, str(tmp_path / "other"))


def test_the_english_model_is_no_start_for_it(tiny_run, config, tmp_path):
    started = config()
    started.init_from = str(tiny_run / "fold5")
    with pytest.raises(UserError, match="losses.ctc.alphabet=english"):
        main.run(started, str(tmp_path))


def test_what_english_letters_can_not_write_is_said(config, capsys):
    cross_validation.make_trainer(config("english"))
    assert "100 % of the transcripts' letters" in capsys.readouterr().out
    silent = config()
    silent.losses.ctc.weight = 0.0
    trainer = cross_validation.make_trainer(silent)
    assert trainer.alphabet.is_english and "letters" not in capsys.readouterr().out


def test_transcripts_without_a_character_are_refused(config, monkeypatch):
    monkeypatch.setattr(Alphabet, "of_transcripts", lambda _: Alphabet(""))
    with pytest.raises(UserError, match="losses.ctc.weight=0.0"):
        cross_validation.make_trainer(config())
