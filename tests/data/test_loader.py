"""Batches: contents, determinism, the augmented view, background loading."""

import dataclasses
import threading
import time

import grain.python as grain
import numpy as np
import orbax.checkpoint as ocp
import pytest

from mmer_jax import configuration
from mmer_jax.data import bucketing, folds, loader, text
from mmer_jax.data.alphabet import ENGLISH
from mmer_jax.data.corpus import Corpus, Recording
from mmer_jax.data.preprocessing import Preprocessor


@pytest.fixture(scope="module")
def corpus(prepared):
    return Corpus(str(prepared / "tfds"))


@pytest.fixture(scope="module")
def tokenizer(prepared):
    return text.Tokenizer(str(prepared / "corpus" / "tokenizer"), 64)


@pytest.fixture(scope="module")
def make(corpus, tokenizer):
    """Options of the config -> a `Collator`."""

    def make(options=(), corpus=corpus, two_views=True, max_samples=210_000):
        config = configuration.default()
        config.update_from_flattened_dict(dict(options))
        preprocessor = Preprocessor(tokenizer, max_samples, False)
        return loader.Collator(config, corpus, preprocessor, two_views)

    return make


@pytest.fixture(scope="module")
def collator(make):
    return make({"data.buckets": 2})


def train_batches(collator, seed=0):
    return loader.Batches(collator, collator.corpus.utterances, 8, epochs=3, seed=seed)


def test_shapes_are_one_set_per_bucket(collator):
    batches = train_batches(collator)
    shapes = {
        tuple((k, v.shape, str(v.dtype)) for k, v in sorted(batches[i].items()))
        for i in range(len(batches))
    }
    assert len(shapes) == len(collator.buckets) == 2


def test_rows_hold_their_utterance(collator, corpus, tokenizer):
    batch = train_batches(collator)[0]
    for row, (index, valid) in enumerate(zip(batch["index"], batch["valid"])):
        u = corpus.utterances[index]
        n = batch["audio_length"][row]
        samples, _ = corpus.recordings(u)
        np.testing.assert_array_equal(batch["audio"][row, :n], samples / np.float32(32768))
        assert not batch["audio"][row, n:].any()
        assert batch["label"][row] == u.label
        spelled = ENGLISH.decode(batch["transcript"][row, : batch["transcript_length"][row]])
        assert spelled == ENGLISH.decode(ENGLISH.encode(u.transcript))
        assert batch["ctc_valid"][row] == valid
        assert batch["text_mask"][row].sum() == len(tokenizer.ids(u.transcript))


def test_the_augmented_view_is_one_of_the_utterances_own(collator, corpus):
    batch = train_batches(collator)[0]
    assert batch["aug_valid"].all()
    for row, index in enumerate(batch["index"]):
        _, augmented = corpus.recordings(corpus.utterances[index])
        n = batch["aug_audio_length"][row]
        recognized = np.round(batch["aug_audio"][row, :n] * 32768).astype(np.int16)
        assert any(np.array_equal(recognized, a) for a in augmented)


def test_several_augmented_recordings_are_all_drawn(collator, corpus):
    several = next(u for u in corpus.utterances if len(u.augmented) > 1)
    bucket = collator.buckets[-1]
    lengths = {
        int(collator.batch([several], bucket, (0, epoch))["aug_audio_length"][0])
        for epoch in range(20)
    }
    assert lengths == {r.samples for r in several.augmented}


@pytest.mark.parametrize("protocol, number", [("session", 1), ("session", 5), ("speaker", 4)])
def test_no_batch_holds_a_tested_speakers_voice(make, corpus, protocol, number):
    """Of each utterance's recordings the first is planted in a speaker's voice, all ten in turn."""
    speakers = sorted({u.speaker for u in corpus.utterances})
    planted = with_utterances(
        corpus,
        (
            dataclasses.replace(
                u,
                augmented=(
                    dataclasses.replace(u.augmented[0], voice=speakers[u.index % 10]),
                    *u.augmented[1:],
                ),
            )
            for u in corpus.utterances
        ),
    )
    f = make({"data.buckets": 2}, planted)
    config = configuration.default()
    config.protocol, config.heldout_fraction = protocol, 0.2
    fold = folds.make(planted.utterances, config)[number - 1]
    p = folds.split(planted, fold, config)
    tested = {u.speaker for u in p.test}
    batches, drawn = loader.Batches(f, p.train + p.validation, 8, epochs=3, seed=0), set()
    for step in range(len(batches)):
        b = batches[step]
        for row in np.flatnonzero(b["aug_valid"]):
            u = planted.utterances[b["index"][row]]
            wave = np.round(b["aug_audio"][row] * 32768)[: b["aug_audio_length"][row]]
            own = planted.recordings(u)[1]
            (which,) = [k for k, a in enumerate(own) if np.array_equal(a, wave)]
            drawn.add(u.augmented[which].voice)
    assert drawn & set(speakers) == set(speakers) - tested
    assert any(v.startswith("espeak-") for v in drawn)


def test_balanced_classes_weigh_the_same(make, corpus):
    some = [u for u in corpus.utterances if u.label or u.index % 4 == 0]
    f = make({"data.buckets": 1, "losses.ce.class_weights": "balanced"})
    batches = loader.Batches(f, some, 8, epochs=1, seed=0)
    weights = {label: [] for label in range(4)}
    for b in (batches[i] for i in range(len(batches))):
        for label, weight, valid in zip(b["label"], b["class_weight"], b["valid"]):
            weights[int(label)] += [float(weight)] * bool(valid)
    assert len(weights[0]) < len(weights[1])
    assert [sum(w) for w in weights.values()] == pytest.approx([len(some) / 4] * 4)
    assert "class_weight" not in loader.Batches(f, some, 8)[0]
    assert "class_weight" not in train_batches(make({"data.buckets": 1}))[0]


def with_utterances(corpus, utterances):
    """The corpus, its recordings the same, with other facts about them."""
    other = Corpus.__new__(Corpus)
    other.__dict__ = {**corpus.__dict__, "utterances": tuple(utterances)}
    return other


def without_views(corpus, texts, recordings):
    """The corpus without its augmented texts, its augmented recordings, or both."""
    lost = {} if texts else {"aug_transcript": ""}
    lost |= {} if recordings else {"augmented": ()}
    return with_utterances(corpus, (dataclasses.replace(u, **lost) for u in corpus.utterances))


@pytest.mark.parametrize(
    "texts, recordings, served",
    [
        (True, True, {("audio",), ("text",), ("audio", "text")}),
        (True, False, {("text",)}),
        (False, True, {("audio",)}),
        (False, False, set()),
    ],
)
def test_a_view_is_what_the_model_takes(make, corpus, tokenizer, texts, recordings, served):
    """A paraphrase alone serves a model of text, a recording alone one of speech."""
    other = without_views(corpus, texts, recordings)
    for modalities in (("audio",), ("text",), ("audio", "text")):
        has_view = modalities in served
        f = make({"data.buckets": 1, "model.modalities": modalities}, other)
        b = f.batch(other.utterances[:8], f.buckets[0], (0, 0))
        assert f.augmented == has_view == ("aug_valid" in b)
        assert not has_view or b["aug_valid"].all()
        assert ("aug_audio" in b) == (has_view and "audio" in modalities)
        assert ("aug_text_ids" in b) == (has_view and "text" in modalities)
        if has_view and "text" in modalities:
            ids = b["aug_text_ids"][0][b["aug_text_mask"][0] > 0]
            np.testing.assert_array_equal(ids, tokenizer.ids(other.utterances[0].aug_transcript))


@pytest.mark.parametrize("every", [1, 2, 100])
def test_a_view_that_does_not_exist_is_no_padding(make, corpus, every):
    """Recordings of one length: nothing is padded, whether all, half or one of them have a view."""
    same = (
        dataclasses.replace(u, samples=16_000, augmented=(Recording(0, 16_000),))
        if u.index % every == 0
        else dataclasses.replace(u, samples=16_000).without_view()
        for u in corpus.utterances
    )
    f = make(corpus=with_utterances(corpus, same))
    assert f.choice.reached and f.choice.padding == f.choice.floor == 0


def test_batches_depend_on_seed_and_step_alone(collator):
    one, same, other = (
        train_batches(collator),
        train_batches(collator),
        train_batches(collator, 1),
    )
    for step in (0, 12, 5):  # in any order, and over the epochs' borders
        for name, value in one[step].items():
            np.testing.assert_array_equal(value, same[step][name], err_msg=name)
    assert any(not np.array_equal(one[i]["index"], other[i]["index"]) for i in range(5))
    epoch = one.steps_per_epoch
    assert any(not np.array_equal(one[i]["index"], one[i + epoch]["index"]) for i in range(5))


def placed(batch):
    """Stands for moving a batch to a device."""
    return {name: value.copy() for name, value in batch.items()}


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def test_the_device_iterator_hands_out_every_batch_in_order(collator):
    batches = train_batches(collator)
    with loader.DeviceIterator(batches, placed, 2, 4) as iterator:
        for step, batch in enumerate(iterator):
            np.testing.assert_array_equal(batch["index"], batches[step]["index"])
        assert step == len(batches) - 1
        assert iterator.waited > 0


@pytest.mark.parametrize("handed_out", [0, 4, 11])
def test_the_device_iterators_state_leaves_out_what_waits_ahead(collator, handed_out):
    batches = train_batches(collator)
    with loader.DeviceIterator(batches, placed, 2, 4, ahead=3) as first:
        for _ in range(handed_out):
            next(first)
        _wait_for(lambda: first._parents[0]._buffer.full() or handed_out == 0)
        state = first.get_state()
    with loader.DeviceIterator(batches, placed, 2, 4) as second:
        second.set_state(state)
        assert_same(next(second), batches[handed_out])


def _wait_for(condition):
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail("it never came to be")


def test_the_device_iterator_through_a_checkpoint(collator, tmp_path):
    batches = train_batches(collator)
    with ocp.CheckpointManager(tmp_path) as manager:
        with loader.DeviceIterator(batches, placed, 2, 4) as first:
            for _ in range(7):
                next(first)
            items = ocp.args.Composite(data=grain.PyGrainCheckpointSave(first))
            manager.save(7, args=items)
            next(first)  # what comes after the save is not in it
            manager.wait_until_finished()
        with loader.DeviceIterator(batches, placed, 2, 4) as second:
            items = ocp.args.Composite(data=grain.PyGrainCheckpointRestore(second))
            manager.restore(7, args=items)
            assert_same(next(second), batches[7])


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_closing_leaves_no_thread(collator, taken):
    before = set(threading.enumerate())
    iterator = loader.DeviceIterator(train_batches(collator), placed, 3, 4)
    for _ in range(taken):
        next(iterator)
    assert iterator.get_state()["next_index"] == taken
    iterator.close()
    iterator.close()
    with pytest.raises(ValueError, match="closed"):
        next(iterator)
    _wait_for(lambda: set(threading.enumerate()) <= before)


def test_an_error_in_loading_comes_out_of_the_iterator(collator):
    def place(batch):
        raise RuntimeError("no device")

    with loader.DeviceIterator(train_batches(collator), place, 2, 4) as iterator:
        with pytest.raises(RuntimeError, match="no device"):
            next(iterator)


@pytest.mark.parametrize("shares", [[slice(0, 4), slice(4, 8)], [[0, 2, 4], [1, 3, 5, 6], [7]]])
def test_the_processes_parts_make_the_whole_batch(collator, corpus, shares):
    """Also where a process has fill rows alone: 13 utterances in batches of 8."""
    some = corpus.utterances[:13]
    makers = (
        lambda rows: loader.Batches(collator, some, 8, rows, epochs=2, seed=0),
        lambda rows: loader.Batches(collator, some[:10], 8, rows),
    )
    for make in makers:
        whole, parts = make(None), [make(rows) for rows in shares]
        for i in range(len(whole)):
            batch, split = whole[i], [p[i] for p in parts]
            for name, value in batch.items():
                for rows, part in zip(shares, split):
                    np.testing.assert_array_equal(part[name], value[rows], err_msg=name)


def test_row_indices_and_num_valid_tell_of_the_whole_batch(collator, corpus):
    some = corpus.utterances[:13]
    batches = loader.Batches(collator, some, 8, rows=slice(0, 2))
    whole = loader.Batches(collator, some, 8)
    indices = np.concatenate([batches.row_indices(i) for i in range(len(batches))])
    assert sorted(indices[indices != bucketing.FILL]) == list(range(13))
    assert "aug_audio" not in whole[0]
    for i in range(len(batches)):
        at = batches.row_indices(i)
        np.testing.assert_array_equal(at != -1, whole[i]["valid"])
        np.testing.assert_array_equal(at[at != -1], whole[i]["index"][whole[i]["valid"]])
    train = loader.Batches(collator, some, 8, slice(0, 2), epochs=2, seed=0)
    whole = loader.Batches(collator, some, 8, epochs=2, seed=0)
    for i in range(len(train)):
        assert train.num_valid(i) == whole[i]["valid"].sum()


@pytest.mark.parametrize("seed", range(4))
def test_every_utterance_once_in_every_epoch(collator, corpus, seed):
    rng = np.random.default_rng(seed)
    n, size = int(rng.integers(1, 80)), int(rng.integers(1, 20))
    some = [corpus.utterances[i] for i in rng.permutation(80)[:n]]
    batches = loader.Batches(collator, some, size, epochs=3, seed=seed)
    assert batches.steps_per_epoch == -(-n // size)
    plans = [batches.plan(epoch) for epoch in range(3)]
    for epoch, plan in enumerate(plans):
        rows = np.concatenate([rows for _, rows in plan])
        assert sorted(rows[rows != bucketing.FILL]) == list(range(n))
        assert sum(bucketing.FILL in rows for _, rows in plan) == (n % size > 0)
        for bucket, rows in plan:
            for i in rows[rows != bucketing.FILL]:
                drawn = collator.view_lengths([some[i]], (seed, epoch))
                assert drawn.max() <= collator.edges[bucket]


def padding_share(collator, utterances):
    return bucketing.padding_share(collator.view_lengths(utterances, (0, 0)), collator.edges, 8)


def test_the_padding_share_is_what_the_batches_hold(collator, corpus):
    batches = train_batches(collator)
    fed = real = 0
    for step in range(batches.steps_per_epoch):
        b = batches[step]
        fed += b["audio"].size + b["aug_audio"].size
        real += b["audio_length"][b["valid"]].sum() + b["aug_audio_length"][b["aug_valid"]].sum()
    share = padding_share(collator, corpus.utterances)
    assert share == pytest.approx(1 - real / fed)


def test_the_number_of_buckets_can_be_left_to_the_padding(make, corpus):
    """In the worst of the folds' training sets."""
    made = folds.make(corpus.utterances, configuration.default())
    sets = [folds.train_test(corpus.utterances, fold)[0] for fold in made]
    loose = make({"data.max_padding": 0.25})
    count = len(loose.edges)
    share = max(padding_share(loose, us) for us in sets)
    assert loose.choice.reached and loose.choice.padding == share <= 0.25
    fewer = make({"data.buckets": count - 1, "data.max_padding": 0.25})
    assert len(fewer.edges) == count - 1 and not fewer.choice.reached
    assert max(padding_share(fewer, us) for us in sets) > 0.25


def test_a_long_text_fits_where_evaluation_needs_a_smaller_bucket(make, corpus):
    """A short recording with a long text, whose augmented recording is in the largest bucket."""
    order = sorted(corpus.utterances, key=lambda u: u.samples)
    longest = max(n for u in order for n in (u.samples, *(r.samples for r in u.augmented)))
    odd = dataclasses.replace(order[0], transcript="A " * 30, augmented=(Recording(0, longest),))
    changed = tuple(odd if u.id == odd.id else u for u in corpus.utterances)
    other = with_utterances(corpus, changed)
    f = make({"data.buckets": 4}, other)
    batches = loader.Batches(f, changed, 8)
    lengths = [batches[i]["text_mask"].sum(1).max() for i in range(len(batches))]
    assert max(lengths) >= 30


def test_a_cut_utterance_loses_its_ctc(make, corpus):
    limit = int(np.median([u.samples for u in corpus.utterances]))
    f = make({"data.buckets": 1}, two_views=False, max_samples=limit)
    batches = loader.Batches(f, corpus.utterances, 8)
    for i in range(len(batches)):
        b = batches[i]
        uncut = np.array([corpus.utterances[k].samples <= limit for k in b["index"]])
        np.testing.assert_array_equal(b["ctc_valid"], b["valid"] & uncut)
        assert (b["audio_length"] <= limit).all()


def test_some_utterances_come_without_their_words(make, tokenizer):
    plain, half = (make({"data.buckets": 1, "train.text_dropout": rate}) for rate in (0.0, 0.5))
    nothing, lost = tokenizer.ids(""), 0
    for step in range(len(train_batches(plain))):
        before, after = train_batches(plain)[step], train_batches(half)[step]
        for row in range(8):
            ids = after["text_ids"][row][after["text_mask"][row] > 0]
            gone = np.array_equal(ids, nothing)
            lost += gone
            if not gone:
                np.testing.assert_array_equal(after["text_ids"][row], before["text_ids"][row])
        for name in before.keys() - {"text_ids", "text_mask"}:  # nothing else changes
            np.testing.assert_array_equal(after[name], before[name])
    share = lost / (8 * len(train_batches(plain)))
    assert 0.4 < share < 0.6


def test_some_utterances_come_with_their_asr_transcript(make, corpus, tokenizer):
    f = make({"data.buckets": 1, "train.text_dropout": 0.3, "train.ctc_texts": 0.4})
    batches = train_batches(f)
    recognized = {u.id: f"zz{i} " * (40 if i % 2 else 1) for i, u in enumerate(corpus.utterances)}

    def read():
        found, width = {}, f.buckets[0].tokens
        for step in range(batches.steps_per_epoch):
            b = batches[step]
            for row in np.flatnonzero(b["valid"]):
                u = corpus.utterances[b["index"][row]]
                ids = b["text_ids"][row][b["text_mask"][row] > 0]
                long = tokenizer.ids(recognized[u.id])
                # As much of a long text as the bucket holds, and the end of the sequence.
                fits = [*long[: width - 1], long[-1]] if len(long) > width else long
                ways = {"gold": tokenizer.ids(u.transcript), "none": tokenizer.ids(""), "ctc": fits}
                found[u.id] = [name for name, way in ways.items() if np.array_equal(ids, way)]
        return found

    before = read()
    assert {names[0] for names in before.values()} == {"gold", "none"}  # no transcripts yet
    batches.texts = recognized
    after = read()
    assert all(len(names) == 1 for names in after.values())
    assert [u for u in before if before[u] == ["none"]] == [
        u for u in after if after[u] == ["none"]
    ]
    share = sum(names == ["ctc"] for names in after.values()) / len(after)
    assert 0.25 < share < 0.55


def test_evaluation_reads_other_texts_where_they_are_given(collator, corpus, tokenizer):
    utterances = corpus.utterances[:9]
    long = "word " * 40
    texts = {utterances[0].id: "", utterances[1].id: long}
    batches = loader.Batches(collator, utterances, 8, texts=texts)
    seen = {}
    for i in range(len(batches)):
        batch = batches[i]
        for row, at in enumerate(batches.row_indices(i)):
            if at >= 0:
                seen[at] = batch["text_ids"][row][batch["text_mask"][row] > 0]
    np.testing.assert_array_equal(seen[0], tokenizer.ids(""))
    np.testing.assert_array_equal(seen[1], tokenizer.ids(long))
    assert len(seen[1]) > max(b.tokens for b in collator.buckets)
    np.testing.assert_array_equal(seen[2], tokenizer.ids(utterances[2].transcript))


def test_a_long_text_changes_the_shapes_that_hold_it_alone(collator, corpus):
    samples = collator.view_lengths(corpus.utterances).max(1)
    last = corpus.utterances[int(samples.argmax())]
    first = corpus.utterances[int(samples.argmin())]
    small, large = collator.buckets
    for long in ("word " * 40, "word " * 45):  # in coarse steps
        found = collator.buckets_for(corpus.utterances, {last.id: long})
        assert found == (small, dataclasses.replace(large, tokens=64))
    found = collator.buckets_for(corpus.utterances, {first.id: long})
    assert [b.tokens for b in found] == [64, 64]
    assert collator.buckets_for(corpus.utterances, {first.id: "word"}) == collator.buckets
