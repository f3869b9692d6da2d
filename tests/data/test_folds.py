"""Protocols: no utterance, speaker, dialog or session on both sides of a fold."""

import dataclasses
import types

import pytest

from mmer_jax import configuration
from mmer_jax.data import folds, text
from mmer_jax.data.corpus import Corpus, Recording, Utterance
from mmer_jax.data.folds import train_test, training_texts
from mmer_jax.errors import UserError


@pytest.fixture(scope="module")
def utterances(prepared):
    return Corpus(str(prepared / "tfds")).utterances


def config_of(**options):
    config = configuration.default()
    config.heldout_fraction = 0.2
    config.update(options)
    return config


def corpus_of(utterances):
    names = [f"class{k}" for k in range(1 + max(u.label for u in utterances))]
    return types.SimpleNamespace(utterances=tuple(utterances), label_names=names)


def make(utterances, protocol="session", **options):
    return folds.make(utterances, config_of(protocol=protocol, **options))


def split(utterances, number, protocol="session", **options):
    config = config_of(protocol=protocol, **options)
    fold = next(f for f in folds.make(utterances, config) if f.number == number)
    return folds.split(corpus_of(utterances), fold, config)


def made(speakers=91, each=6, classes=3, **groups):
    """Utterances of speakers called by numbers, as a table of one's own may have them."""
    rows = [(s, k) for s in range(1001, 1001 + speakers) for k in range(each + s % 3)]
    return tuple(
        Utterance(index=i, id=f"u{i}", label=k % classes, samples=16_000, speaker=str(s),
                  **{name: value(s, k) for name, value in groups.items()})
        for i, (s, k) in enumerate(rows)
    )  # fmt: skip


@pytest.mark.parametrize("session", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("selection", ["heldout", "original"])
def test_sides_are_disjoint_and_whole(utterances, session, selection):
    p = split(utterances, session, selection=selection)
    for name in ("id", "speaker", "dialog", "session"):
        training = {getattr(u, name) for u in p.train}
        testing = {getattr(u, name) for u in p.test}
        assert not training & testing, name
    assert {u.session for u in p.test} == {str(session)}
    apart = {*p.train, *p.test} | set(p.validation)
    assert len(apart) == len(utterances)


@pytest.mark.parametrize("session", [1, 5])
def test_heldout_dialogs_come_from_training_sessions_alone(utterances, session):
    p = split(utterances, session)
    assert p.heldout == "dialog"
    assert not {u.dialog for u in p.validation} & {u.dialog for u in (*p.train, *p.test)}
    assert str(session) not in {u.session for u in p.validation}
    share = len(p.validation) / (len(p.validation) + len(p.train))
    assert 0.1 < share < 0.35
    assert {u.label for u in p.validation} == {u.label for u in utterances}


def test_heldout_follows_the_seed(utterances):
    drawn = [split(utterances, 1, seed=seed).validation for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_published_selects_on_the_test_session(utterances):
    p = split(utterances, 2, selection="original")
    assert p.validation == p.test and p.heldout == ""


def test_test_labels_never_change_what_is_held_out(utterances):
    flipped = [
        dataclasses.replace(u, label=(u.label + 1) % 4) if u.session == "3" else u
        for u in utterances
    ]
    ids = [[u.id for u in split(us, 3).validation] for us in (utterances, flipped)]
    assert ids[0] == ids[1]


def test_one_speaker_left_out(utterances):
    found = make(utterances, "speaker")
    assert [f.name for f in found][:2] == ["speaker 1 (Ses01F)", "speaker 2 (Ses01M)"]
    tested = []
    for fold in found:
        p = split(utterances, fold.number, "speaker")
        assert {u.speaker for u in p.test} == set(fold.groups) == {fold.name[-7:-1]}
        assert not set(fold.groups) & {u.speaker for u in (*p.train, *p.validation)}
        assert not {u.dialog for u in p.validation} & {u.dialog for u in p.train}
        assert len(p.train) + len(p.validation) + len(p.test) == len(utterances)
        tested += p.test
    assert len(tested) == len(set(tested)) == len(utterances)


def test_the_folds_of_a_part_of_iemocap_keep_their_numbers(utterances):
    part = [u for u in utterances if u.session in "24"]
    assert [f.name for f in make(part)] == ["session 2", "session 4"]
    assert [f.number for f in make(part, "speaker")] == [3, 4, 7, 8]
    assert [f.name for f in make(part, "speaker")][-1] == "speaker 8 (Ses04M)"
    assert [f.name for f in make(utterances, "auto")] == [f"session {k}" for k in range(1, 6)]


def test_a_speaker_of_two_sessions_is_left_out_whole_or_refused(utterances):
    moved = [
        dataclasses.replace(u, speaker="Ses01F") if u.speaker == "Ses02F" else u for u in utterances
    ]
    p = split(moved, 1, "speaker")
    assert {u.session for u in p.test} == {"1", "2"}
    assert "Ses01F" not in {u.speaker for u in (*p.train, *p.validation)}
    with pytest.raises(UserError, match="Ses01F"):
        make(moved)


COLUMNS = {
    "session": {"session": lambda s, k: str(s % 7)},
    "speaker": {},
    "speakers": {},
    "auto": {},
    "fold": {"fold": lambda s, k: str(1 + s % 6)},
    "split": {"part": lambda s, k: ("train", "validation", "test")[s % 3]},
}


@pytest.mark.parametrize("protocol", COLUMNS)
@pytest.mark.parametrize("heldout", ["auto", "speaker", "utterance"])
def test_no_speaker_of_91_is_on_both_sides(protocol, heldout):
    every = made(**COLUMNS[protocol])
    config, tested = config_of(protocol=protocol, heldout=heldout), []
    for fold in folds.make(every, config):
        p = folds.split(corpus_of(every), fold, config)
        sides = [{u.speaker for u in us} for us in (p.train, p.validation, p.test)]
        assert not sides[2] & (sides[0] | sides[1]) and p.shared_speakers == []
        if heldout != "utterance":
            assert not sides[0] & sides[1]
        assert len(p.train) + len(p.validation) + len(p.test) == len(every)
        assert all(len(us) for us in (p.train, p.validation, p.test))
        tested += [u.index for u in p.test]
    assert protocol == "split" or sorted(tested) == [u.index for u in every]


def test_groups_of_speakers_are_balanced_and_named():
    every = made(speakers=11)
    found = make(every, "auto")  # more than ten speakers: not each by itself
    sizes = [sum(map(f.tests, every)) for f in found]
    assert [f.number for f in found] == [1, 2, 3, 4, 5] and max(sizes) < 2 * min(sizes)
    assert found == make(every[::-1], "speakers")
    assert all(f.name == f"speakers {f.number} ({', '.join(f.groups)})" for f in found)
    assert len(make(every, "speakers", fold_count=3)) == 3
    assert len(make(every, "speakers", fold_count=50)) == 11


@pytest.mark.parametrize(
    "names, numbers",
    [
        (["03", "10", "2"], {"2": 2, "03": 3, "10": 10}),
        (["3", "03", "2"], {"2": 1, "03": 2, "3": 3}),
        (["0", "1"], {"0": 1, "1": 2}),
        (["b", "a10", "a9"], {"a9": 1, "a10": 2, "b": 3}),
    ],
)
def test_numbers_are_the_groups_own_where_they_have_some(names, numbers):
    every = [Utterance(i, f"u{i}", 0, 9, fold=name) for i, name in enumerate(names)]
    found = make(every, "fold")
    assert {f.groups[0]: f.number for f in found} == numbers
    assert len({f.name for f in found}) == len(names)


def test_auto_takes_what_the_corpus_has():
    def protocol(**groups):
        return make(made(**groups), "auto")[0].protocol

    fold, part, session = (COLUMNS[name] for name in ("fold", "split", "session"))
    assert protocol(**fold, **part, **session) == "fold"
    assert protocol(**part, **session) == "split"
    assert protocol(**session) == "session"
    assert protocol() == "speakers"
    assert protocol(speakers=4) == "speaker"
    assert protocol(fold=lambda s, k: str(k % 2) if k else "") == "speakers"


def test_the_official_validation_part_chooses():
    every = made(**COLUMNS["split"])
    p = split(every, 1, "split")
    assert p.heldout == "validation" and {u.part for u in p.validation} == {"validation"}
    assert {u.part for u in p.train} == {"train"} and {u.part for u in p.test} == {"test"}
    other = split(every, 1, "split", heldout="speaker")
    assert {u.part for u in other.train} == {"train", "validation"}


def test_what_is_held_out_is_whole_and_can_be_named():
    every = made(**COLUMNS["session"], **COLUMNS["fold"])
    for unit in ("speaker", "session", "fold"):
        p = split(every, 3, "fold", heldout=unit)
        assert p.heldout == unit
        held, trained = ({getattr(u, unit) for u in us} for us in (p.validation, p.train))
        assert held and not held & trained
    assert split(made(speakers=3), 1001, "speaker").heldout == "utterance"
    assert split(made(speakers=4), 1001, "speaker").heldout == "speaker"
    with pytest.raises(UserError, match="heldout=dialog"):
        split(every, 3, "fold", heldout="dialog")


def test_a_class_that_training_lacks_is_refused_however_small_the_corpus():
    every = made(speakers=4, each=2, classes=2)
    last = max(int(u.speaker) for u in every)
    angry = [dataclasses.replace(u, label=2) if int(u.speaker) == last else u for u in every]
    with pytest.raises(UserError, match=f"speaker {last} .* trains on none of class2"):
        split(angry, last, "speaker")
    assert split(angry, 1001, "speaker", heldout="utterance").train  # of 4 utterances a class
    different = [dataclasses.replace(u, label=u.index) for u in every]
    with pytest.raises(UserError, match="no two of one class"):
        split(different, last, "speaker")


def test_speakers_of_both_sides_are_known_where_the_corpus_divides_them():
    p = split(made(fold=lambda s, k: str(1 + k % 2)), 1, "fold")
    assert p.shared_speakers == [str(s) for s in range(1001, 1092)]
    nameless = [dataclasses.replace(u, speaker="") for u in made(**COLUMNS["fold"])]
    assert split(nameless, 1, "fold").shared_speakers is None


def union(**groups):
    """Three corpora: of 24, 10 and 4 speakers, with the classes of `made`."""
    every = []
    for name, speakers in (("a", 24), ("b", 10), ("c", 4)):
        for u in made(speakers, **groups):
            speaker = f"{name}:{u.speaker}"
            named = {"id": f"{name}:{u.id}", "speaker": speaker, "corpus": name}
            every.append(dataclasses.replace(u, index=len(every), **named))
    return every


@pytest.mark.parametrize("protocol", [*COLUMNS, "corpus"])
def test_no_speaker_of_three_corpora_is_on_both_sides(protocol):
    every = union(**COLUMNS.get(protocol, {}))
    if protocol == "session":
        every = [dataclasses.replace(u, session=f"{u.corpus}:{u.session}") for u in every]
    config, tested = config_of(protocol=protocol), []
    for fold in folds.make(every, config):
        p = folds.split(corpus_of(every), fold, config)
        sides = [{u.speaker for u in us} for us in (p.train, p.validation, p.test)]
        assert not sides[2] & (sides[0] | sides[1]) and not sides[0] & sides[1]
        tested += [u.index for u in p.test]
        # What is held out is of all that train but c, four speakers.
        training = {u.corpus for u in p.train}
        assert {u.corpus for u in p.validation} >= training - {"c"}
    assert protocol == "split" or sorted(tested) == [u.index for u in every]


def test_each_corpus_can_be_left_out_or_held_out():
    every = union()
    assert [f.name for f in make(every, "corpus")] == [
        "corpus 1 (a)", "corpus 2 (b)", "corpus 3 (c)"
    ]  # fmt: skip
    p = split(every, 2, "corpus", heldout="corpus")
    corpora = [{u.corpus for u in us} for us in (p.train, p.validation, p.test)]
    assert p.heldout == "corpus" and corpora[2] == {"b"}
    assert sorted(map(sorted, corpora[:2])) == [["a"], ["c"]]


def test_groups_of_speakers_have_a_part_of_each_corpus():
    every, found = union(), make(union(), "speakers")
    for name, least in (("a", 4), ("b", 2), ("c", 0)):
        counts = [sum(s.startswith(name) for s in f.groups) for f in found]
        assert min(counts) == least and max(counts) <= least + 1
    sizes = [sum(map(f.tests, every)) for f in found]
    assert max(sizes) < 1.3 * min(sizes)


def test_what_some_corpora_do_not_say_is_named():
    every = [dataclasses.replace(u, fold="1" if u.corpus == "b" else "") for u in union()]
    with pytest.raises(UserError, match=r"empty for \d+ of \d+ utterances \(a, c\)"):
        make(every, "fold")
    assert make(every, "auto")[0].protocol == "speakers"


def test_a_validation_part_of_some_corpora_alone_does_not_choose():
    every = [
        dataclasses.replace(u, part="train" if u.corpus == "a" and u.part != "test" else u.part)
        for u in union(**COLUMNS["split"])
    ]
    assert split(every, 1, "split").heldout == "speaker"


@pytest.mark.parametrize(
    "protocol, groups, message",
    [
        ("session", {}, "session.*empty for 638 of 638"),
        ("fold", {"fold": lambda s, k: "1" if s > 1001 else ""}, "fold.*empty for 8 of 638"),
        ("fold", {"fold": lambda s, k: "1"}, "at least two folds"),
        ("split", {"part": lambda s, k: "train"}, "expected train and test"),
        ("speakers", {"speakers": 1}, "at least two speakers"),
    ],
)
def test_a_protocol_that_the_corpus_can_not_follow_is_refused(protocol, groups, message):
    with pytest.raises(UserError, match=message):
        make(made(**groups), protocol)


def test_a_class_that_is_not_trained_on_is_named():
    every = made(speakers=12, **COLUMNS["fold"])
    rare = [dataclasses.replace(u, label=3) if u.fold == "2" else u for u in every]
    with pytest.raises(UserError, match="fold 2.*class3"):
        split(rare, 2, "fold")
    assert split(rare, 1, "fold").test


def test_a_fold_that_is_not_there_is_named():
    with pytest.raises(UserError, match="the folds 1, 2, 3, 4, 5"):
        folds.selected(made(), config_of(protocol="speakers", folds=(2, 6)))
    (one,) = folds.selected(made(), config_of(protocol="speakers", folds=(2,)))
    assert one.number == 2


def test_transcripts_of_the_test_side_can_be_taken_out_of_training(utterances):
    said = {u.transcript for u in utterances if u.session == "2"}
    plain, without = (
        split(utterances, 2, exclude_seen_transcripts=exclude) for exclude in (False, True)
    )
    assert said & {u.transcript for u in (*plain.train, *plain.validation)}
    assert not said & {u.transcript for u in (*without.train, *without.validation)}
    assert without.test == plain.test


def test_an_augmented_text_that_the_test_side_says_is_not_trained_on(utterances):
    """Excluding only who says it in the transcript leaves it in the paraphrase."""
    test = next(u for u in utterances if u.session == "2")
    said = text.spoken(u.transcript for u in utterances if u.session == "2")
    odd = next(
        u for u in utterances if u.session == "1" and text.normalized(u.transcript) not in said
    )
    planted = dataclasses.replace(odd, aug_transcript=f"  {test.transcript.upper()} ")
    changed = [planted if u.id == odd.id else u for u in utterances]
    plain, without = (
        split(changed, 2, exclude_seen_transcripts=exclude) for exclude in (False, True)
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


def test_an_utterance_keeps_views_in_its_own_voice_where_folds_share_speakers(utterances):
    views = Recording(0, 9, "ann"), Recording(9, 8, "robot")
    planted = [
        dataclasses.replace(u, speaker=("ann", "bob")[i // 2 % 2], augmented=views)
        for i, u in enumerate(utterances[:8])
    ]
    tested = {u.id for u in planted[::2]}
    train, test = train_test(planted, types.SimpleNamespace(tests=lambda u: u.id in tested))
    assert {u.speaker for u in train} == {u.speaker for u in test} == {"ann", "bob"}
    for u in train:
        assert [r.voice for r in u.augmented] == ["ann", "robot"][u.speaker == "bob" :]


@pytest.mark.parametrize("protocol", ["session", "speaker"])
def test_no_augmented_recording_in_a_tested_speakers_voice_is_drawn(utterances, protocol):
    speakers = sorted({u.speaker for u in utterances})
    planted = [
        dataclasses.replace(
            u, augmented=(Recording(0, 9, speakers[i % 10]), Recording(9, 8, "robot"))
        )
        for i, u in enumerate(utterances)
    ]
    for fold in make(utterances, protocol):
        p = split(planted, fold.number, protocol)
        tested = {u.speaker for u in p.test}
        drawn = [r for u in (*p.train, *p.validation) for r in u.augmented]
        assert {r.voice for r in drawn} == {*speakers, "robot"} - tested
        assert all(r.start == 9 * (r.voice == "robot") for r in drawn)
