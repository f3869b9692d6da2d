"""Other words than the transcripts: how often a model is right, and what a missing one costs."""

import dataclasses

import numpy as np

from mmer_jax.metrics import asr, calibration, classification
from mmer_jax.reporting import embeddings, report
from mmer_jax.results import FoldResult, scores
from mmer_jax.runs import FoldRun, Run
from mmer_jax.training.evaluation import predict


def heldout(trainer, state, utterances) -> dict[str, dict]:
    """Temperature and rates of a state on held-out utterances, with each text source.

    Args:
      trainer: of the run.
      state: of which nothing was trained on the utterances.
      utterances: of its corpus; their speakers may have trained, which makes all figures better
        than they are for new speakers.

    Returns:
      By source (`report.text_sources`, in that order): `temperature`, `ua`, `ua_low` (see
      `calibration.ua_lower_bound`), `utterances`, how many, and `wer` of the text that was read,
      None where it is not the CTC head's.
    """
    found = {}
    usual, *others = report.text_sources(trainer.config)
    answers = predict(trainer, state, utterances)
    found[usual] = _rated(answers["logits"], utterances)
    for source in others:
        written = answers["recognized"] or [None] * len(utterances)
        texts = {u.id: _text(source, u.transcript, w) for u, w in zip(utterances, written)}
        logits = predict(trainer, state, utterances, texts)["logits"]
        found[source] = _rated(logits, utterances)
        if source == "ctc":
            transcripts = [u.transcript for u in utterances]
            found[source]["wer"] = asr.error_rates(transcripts, written)["wer"]
    return found


def _rated(logits, utterances):
    label = np.array([u.label for u in utterances])
    matrix = classification.confusion(label, logits.argmax(-1), logits.shape[1])
    return {
        "temperature": calibration.fit_temperature(logits, label),
        "ua": classification.rates(matrix)["ua"],
        "ua_low": calibration.ua_lower_bound(matrix),
        "utterances": len(label),
        "wer": None,
    }


def evaluate(run: Run, source: str, data_dir: str = "") -> list[FoldResult]:
    """Results of every finished fold with texts from `source`, from the checkpoints tested before.

    Args:
      run: see `runs.read`.
      source: one of `report.TEXT_SOURCES` that `report.check_text_source` lets pass.
      data_dir: where the prepared dataset is now; empty: where the run had it.

    Returns:
      As `cross_validation.run` does; `temperature` is that of `source`, None where the run fitted
      none for it.

    Raises:
      UserError: see `embeddings.open_fold`.
    """
    trainer, results = None, []
    for fold in run.folds:
        print(f"seed {fold.result.seed}, fold {fold.result.fold} ...", flush=True)
        trainer, state, utterances = embeddings.open_fold(fold, data_dir, trainer)
        results.append(_result(fold, trainer, state, utterances, source))
    return results


def _text(source, transcript, recognized):
    if source == "none":
        return ""
    return transcript if source == "gold" else recognized.lower()


def _result(fold: FoldRun, trainer, state, utterances, source):
    result = fold.result
    given = {p.utterance: _text(source, p.transcript, p.recognized) for p in result.predictions}
    logits = predict(trainer, state, utterances, given)["logits"]
    return dataclasses.replace(
        result,
        predictions=[
            dataclasses.replace(row, **score)
            for row, score in zip(result.predictions, scores(logits, result.label_names))
        ],
        temperature=result.text_sources.get(source, {}).get("temperature"),
    )
