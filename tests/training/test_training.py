"""A run's behaviour: what moves, what stays, and that a resumed run equals an uninterrupted one."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from mmer_jax import main
from mmer_jax.data import folds, loader
from mmer_jax.errors import UserError
from mmer_jax.reporting import ablation
from mmer_jax.training import cross_validation, evaluation, loop, programs, sharding
from mmer_jax.training.optimizer import merge
from mmer_jax.training.trainer import Trainer
from tests.harness import Killed


@pytest.fixture(scope="module")
def trainer(prepared, tiny_config):
    config = tiny_config(prepared)
    config.data.buckets = 2
    config.optimizer.frozen = ("text_encoder/embeddings/word_embeddings/.*",)
    return Trainer.for_corpus(config)


def fold5(trainer):
    return folds.make(trainer.corpus.utterances, trainer.config)[4]


def some_batches(trainer, n):
    utterances = trainer.corpus.utterances
    batches = loader.Batches(trainer.collator, utterances, 8, epochs=5, seed=0)
    return [batches[i] for i in range(n)]


def leaves(tree):
    return {jax.tree_util.keystr(k): np.asarray(v) for k, v in jax.tree.leaves_with_path(tree)}


def test_every_trained_leaf_moves_and_every_frozen_leaf_stays(trainer):
    state = trainer.initial_state(10)
    before = jax.device_get((state.params, state.frozen))
    for batch in some_batches(trainer, 3):
        state, metrics = trainer.train_step(state, sharding.place(batch, trainer.mesh))
        assert all(np.isfinite(v) for v in jax.device_get(metrics).values())
    after = jax.device_get((state.params, state.frozen))
    old, new = leaves(before[0]), leaves(after[0])
    # A key's bias shifts all scores of a query alike: softmax cancels it, its gradient is 0.
    still = [k for k in old if np.array_equal(old[k], new[k])]
    assert [k for k in still if not ("key" in k and "bias" in k)] == []
    old, new = leaves(before[1]), leaves(after[1])
    assert {k.split("'")[1] for k in old} == {"audio_encoder", "text_encoder"}
    for k in old:
        np.testing.assert_array_equal(old[k], new[k], err_msg=k)


def test_the_same_seed_gives_the_same_step(trainer):
    batch = sharding.place(some_batches(trainer, 1)[0], trainer.mesh)
    twice = [trainer.train_step(trainer.initial_state(10), batch)[1]["loss"] for _ in range(2)]
    assert float(twice[0]) == float(twice[1])


def test_a_batch_of_fill_rows_alone_moves_no_loss(trainer):
    batch = dict(some_batches(trainer, 1)[0])
    for name in ("valid", "ctc_valid", "aug_valid"):
        batch[name] = np.zeros_like(batch[name])
    placed = sharding.place(batch, trainer.mesh)
    _, metrics = trainer.train_step(trainer.initial_state(10), placed)
    assert float(metrics["loss"]) == 0.0 and float(metrics["grad_norm"]) == 0.0


def test_predictions_do_not_depend_on_company(trainer):
    """Alone, in a batch, in another bucket: the same logits."""
    utterances = trainer.corpus.utterances[:11]
    state = trainer.initial_state(10)
    together = evaluation.predict(trainer, state, utterances)["logits"]
    alone = [evaluation.predict(trainer, state, [u])["logits"] for u in utterances]
    alone = np.concatenate(alone)
    np.testing.assert_allclose(alone, together, atol=1e-5)
    largest = trainer.collator.buckets[-1]
    batch = trainer.collator.batch(list(utterances[:8]), largest)
    other = trainer.eval_step(
        merge(state.params, state.frozen), sharding.place(batch, trainer.mesh)
    )
    np.testing.assert_allclose(other["logits"], together[:8], atol=1e-5)


def test_compilations_equal_buckets(trainer):
    state = trainer.initial_state(12)
    for batch in some_batches(trainer, 12):
        state, _ = trainer.train_step(state, sharding.place(batch, trainer.mesh))
    assert trainer.train_step.count() == len(trainer.collator.buckets)


def test_models_that_differ_in_training_alone_share_the_evaluation(prepared, tiny_config):
    names = ("no_ctc", "original_losses", "frozen_encoders", "late_fusion")
    variants, _ = ablation.make(tiny_config(prepared), names)
    found = {v.name: Trainer.for_corpus(v.config).eval_step for v in variants}
    full = found.pop("full")
    assert {name for name, step in found.items() if step is full} == set(names) - {"late_fusion"}


def interrupt_after(monkeypatch, steps):
    """Kills the loop when it fetches a batch for the given step of this process."""
    count = [0]

    class Iterator(loader.DeviceIterator):
        def __init__(self, batches, *options):
            super().__init__(batches, *options)
            self.trains = batches.seed is not None

        def __next__(self):
            count[0] += self.trains
            if self.trains and count[0] > steps:
                raise Killed
            return super().__next__()

    monkeypatch.setattr(loader, "DeviceIterator", Iterator)


@pytest.fixture(scope="module")
def uninterrupted(prepared, tiny_config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    main.run(tiny_config(prepared), str(folder))
    return folder


def test_programs_compiled_ahead_give_the_same_run(
    prepared, tiny_config, uninterrupted, tmp_path, monkeypatch
):
    monkeypatch.setattr(programs, "pays", lambda: True)
    made, compiled = [], programs.Programs.compile

    def compile(self, pool, first, batch):
        compiled(self, pool, first, batch)
        made.append((self, self.function._cache_size()))

    monkeypatch.setattr(programs.Programs, "compile", compile)
    monkeypatch.setattr(programs.Programs, "_announce", lambda *_: None)
    main.run(tiny_config(prepared), str(tmp_path))
    assert without_times(tmp_path) == without_times(uninterrupted)
    for name in ("predictions.csv", "fold5/metrics.jsonl"):
        assert (tmp_path / name).read_text() == (uninterrupted / name).read_text(), name
    train_step, before = made[0]
    assert len(train_step._compiled) == 1 and train_step.function._cache_size() == before


def without_times(folder):
    results = json.loads((folder / "results.json").read_text())
    return {k: v for k, v in results.items() if k not in ("seconds",)}


@pytest.mark.parametrize("where", ["middle of the second epoch", "middle of the first"])
def test_a_resumed_run_equals_an_uninterrupted_one(
    prepared, tiny_config, uninterrupted, tmp_path, monkeypatch, where
):
    config = tiny_config(prepared)
    with monkeypatch.context() as patch:
        interrupt_after(patch, 10 if "second" in where else 3)
        with pytest.raises(Killed):
            main.run(config, str(tmp_path))
    assert not (tmp_path / "results.json").exists()
    main.run(config, str(tmp_path))
    assert without_times(tmp_path) == without_times(uninterrupted)
    for name in ("predictions.csv", "fold5/metrics.jsonl"):
        assert (tmp_path / name).read_text() == (uninterrupted / name).read_text(), name
    assert (tmp_path / "confusion.png").read_bytes()[:4] == b"\x89PNG"


def test_a_resumed_run_reads_what_an_uninterrupted_one_read(
    prepared, tiny_config, tmp_path, monkeypatch
):
    """With texts of the CTC head among those read: a head that writes a word, and another later."""
    config = tiny_config(prepared)
    config.train.ctc_texts, config.train.epochs = 0.5, 3
    read, refresh = [], loop.refresh_transcripts

    def refresh_transcripts(trainer, state, utterances, batches, iterator):
        iterator = refresh(trainer, state, utterances, batches, iterator)
        read.append(batches.texts)
        return iterator

    monkeypatch.setattr(loop, "refresh_transcripts", refresh_transcripts)
    original = loop.predict

    def predict(trainer, state, utterances, texts=None):
        answers = original(trainer, state, utterances, texts)
        step = int(state.step)
        return answers | {"recognized": [f"STEP {step} {s}" for s in answers["recognized"]]}

    monkeypatch.setattr(loop, "predict", predict)
    main.run(config, str(tmp_path / "whole"))
    epochs = config.train.epochs
    assert len(read) == epochs - 1 and read[0] != read[1]
    assert all(words.startswith("step ") for words in read[0].values())
    with monkeypatch.context() as patch:
        interrupt_after(patch, 10)
        with pytest.raises(Killed):
            main.run(config, str(tmp_path / "resumed"))
    del read[epochs - 1 :]
    main.run(config, str(tmp_path / "resumed"))
    assert read[: epochs - 1] == read[epochs - 1 :]
    assert without_times(tmp_path / "resumed") == without_times(tmp_path / "whole")
    for name in ("predictions.csv", "fold5/metrics.jsonl"):
        whole = (tmp_path / "whole" / name).read_text()
        assert (tmp_path / "resumed" / name).read_text() == whole, name


def test_a_finished_run_is_read_not_run(prepared, tiny_config, uninterrupted, monkeypatch):
    monkeypatch.setattr(
        cross_validation, "make_trainer", lambda config: pytest.fail("it was run again")
    )
    before = (uninterrupted / "predictions.csv").read_bytes()
    main.run(tiny_config(prepared), str(uninterrupted))
    assert (uninterrupted / "predictions.csv").read_bytes() == before


def test_another_config_in_the_same_workdir_is_an_error(prepared, tiny_config, uninterrupted):
    config = tiny_config(prepared)
    config.optimizer.learning_rate = 0.5
    with pytest.raises(UserError, match="optimizer.learning_rate: 0.001 there, 0.5 now"):
        main.run(config, str(uninterrupted))


def test_no_test_label_can_influence_the_choice(prepared, tiny_config, tmp_path):
    """The same steps are chosen, from the same history, whatever the test session's labels are."""
    trainer = Trainer.for_corpus(tiny_config(prepared))
    true = trainer.corpus.utterances
    rng = np.random.default_rng(0)
    chosen, labels = [], []
    for name in ("true", "shuffled"):
        place = str(tmp_path / name)
        found = cross_validation.run_fold(trainer, fold5(trainer), f"{place}/fold5", place)
        chosen.append((found.chosen, found.history, found.temperature))
        labels.append([p.label for p in found.predictions])
        trainer.corpus.utterances = tuple(
            dataclasses.replace(u, label=int(rng.integers(4))) if u.session == "5" else u
            for u in true
        )
    assert labels[0] != labels[1]
    assert chosen[0] == chosen[1]


def test_a_refit_trains_on_all_for_the_chosen_steps(prepared, tiny_config, tmp_path):
    config = tiny_config(prepared)
    config.refit = True
    main.run(config, str(tmp_path))
    result = json.loads((tmp_path / "fold5/result.json").read_text())
    lines = (tmp_path / "fold5/refit/metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line) for line in lines]
    assert steps[-1]["step"] == result["chosen"]["step"]
    assert not any("select/ua" in line for line in steps)
    # The rate follows the schedule of the run that chose, not one of its own.
    first = (tmp_path / "fold5/metrics.jsonl").read_text().splitlines()
    rates = {line["step"]: line["train/learning_rate"] for line in map(json.loads, first)
             if "train/learning_rate" in line}  # fmt: skip
    both = [line for line in steps if line["step"] in rates]
    assert both
    for line in both:
        assert line["train/learning_rate"] == pytest.approx(rates[line["step"]])
    assert "trained anew" in (tmp_path / "results.md").read_text()


TRAINED = {"said in training", "an augmented text"}


@pytest.mark.parametrize(
    "selection, refit, acl, known",
    [
        ("heldout", False, 0.1, TRAINED),
        ("heldout", True, 0.1, TRAINED | {"said held out"}),
        ("original", False, 0.0, {"said in training", "said held out"}),
    ],
)
def test_words_are_known_that_the_tested_state_was_trained_on(
    prepared, tiny_config, tmp_path, selection, refit, acl, known
):
    config = tiny_config(prepared)
    config.selection, config.refit, config.train.epochs = selection, refit, 1
    config.losses.acl.weight = acl
    trainer = Trainer.for_corpus(config)
    every = trainer.corpus.utterances
    choosing = config.copy_and_resolve_references()
    choosing.selection = "heldout"
    split = folds.split(trainer.corpus, fold5(trainer), choosing)
    train, other, held = split.train[0].id, split.train[1].id, split.validation[0].id
    planted = {
        train: {"transcript": "Said in training!"},
        other: {"aug_transcript": "An augmented text."},
        held: {"transcript": "said HELD out"},
    }
    words = ["said in training", "an augmented text", "said held out", "said nowhere else"]
    planted |= {u.id: {"transcript": w} for u, w in zip(split.test, words)}
    trainer.corpus.utterances = tuple(
        dataclasses.replace(u, **planted.get(u.id, {})) for u in every
    )
    result = cross_validation.run_fold(
        trainer, fold5(trainer), str(tmp_path / "fold5"), str(tmp_path)
    )
    seen = {p.transcript: p.seen for p in result.predictions}
    assert {w for w in words if seen[w]} == known
    counts = result.counts
    assert counts["trained"] == counts["train"] + (counts["select"] if refit else 0)
    # And what follows from it: a temperature is that of a state which was not trained on the part.
    sources = result.text_sources
    assert set(sources) == (set() if selection == "original" else {"gold", "ctc", "none"})
    fitted = [found["temperature"] is not None for found in sources.values()]
    assert all(fitted) if not refit else not any(fitted)
    assert (result.temperature is None) == (refit or not sources)


def test_several_seeds_go_into_folders_of_their_own(prepared, tiny_config, tmp_path):
    config = tiny_config(prepared)
    config.train.epochs, config.seeds = 1, (0, 3)
    main.run(config, str(tmp_path))
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["seeds"] == [0, 3] and len(results["folds"]) == 2
    alone = [json.loads((tmp_path / f"seed{s}/fold5/result.json").read_text()) for s in (0, 3)]
    assert alone[0]["predictions"] != alone[1]["predictions"]
    one = tiny_config(prepared)
    one.train.epochs, one.seed = 1, 3
    main.run(one, str(tmp_path / "alone"))
    again = json.loads((tmp_path / "alone/fold5/result.json").read_text())
    assert again == alone[1]


def test_divergence_is_one_message(trainer, tmp_path, monkeypatch):
    step = trainer.train_step

    def diverged(state, batch):
        state, metrics = step(state, batch)
        return state, metrics | {"loss": metrics["loss"] * np.nan}

    monkeypatch.setattr(trainer, "train_step", diverged)
    monkeypatch.setattr(loop.Checkpoints, "save", lambda *_: pytest.fail("it was saved"))
    for log_every, first in ((2, 2), (1000, 6)):  # an epoch has 6 steps
        monkeypatch.setitem(trainer.config.train, "log_every", log_every)
        with pytest.raises(UserError, match=f"Training diverged: the loss is nan at step {first}"):
            cross_validation.run_fold(
                trainer, fold5(trainer), str(tmp_path / "fold5"), str(tmp_path)
            )


def test_the_host_does_not_wait_for_the_steps_that_it_has_just_dispatched(
    trainer, tmp_path, monkeypatch
):
    step, means, dispatched, read = trainer.train_step, loop._means, [], []

    def train_step(state, batch):
        dispatched.append(1)
        return step(state, batch)

    def _means(at, pending):
        read.append((at, len(dispatched)))
        return means(at, pending)

    monkeypatch.setattr(trainer, "train_step", train_step)
    monkeypatch.setattr(loop, "_means", _means)
    utterances = trainer.split(fold5(trainer)).train
    _, _, total = loop.train(trainer, "title", str(tmp_path), utterances)
    epoch = -(-len(utterances) // trainer.config.data.batch_size)
    assert total == 2 * epoch
    ends = [min(at + 2, -(-at // epoch) * epoch) for at, _ in read]
    assert [(at, end) for (at, _), end in zip(read, ends)] == read
    assert any(end > at for at, end in read)


def test_outputs_are_fetched_while_later_batches_compute():
    dispatched = []

    def batches():
        for i in range(10):
            dispatched.append(i)
            yield i, {"logits": jax.numpy.full(2, i)}

    found = [
        (i, out["logits"].tolist(), len(dispatched)) for i, out in evaluation.fetched(batches())
    ]
    assert [(i, rows) for i, rows, _ in found] == [(i, [i, i]) for i in range(10)]
    ahead = evaluation.IN_FLIGHT + 1
    assert [n for *_, n in found] == [min(i + ahead, 10) for i in range(10)]
