"""No utterance, speaker, dialog or session on both sides of a fold."""

import dataclasses

import pytest

from mmer_jax.data import text
from mmer_jax.data.corpus import Corpus, Recording
from mmer_jax.data.folds import Fold, all_folds, split, training_texts
from mmer_jax.errors import UserError


@pytest.fixture(scope="module")
def utterances(prepared):
    return Corpus(str(prepared / "tfds")).utterances


@pytest.mark.parametrize("session", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("selection", ["heldout", "original"])
def test_sides_are_disjoint_and_whole(utterances, session, selection):
    p = split(utterances, Fold(session), selection, 0.2, seed=0)
    for name in ("id", "speaker", "dialog", "session"):
        training = {getattr(u, name) for u in p.train}
        testing = {getattr(u, name) for u in p.test}
        assert not training & testing, name
    assert {u.session for u in p.test} == {session}
    apart = {*p.train, *p.test} | set(p.validation)
    assert len(apart) == len(utterances)


@pytest.mark.parametrize("session", [1, 5])
def test_heldout_dialogs_come_from_training_sessions_alone(utterances, session):
    p = split(utterances, Fold(session), "heldout", 0.2, seed=0)
    assert not {u.dialog for u in p.validation} & {u.dialog for u in (*p.train, *p.test)}
    assert session not in {u.session for u in p.validation}
    share = len(p.validation) / (len(p.validation) + len(p.train))
    assert 0.1 < share < 0.35
    assert {u.label for u in p.validation} == {u.label for u in utterances}


def test_heldout_follows_the_seed(utterances):
    drawn = [split(utterances, Fold(1), "heldout", 0.2, seed).validation for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_published_selects_on_the_test_session(utterances):
    p = split(utterances, Fold(2), "original", 0.2, seed=0)
    assert p.validation == p.test


def test_test_labels_never_change_what_is_held_out(utterances):
    flipped = [
        dataclasses.replace(u, label=(u.label + 1) % 4) if u.session == 3 else u for u in utterances
    ]
    ids = [
        [u.id for u in split(us, Fold(3), "heldout", 0.2, seed=0).validation]
        for us in (utterances, flipped)
    ]
    assert ids[0] == ids[1]


def test_one_speaker_left_out(utterances):
    folds = all_folds("speaker")
    assert [f.name for f in folds][:2] == ["speaker 1 (Ses01F)", "speaker 2 (Ses01M)"]
    tested = []
    for fold in folds:
        p = split(utterances, fold, "heldout", 0.2, seed=0)
        assert {u.speaker for u in p.test} == {fold.name[-7:-1]}
        assert fold.name[-7:-1] not in {u.speaker for u in (*p.train, *p.validation)}
        assert not {u.dialog for u in p.validation} & {u.dialog for u in p.train}
        assert len(p.train) + len(p.validation) + len(p.test) == len(utterances)
        tested += p.test
    assert len(tested) == len(set(tested)) == len(utterances)


@pytest.mark.parametrize(
    "rename, named",
    [
        (lambda u: "Ses02X" if u.speaker == "Ses02M" and u.label else u.speaker, "Ses02X"),
        (lambda u: "Ses02A" if u.speaker == "Ses02M" else u.speaker, "Ses02A"),
        (lambda u: "Ses01MM" if u.index % 2 and u.speaker == "Ses01M" else u.speaker, "Ses01MM"),
    ],
)
def test_a_speaker_that_no_fold_tests_is_refused(utterances, rename, named):
    renamed = [dataclasses.replace(u, speaker=rename(u)) for u in utterances]
    with pytest.raises(UserError, match=named):
        split(renamed, Fold(9, "speaker"), "heldout", 0.2, 0)
    assert split(renamed, Fold(5), "heldout", 0.2, 0).test


def test_a_speaker_of_two_sessions_is_left_out_whole(utterances):
    moved = [
        dataclasses.replace(u, speaker="Ses01F") if u.speaker == "Ses02F" else u for u in utterances
    ]
    p = split(moved, Fold(1, "speaker"), "heldout", 0.2, 0)
    assert {u.session for u in p.test} == {1, 2}
    assert "Ses01F" not in {u.speaker for u in (*p.train, *p.validation)}


def test_transcripts_of_the_test_side_can_be_taken_out_of_training(utterances):
    said = {u.transcript for u in utterances if u.session == 2}
    plain, without = (
        split(utterances, Fold(2), "heldout", 0.2, 0, exclude) for exclude in (False, True)
    )
    assert said & {u.transcript for u in (*plain.train, *plain.validation)}
    assert not said & {u.transcript for u in (*without.train, *without.validation)}
    assert without.test == plain.test


def test_an_augmented_text_that_the_test_side_says_is_not_trained_on(utterances):
    """Excluding only who says it in the transcript leaves it in the paraphrase."""
    test = next(u for u in utterances if u.session == 2)
    said = text.spoken(u.transcript for u in utterances if u.session == 2)
    odd = next(
        u for u in utterances if u.session == 1 and text.normalized(u.transcript) not in said
    )
    planted = dataclasses.replace(odd, aug_transcript=f"  {test.transcript.upper()} ")
    changed = [planted if u.id == odd.id else u for u in utterances]
    plain, without = (
        split(changed, Fold(2), "heldout", 0.2, 0, exclude) for exclude in (False, True)
    )
    assert text.normalized(test.transcript) in training_texts(plain.train + plain.validation, True)
    assert not said & training_texts(without.train + without.validation, True)
    kept = {u.id: u for u in without.train + without.validation}
    assert kept[odd.id].transcript == odd.transcript  # its own words may be trained on
    assert not kept[odd.id].has_view(("audio",)) and not kept[odd.id].has_view(("text",))


def test_training_texts_have_the_augmented_ones_where_they_are_drawn(utterances):
    some = utterances[:4]
    own, both = training_texts(some, False), training_texts(some, True)
    assert own == text.spoken(u.transcript for u in some)
    assert both == own | text.spoken(u.aug_transcript for u in some) != own


@pytest.mark.parametrize("protocol", ["session", "speaker"])
def test_no_augmented_recording_in_a_tested_speakers_voice_is_drawn(utterances, protocol):
    speakers = sorted({u.speaker for u in utterances})
    planted = [
        dataclasses.replace(
            u, augmented=(Recording(0, 9, speakers[i % 10]), Recording(9, 8, "robot"))
        )
        for i, u in enumerate(utterances)
    ]
    for fold in all_folds(protocol):
        p = split(planted, fold, "heldout", 0.2, seed=0)
        tested = {u.speaker for u in p.test}
        drawn = [r for u in (*p.train, *p.validation) for r in u.augmented]
        assert {r.voice for r in drawn} == {*speakers, "robot"} - tested
        assert all(r.start == 9 * (r.voice == "robot") for r in drawn)


def test_an_empty_session_is_named(utterances):
    with pytest.raises(UserError, match="session 4"):
        split([u for u in utterances if u.session != 4], Fold(4), "heldout", 0.2, 0)
