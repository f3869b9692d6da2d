"""Two views are computed where there are two; what is missing is said."""

import dataclasses

import pytest

from mmer_jax import configuration
from mmer_jax.data import corpus, loader
from mmer_jax.training import cross_validation, sharding


@pytest.fixture
def make(prepared, tiny_config, monkeypatch):
    """A function: (change of an utterance, of the config) -> what the command makes of them."""
    read = corpus._utterance

    def build(change, variant=lambda c: None):
        monkeypatch.setattr(corpus, "_utterance", lambda *args: change(read(*args)))
        config = tiny_config(prepared)
        variant(config)
        return cross_validation.make_trainer(config)

    return build


def first_batch(trainer):
    utterances = trainer.corpus.utterances
    return loader.Batches(trainer.collator, utterances, 8, seed=0)[0]


def losses_of_a_step(trainer):
    batch = sharding.place(first_batch(trainer), trainer.mesh)
    return trainer.train_step(trainer.initial_state(10), batch)[1]


def without_recordings(u):
    return dataclasses.replace(u, augmented=())


def automatic_buckets(config):
    config.data.buckets = 0
    config.data.max_padding = 0.001


def test_a_corpus_without_views_computes_one_and_says_so(make, capsys):
    trainer = make(lambda u: u.without_view(), automatic_buckets)
    assert not any(name.startswith("aug_") for name in first_batch(trainer))
    lines = capsys.readouterr().out.splitlines()
    assert sum("losses.acl" in line for line in lines) == 1
    (out_of_reach,) = [line for line in lines if "out of reach" in line]
    assert "views" not in out_of_reach  # there are no two that could differ


def test_recordings_without_texts_leave_a_model_of_both_without_views(make, capsys):
    trainer = make(lambda u: dataclasses.replace(u, aug_transcript=""))
    assert not trainer.collator.augmented
    out = capsys.readouterr().out
    assert "0 utterances have a text, 80 a recording, 0 both" in out and "losses.acl" in out


def test_a_model_of_text_learns_from_texts_without_recordings(make, capsys):
    trainer = make(without_recordings, configuration.text_only)
    out = capsys.readouterr().out
    assert "80 utterances have a text, 0 a recording, 0 both" in out and "losses.acl" not in out
    batch = first_batch(trainer)
    assert batch["aug_valid"].all() and "aug_audio" not in batch
    assert float(losses_of_a_step(trainer)["acl"]) > 0.1


def test_without_weight_no_view_is_computed(make, capsys):
    def without_acl(config):
        config.losses.acl.weight = 0.0

    trainer = make(lambda u: u, without_acl)
    assert "aug_audio" not in first_batch(trainer)
    assert "losses.acl" not in capsys.readouterr().out


@pytest.mark.parametrize("known", [True, False])
def test_recordings_that_do_not_say_whose_voice_they_have_are_warned_of(make, capsys, known):
    def change(u):
        if known or u.session != "1":
            return u
        first, *others = u.augmented
        return dataclasses.replace(u, augmented=(dataclasses.replace(first, voice=""), *others))

    trainer = make(change)
    warnings = [x for x in capsys.readouterr().out.splitlines() if x.startswith("Warning")]
    total = sum(len(u.augmented) for u in trainer.corpus.utterances)
    assert len(warnings) == (not known)
    assert all(f" 16 of {total} " in x for x in warnings)
