"""A finished run tested again with other words than the transcripts: what a missing one costs."""

import numpy as np

from mmer_jax.evaluation import features, metrics
from mmer_jax.evaluation.finished import FoldRun, Run


def evaluate(run: Run, source: str, data_dir: str = "") -> list[dict]:
    """Results of every finished fold with texts from `source`, from the checkpoints tested before.

    Args:
      run: see `finished.read`.
      source: one of `report.TEXT_SOURCES` that `report.check_text_source` lets pass.
      data_dir: where the prepared dataset is now; empty: where the run had it.

    Returns:
      As `cross_validation.run` does; `predictions` also have `text`, what was read.

    Raises:
      UserError: see `features.open_fold`.
    """
    experiment, results = None, []
    for fold in run.folds:
        print(f"seed {fold.result['seed']}, fold {fold.result['fold']} ...", flush=True)
        experiment, state, utterances = features.open_fold(fold, data_dir, experiment)
        texts = [_text(p, source) for p in fold.result["predictions"]]
        results.append(_result(fold, experiment, state, utterances, texts))
    return results


def _text(prediction, source):
    if source == "none":
        return ""
    return prediction["transcript"] if source == "gold" else prediction["recognized"].lower()


def _result(fold: FoldRun, experiment, state, utterances, texts):
    from mmer_jax.training.loop import predict

    names = fold.result["label_names"]
    given = {u.id: t for u, t in zip(utterances, texts)}
    logits = predict(experiment, state, utterances, given)["logits"]
    probabilities = metrics.softmax(logits)
    rows = [
        before
        | {
            "prediction": names[int(p.argmax())],
            "probabilities": [round(float(x), 6) for x in p],
            "logits": [round(float(x), 6) for x in z],
            "text": words,
        }
        for before, p, z, words in zip(fold.result["predictions"], probabilities, logits, texts)
    ]
    matrix = metrics.confusion([u.label for u in utterances], np.argmax(logits, -1), len(names))
    return fold.result | {"predictions": rows, "confusion": matrix.tolist()}
