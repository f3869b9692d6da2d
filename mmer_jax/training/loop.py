"""Trains one fold and selects its epoch."""

import dataclasses
import os
import time

import jax
import numpy as np
from etils import epath

from mmer_jax import configuration, processes
from mmer_jax.data import folds, loader
from mmer_jax.errors import UserError
from mmer_jax.metrics import METRICS, classification
from mmer_jax.training import sharding
from mmer_jax.training.checkpoint import Checkpoints
from mmer_jax.training.evaluation import measure_heldout, predict
from mmer_jax.training.logging import MetricsWriter, Progress
from mmer_jax.training.trainer import Trainer

# The selected entry where train.epochs is 0: the state that the run starts from.
UNTRAINED = {"step": 0, "epoch": 0}


@dataclasses.dataclass(frozen=True)
class TrainingPhase:
    """One training from the first step to the last.

    Attributes:
      title: for the progress.
      train: utterances.
      validation: utterances by which the epoch is selected; None: the last epoch is.
      steps: how many; None: as many as `config.train.epochs` are.
      schedule: steps that the learning rate's schedule spans; None: as many as are done.
    """

    title: str
    train: tuple
    validation: tuple | None
    steps: int | None = None
    schedule: int | None = None


def train_fold(trainer: Trainer, fold: folds.Fold, folder: str) -> dict:
    """Trains on a fold, resuming an earlier run, and tests the selected epoch.

    With `config.refit` a second phase follows, on the validation utterances as well, for as many
    steps as were selected and on the same schedule; its last state is tested.

    Args:
      trainer: of the run, with a corpus.
      fold: which utterances are tested.
      folder: for checkpoints and metrics; made if missing.

    Returns:
      `state`, the tested one; `answers`, its outputs for the test utterances (see `predict`), and
      those `utterances`; `chosen` (the history's selected entry), `history`; `counts` of the three
      splits and of what the tested state was `trained` on; `train_texts` of that (see
      `folds.training_texts`; None where it is not known, for the run started from another model);
      `text_sources`, see `measure_heldout`, of the selected state, {} where nothing is
      held out; and `temperature`, that of the transcripts or of the only source. Each temperature
      is None where the tested state was, or may have been, trained on the validation utterances:
      after a refit, and from `init_from`.

    Raises:
      UserError: training diverged, or a checkpoint can't be read.
    """
    config = trainer.config
    split = trainer.split(fold)
    phase = TrainingPhase(f"fold {fold.number}", split.train, split.validation)
    state, history, total = _train(trainer, phase, folder)
    chosen = max(history, key=lambda entry: entry["score"], default=UNTRAINED)
    trained = split.train if chosen["step"] else ()
    sources = {}
    if config.selection == "heldout":
        sources = measure_heldout(trainer, state, split.validation)
    if config.refit and chosen["step"]:
        trained = split.train + split.validation
        refit = TrainingPhase(f"{phase.title}, refit", trained, None, chosen["step"], total)
        state, _, _ = _train(trainer, refit, os.path.join(folder, "refit"))
    if config.init_from or (config.refit and chosen["step"]):
        sources = {name: found | {"temperature": None} for name, found in sources.items()}
    return {
        "state": state,
        "answers": predict(trainer, state, split.test),
        "utterances": split.test,
        "chosen": chosen,
        "history": history,
        "temperature": next((found["temperature"] for found in sources.values()), None),
        "text_sources": sources,
        "counts": {
            "train": len(split.train),
            "select": len(split.validation),
            "test": len(split.test),
            "trained": len(trained),
        },
        "train_texts": None
        if config.init_from
        else folds.training_texts(trained, trainer.collator.augmented),
    }


def _train(trainer, phase, folder):
    """(state of the selected epoch, history, steps); resumes what `folder` holds.

    The order within a pass of the loop is a contract: evaluate, save, refresh the ASR
    transcripts, next batch, step, log. They depend on the saved state alone, so a resumed run has
    the same.
    """
    config = trainer.config
    rows = None
    if config.train.epochs:  # else there are no batches of training
        sharding.check_batch_size("data.batch_size", config.data.batch_size, trainer.mesh)
        sharding.check_batch_size("train.chunk_size", config.train.chunk_size, trainer.mesh)
        rows = sharding.process_rows(config.data.batch_size, trainer.mesh)
    if processes.is_first():
        epath.Path(folder).mkdir(parents=True, exist_ok=True)
    batches = loader.Batches(
        trainer.collator, phase.train, config.data.batch_size, rows,
        epochs=config.train.epochs, seed=config.seed,
    )  # fmt: skip
    total = len(batches) if phase.steps is None else min(phase.steps, len(batches))
    epoch_steps = batches.steps_per_epoch
    iterator = trainer.to_devices(batches)
    state = trainer.initial_state(max(phase.schedule or total, 1), epoch_steps, total)
    history = []

    checkpoints = Checkpoints(os.path.join(folder, "checkpoints"))
    start = checkpoints.latest_step() or 0
    if start:
        state, history = checkpoints.restore(start, state, iterator)
        if start < total:
            iterator = refresh_transcripts(trainer, state, phase.train, batches, iterator)
    writer = MetricsWriter(folder, start)
    progress = Progress(phase.title, total, start)
    if start:
        progress.say(f"goes on after epoch {-(-start // epoch_steps)} of {_epochs(total, batches)}")

    pending, clock = [], Clock(iterator)
    try:
        for step in range(start, total + 1):
            if step > start and (step % epoch_steps == 0 or step == total):
                # 1. evaluate
                waiting = clock.share()
                entry = _validate(trainer, state, phase.validation, step, epoch_steps)
                history.append(entry)
                if phase.validation is not None:
                    writer.write(step, {f"select/{k}": entry[k] for k in (*METRICS, "loss")})
                line = _line(entry, config, _epochs(total, batches))
                progress.say(f"{line} ({100 * waiting:.1f} % waiting for data)")
                # 2. save
                plain = configuration.to_json(config)
                checkpoints.save(step, state, iterator, plain, history, entry["score"])
                # 3. refresh the ASR transcripts
                if step < total:
                    iterator = refresh_transcripts(trainer, state, phase.train, batches, iterator)
                clock = Clock(iterator)
            if step == total:
                break
            # 4. next batch
            batch = next(iterator)
            # 5. step
            state, values = trainer.train_step(state, batch)
            # 6. log
            pending.append(values)
            progress.update(step + 1, batches.num_valid(step))
            if (step + 1) % config.train.log_every == 0 or (step + 1) % epoch_steps == 0:
                means = _means(pending, step + 1)  # waits for the steps: the clock counts them
                pending = []
                writer.write(step + 1, {f"train/{k}": mean for k, mean in means.items()})
                progress.update(step + 1, 0, means["loss"])
        if history:
            checkpoints.wait()
            chosen = max(history, key=lambda entry: entry["score"])
            state, _ = checkpoints.restore(chosen["step"], state)
    finally:
        # Also after Ctrl-C: what is being written is finished, so that the next run goes on there.
        progress.close()
        iterator.close()
        writer.close()
        checkpoints.close()
    return state, history, total


def _epochs(total, batches):
    return -(-total // batches.steps_per_epoch)


def refresh_transcripts(trainer, state, utterances, batches, iterator):
    """The iterator that goes on from here, with the ASR transcripts of the CTC head as it is now.

    Without `config.train.ctc_texts` it is the one given; else a new one, because the one given has
    batches ahead already.
    """
    if not trainer.config.train.ctc_texts:
        return iterator
    position = iterator.get_state()
    iterator.close()
    texts = predict(trainer, state, utterances)["recognized"]
    batches.texts = {u.id: words.lower() for u, words in zip(utterances, texts)}
    iterator = trainer.to_devices(batches)
    iterator.set_state(position)
    return iterator


class Clock:
    """The share of the time, from now on, for which the training waited for batches."""

    def __init__(self, iterator):
        self._iterator = iterator
        self._began, self._waited = time.monotonic(), self._iterator.waited

    def share(self) -> float:
        """From 0 to 1."""
        passed = time.monotonic() - self._began
        return (self._iterator.waited - self._waited) / max(passed, 1e-9)


def _validate(trainer, state, utterances, step, epoch_steps):
    """The history's entry for an epoch: its metrics on the validation utterances."""
    entry = {"step": step, "epoch": -(-step // epoch_steps)}
    if utterances is None:
        return entry | {"score": float(step)}
    logits = predict(trainer, state, utterances)["logits"]
    label = np.array([u.label for u in utterances])
    found = classification.rates(
        classification.confusion(label, logits.argmax(-1), logits.shape[1])
    )
    entry |= {name: found[name] for name in METRICS}
    entry["loss"] = classification.log_loss(logits, label)
    metric = trainer.config.selection_metric
    ranked = -entry["loss"] if metric == "loss" else entry[metric]
    # Held-out parts are small and rates on them tie often: the lower loss, then the earlier epoch.
    entry["score"] = ranked - 1e-6 * min(entry["loss"], 100.0) - 1e-12 * step
    return entry


def _means(pending, step):
    values = jax.device_get(pending)
    means = {name: float(np.mean([v[name] for v in values])) for name in values[0]}
    if not np.isfinite(means["loss"]):
        raise UserError(
            f"Training diverged: the loss is {means['loss']} at step {step}. Lower "
            "config.optimizer.learning_rate, lengthen config.optimizer.warmup, or set "
            "config.optimizer.clip_norm."
        )
    return means


def _line(entry, config, epochs):
    if "ua" not in entry:
        return f"epoch {entry['epoch']}/{epochs}"
    where = "held-out" if config.selection == "heldout" else "TEST (selection=original)"
    return (
        f"epoch {entry['epoch']}/{epochs}: {where} UA {entry['ua']:.3f}, "
        f"WA {entry['wa']:.3f}, loss {entry['loss']:.3f}"
    )
