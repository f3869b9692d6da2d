"""Forward passes over utterances of a trainer's corpus."""

import collections

import jax
import numpy as np
import tqdm

from mmer_jax import processes
from mmer_jax.data import loader
from mmer_jax.metrics import asr, calibration, classification, reliability
from mmer_jax.training import sharding
from mmer_jax.training.optimizer import merge
from mmer_jax.training.trainer import Trainer

BAR_AFTER = 3.0  # seconds that a pass may take without a progress bar
IN_FLIGHT = 4  # batches whose outputs are waited for while the next one is given to the devices


def predict(trainer: Trainer, state, utterances, texts=None) -> dict:
    """The model's outputs for utterances, in their order.

    Args:
      trainer: of the run, with a corpus.
      state: with the parameters.
      utterances: n of its corpus.
      texts: utterance id -> input of the text encoder in its transcript's place.

    Returns:
      `logits` float32 [n, c], and `recognized`: the CTC head's n texts, or None where the model
      has none.
    """
    logits = np.zeros((len(utterances), len(trainer.label_names)), np.float32)
    recognized, out = [""] * len(utterances), {}
    for indices, out in fetched(outputs(trainer, trainer.eval_step, state, utterances, texts)):
        # The rows of all processes: each fills in the same whole table.
        logits[indices[indices >= 0]] = out["logits"][indices >= 0]
        for index, symbols in zip(indices, out.get("symbols", ())):
            if index >= 0:
                recognized[index] = trainer.alphabet.decode(symbols)
    return {"logits": logits, "recognized": recognized if "symbols" in out else None}


def outputs(trainer: Trainer, forward, state, utterances, texts=None):
    """A forward pass over utterances, batch by batch; a long one has a bar on a terminal.

    Args:
      forward: see `Trainer.make_forward`.
      trainer, state, utterances, texts: see `predict`.

    Yields:
      Row indices int [b], which of the utterances each row is, -1 where it fills the batch; and the
      outputs, on the devices.
    """
    batches = batches_of(trainer, utterances, texts)
    params = merge(state.params, state.frozen)
    bar = tqdm.tqdm(
        total=len(batches), desc="evaluating", unit="batch", delay=BAR_AFTER, leave=False,
        disable=None if processes.is_first() else True,
    )  # fmt: skip
    with trainer.to_devices(batches) as placed, bar:
        for i, batch in enumerate(placed):
            yield batches.row_indices(i), forward(params, batch)
            bar.update()


def batches_of(trainer: Trainer, utterances, texts=None) -> loader.Batches:
    """Those of an evaluation, see `predict`."""
    size = trainer.config.data.eval_batch_size
    rows = sharding.process_rows(size, trainer.mesh)
    return loader.Batches(trainer.collator, utterances, size, rows, texts=texts)


def fetched(batches):
    """The outputs on the host: the devices go on with the next batches meanwhile.

    Args:
      batches: (anything, outputs on the devices), such as `outputs` yields.

    Yields:
      The same with numpy arrays, in their order.
    """
    waiting = collections.deque()
    for indices, out in batches:
        start_copies(out)
        waiting.append((indices, out))
        if len(waiting) > IN_FLIGHT:
            indices, out = waiting.popleft()
            yield indices, jax.device_get(out)
    while waiting:
        indices, out = waiting.popleft()
        yield indices, jax.device_get(out)


def start_copies(tree) -> None:
    """Has arrays copied to the host as soon as they are computed; waits for nothing."""
    for x in jax.tree.leaves(tree):
        x.copy_to_host_async()


def measure_heldout(trainer: Trainer, state, utterances) -> dict[str, dict]:
    """Temperature and metrics on held-out utterances, with each text source.

    Args:
      trainer, state: see `predict`.
      utterances: held out of the state's training; their speakers may have trained, which makes all
        metrics better than they are for new speakers.

    Returns:
      By source (`reliability.text_sources`, in that order): `temperature`, `ua`, `ua_low` (see
      `calibration.ua_lower_bound`), `utterances`, how many, and `wer` and `cer` of the text that
      was read, None where it is the transcript or none; of `asr` the `recognizer`'s name.
    """
    usual, *others = reliability.text_sources(trainer.config)
    plain = predict(trainer, state, utterances)
    measured = {usual: _metrics(plain["logits"], utterances)}
    written = trainer.asr.texts if trainer.asr else {}
    for source in others:
        texts = reliability.texts(source, utterances, plain["recognized"], written)
        measured[source] = _metrics(
            predict(trainer, state, utterances, texts)["logits"], utterances
        )
    transcripts = [u.transcript for u in utterances]
    if "asr" in measured:
        rates = asr.recognizer_rates(transcripts, [written[u.id] for u in utterances])
        measured["asr"] |= {name: rates[name] for name in ("wer", "cer")}
        measured["asr"]["recognizer"] = trainer.asr.name
    if "ctc" in measured:
        rates = asr.error_rates(transcripts, plain["recognized"], trainer.alphabet)
        measured["ctc"] |= {name: rates[name] for name in ("wer", "cer")}
    return measured


def _metrics(logits, utterances):
    label = np.array([u.label for u in utterances])
    matrix = classification.confusion(label, logits.argmax(-1), logits.shape[1])
    return {
        "temperature": calibration.fit_temperature(logits, label),
        "ua": classification.rates(matrix)["ua"],
        "ua_low": calibration.ua_lower_bound(matrix),
        "utterances": len(label),
        "wer": None,
        "cer": None,
    }
