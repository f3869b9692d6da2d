"""A finished run tested with other words than the transcripts: what a missing one costs."""

import dataclasses

from mmer_jax.metrics import reliability
from mmer_jax.reporting import embeddings
from mmer_jax.results import FoldResult, scores
from mmer_jax.runs import FoldRun, Run
from mmer_jax.training.evaluation import predict


def evaluate(run: Run, source: str, data_dir: str = "") -> list[FoldResult]:
    """Results of every finished fold with texts from `source`, from the checkpoints tested before.

    Args:
      run: see `runs.read`.
      source: one of `reliability.text_sources(run.config)`.
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


def _result(fold: FoldRun, trainer, state, utterances, source):
    result = fold.result
    recognized = [p.recognized for p in result.predictions]
    texts = reliability.texts(source, utterances, recognized)
    logits = predict(trainer, state, utterances, texts)["logits"]
    return dataclasses.replace(
        result,
        predictions=[
            dataclasses.replace(row, **score)
            for row, score in zip(result.predictions, scores(logits, result.label_names))
        ],
        temperature=result.text_sources.get(source, {}).get("temperature"),
    )
