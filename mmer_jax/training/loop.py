"""The training loop."""

import time

import jax
import numpy as np

from mmer_jax.data import loader
from mmer_jax.errors import UserError
from mmer_jax.metrics import METRICS, classification
from mmer_jax.training import sharding
from mmer_jax.training.checkpoint import Checkpoints
from mmer_jax.training.evaluation import batches_of, predict, start_copies
from mmer_jax.training.logging import MetricsWriter, Progress
from mmer_jax.training.optimizer import merge
from mmer_jax.training.programs import Ahead
from mmer_jax.training.trainer import Trainer


def train(trainer: Trainer, title: str, folder: str, utterances, validation=None,
          steps: int | None = None, schedule: int | None = None):  # fmt: skip
    """Trains from the first step to the last, resuming what the folder holds of an earlier run.

    The order within a pass of the loop is a contract: evaluate, save, refresh the ASR
    transcripts, next batch, step, log. They depend on the saved state alone, so a resumed run has
    the same. The metrics are read when the next ones are due, so that the devices always have steps
    to do; those of an epoch before it is evaluated.

    Args:
      trainer: of the run, with a corpus.
      title: for the progress.
      folder: for checkpoints and metrics; made if missing.
      utterances: to train on.
      validation: utterances by which the epoch is selected; None: the last epoch is.
      steps: how many; None: as many as `config.train.epochs` are.
      schedule: steps that the learning rate's schedule spans; None: as many as are done.

    Returns:
      The state of the selected epoch; the history: `step`, `epoch`, `score` and metrics of each;
      and how many steps there were.

    Raises:
      UserError: training diverged, or a checkpoint can't be read.
    """
    config = trainer.config
    rows = None
    if config.train.epochs:  # else there are no batches of training
        sharding.check_batch_size("data.batch_size", config.data.batch_size, trainer.mesh)
        sharding.check_batch_size("train.chunk_size", config.train.chunk_size, trainer.mesh)
        rows = sharding.process_rows(config.data.batch_size, trainer.mesh)
    batches = loader.Batches(
        trainer.collator, utterances, config.data.batch_size, rows,
        epochs=config.train.epochs, seed=config.seed,
    )  # fmt: skip
    total = len(batches) if steps is None else min(steps, len(batches))
    epoch_steps = batches.steps_per_epoch
    epochs = -(-total // epoch_steps)
    state = trainer.initial_state(max(schedule or total, 1), epoch_steps, total)
    iterator = trainer.to_devices(batches)
    history = []

    checkpoints = Checkpoints(folder)
    start = checkpoints.latest_step() or 0
    if start:
        state, history = checkpoints.restore(start, state, iterator)
        if start < total:
            iterator = refresh_transcripts(trainer, state, utterances, batches, iterator)
    writer = MetricsWriter(folder, start)
    progress = Progress(title, total, start)
    if start:
        progress.say(f"goes on after epoch {-(-start // epoch_steps)} of {epochs}")

    def log(interval=None):
        """Logs the interval before, and keeps this one, which the devices may not have done yet."""
        nonlocal due
        if due:
            means = _means(*due)
            writer.write(due[0], {f"train/{k}": mean for k, mean in means.items()})
            progress.show(due[0], means["loss"])
        due = interval

    ahead, pending, due, clock = Ahead(), [], None, _clock(iterator)
    try:
        if start < total:
            ahead.add(trainer.train_step, trainer.shapes, batches, start)
            if validation:
                params = merge(trainer.shapes.params, trainer.shapes.frozen)
                ahead.add(trainer.eval_step, params, batches_of(trainer, validation))
        for step in range(start, total + 1):
            if step > start and (step % epoch_steps == 0 or step == total):
                log()  # waits for the steps: the clock counts them, and none that diverged is saved
                # 1. evaluate
                waiting = clock()
                entry = _validate(trainer, state, validation, step, epoch_steps)
                history.append(entry)
                if validation is not None:
                    writer.write(step, {f"select/{k}": entry[k] for k in (*METRICS, "loss")})
                # 2. save
                began = time.monotonic()
                checkpoints.save(step, state, iterator, history, entry["score"])
                progress.say(
                    f"{_line(entry, config, epochs)} ({100 * waiting:.1f} % waiting for data, "
                    f"{time.monotonic() - began:.2f} s for the checkpoint)"
                )
                # 3. refresh the ASR transcripts
                if step < total:
                    iterator = refresh_transcripts(trainer, state, utterances, batches, iterator)
                clock = _clock(iterator)
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
                start_copies(pending)
                log((step + 1, pending))
                pending = []
        if history:
            state, _ = checkpoints.restore(selected(history)["step"], state)
    finally:
        ahead.close()
        # Also after Ctrl-C: what is being written is finished, so that the next run goes on there.
        progress.close()
        iterator.close()
        writer.close()
        checkpoints.close()
    return state, history, total


def selected(history: list[dict]) -> dict:
    """The entry of the epoch that is tested; without a training, of the state before it."""
    return max(history, key=lambda entry: entry["score"], default={"step": 0, "epoch": 0})


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


def _clock(iterator):
    """A function: the share of the time from now on for which the training waited for batches."""
    began, waited = time.monotonic(), iterator.waited
    return lambda: (iterator.waited - waited) / max(time.monotonic() - began, 1e-9)


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


def _means(step, pending):
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
