"""Batches: contents, determinism, the augmented view, background loading."""

import numpy as np
import pytest

from mmer_jax.data import pipeline, text
from mmer_jax.data.corpus import Corpus


@pytest.fixture(scope="module")
def corpus(prepared):
    return Corpus(str(prepared / "tfds"))


@pytest.fixture(scope="module")
def featurizer(prepared, corpus):
    tokenizer = text.Tokenizer(str(prepared / "corpus" / "tokenizer"), 32)
    return pipeline.Featurizer(corpus, tokenizer, 210_000, False, buckets=2, augmented=True)


def train_batches(featurizer, seed=0):
    return pipeline.TrainBatches(featurizer, featurizer.corpus.utterances, 8, 3, seed)


def test_shapes_are_one_set_per_bucket(featurizer):
    batches = train_batches(featurizer)
    shapes = {
        tuple((k, v.shape, str(v.dtype)) for k, v in sorted(batches[i].items()))
        for i in range(len(batches))
    }
    assert len(shapes) == len(featurizer.buckets) == 2


def test_rows_hold_their_utterance(featurizer, corpus):
    batch = train_batches(featurizer)[0]
    for row, (index, valid) in enumerate(zip(batch["index"], batch["valid"])):
        u = corpus.utterances[index]
        n = batch["audio_length"][row]
        samples, _ = corpus.recordings(u)
        np.testing.assert_array_equal(batch["audio"][row, :n], samples / np.float32(32768))
        assert not batch["audio"][row, n:].any()
        assert batch["label"][row] == u.label
        spelled = text.ctc_text(batch["transcript"][row, : batch["transcript_length"][row]])
        assert spelled == text.ctc_text(text.ctc_targets(u.transcript))
        assert batch["ctc_valid"][row] == valid
        assert batch["text_mask"][row].sum() == len(featurizer.encoded[index].tokens)


def test_the_augmented_view_is_one_of_the_utterances_own(featurizer, corpus):
    batch = train_batches(featurizer)[0]
    assert batch["aug_valid"].all()
    for row, index in enumerate(batch["index"]):
        _, augmented = corpus.recordings(corpus.utterances[index])
        n = batch["aug_audio_length"][row]
        heard = np.round(batch["aug_audio"][row, :n] * 32768).astype(np.int16)
        assert any(np.array_equal(heard, a) for a in augmented)


def test_several_augmented_recordings_are_all_drawn(featurizer, corpus):
    several = next(u for u in corpus.utterances if len(u.aug_samples) > 1)
    bucket = featurizer.buckets[-1]
    lengths = {
        int(featurizer.batch([several], bucket, (0, epoch), True)["aug_audio_length"][0])
        for epoch in range(20)
    }
    assert lengths == set(several.aug_samples)


def test_batches_depend_on_seed_and_step_alone(featurizer):
    one, same, other = (
        train_batches(featurizer),
        train_batches(featurizer),
        train_batches(featurizer, 1),
    )
    for step in (0, 12, 5):  # in any order, and over the epochs' borders
        for name, value in one[step].items():
            np.testing.assert_array_equal(value, same[step][name], err_msg=name)
    assert any(not np.array_equal(one[i]["index"], other[i]["index"]) for i in range(5))


def test_epochs_are_shuffled_anew_and_whole(featurizer, corpus):
    batches = train_batches(featurizer)
    epochs = []
    for epoch in range(2):
        steps = range(epoch * batches.steps_per_epoch, (epoch + 1) * batches.steps_per_epoch)
        epochs.append(np.concatenate([batches[s]["index"][batches[s]["valid"]] for s in steps]))
    assert epochs[0].tolist() != epochs[1].tolist()
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(len(corpus.utterances)))


def test_evaluation_has_every_utterance_once(featurizer, corpus):
    some = corpus.utterances[:13]
    batches = pipeline.EvalBatches(featurizer, some, 8)
    seen = [i for b in (batches[k] for k in range(len(batches))) for i in b["index"][b["valid"]]]
    assert sorted(seen) == list(range(13))
    assert "aug_audio" not in batches[0]


def test_the_background_iterator_goes_on_from_its_state(featurizer):
    batches = train_batches(featurizer)
    first = pipeline.background(batches, 2, 4)
    for _ in range(4):
        next(first)
    second = pipeline.background(batches, 2, 4)
    second.set_state(first.get_state())
    np.testing.assert_array_equal(next(first)["index"], next(second)["index"])


def test_a_cut_utterance_loses_its_ctc(prepared, corpus):
    limit = int(np.median([u.samples for u in corpus.utterances]))
    tokenizer = text.Tokenizer(str(prepared / "corpus" / "tokenizer"), 32)
    f = pipeline.Featurizer(corpus, tokenizer, limit, False, buckets=1, augmented=False)
    batches = pipeline.EvalBatches(f, corpus.utterances, 8)
    for i in range(len(batches)):
        b = batches[i]
        uncut = np.array([corpus.utterances[k].samples <= limit for k in b["index"]])
        np.testing.assert_array_equal(b["ctc_valid"], b["valid"] & uncut)
        assert (b["audio_length"] <= limit).all()


def test_a_fill_row_repeats_a_real_one_and_is_not_valid(featurizer, corpus):
    u = corpus.utterances[0]
    batch = featurizer.batch([u, None], featurizer.buckets[-1], (0, 0), True)
    np.testing.assert_array_equal(batch["valid"], [True, False])
    assert not batch["ctc_valid"][1] and not batch["aug_valid"][1]
    np.testing.assert_array_equal(batch["audio"][0], batch["audio"][1])
