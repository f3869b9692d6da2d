"""Folds of a run, one after another: finished ones are read, the others are run."""

import json
import os

from mmer_jax import configuration, files, processes
from mmer_jax.data.folds import Fold
from mmer_jax.errors import UserError
from mmer_jax.evaluation import metrics


def open_workdir(workdir: str, config) -> None:
    """Makes the workdir a home of this config, or checks that it already is.

    Raises:
      UserError: it holds a run of another config, or can't be written.
    """
    path = os.path.join(workdir, "config.json")
    if files.exists(path):
        _check_same(path, config, workdir)
    elif processes.is_first():
        try:
            files.replace_file(path, json.dumps(configuration.to_json(config), indent=2) + "\n")
        except OSError as e:
            raise UserError(
                f"The workdir {workdir} can't be written: {e}. Name another --workdir."
            ) from e


def _check_same(path, config, workdir):
    try:
        before = json.loads(files.read_text(path))
    except ValueError as e:
        raise UserError(
            f"{path} is not JSON ({e}). Name another --workdir, or delete this one."
        ) from e
    changed = configuration.differences(before, configuration.to_json(config))
    if changed:
        lines = "\n".join(f"  {key}: {old!r} there, {new!r} now" for key, old, new in changed)
        raise UserError(
            f"The workdir {workdir} holds a run with other options:\n{lines}\n"
            "Name another --workdir, or delete that one to start anew."
        )


def run(config, workdir: str, make_experiment) -> list[dict]:
    """Results of `config.folds` in their order, each stored in `workdir/fold<k>/result.json`.

    Args:
      config: a validated config.
      workdir: see `open_workdir`.
      make_experiment: called once, and only if a fold is left to run.

    Returns:
      Per fold: `fold`, `confusion`, `chosen`, `history`, `counts`, `label_names` and `predictions`,
      a list of {utterance, session, label, prediction, probabilities}.
    """
    experiment, results = None, []
    for session in config.folds:
        folder = os.path.join(workdir, f"fold{session}")
        path = os.path.join(folder, "result.json")
        if processes.first_says(files.exists(path)):
            print(f"fold {session}: finished before, read from {path}", flush=True)
            written = files.read_text(path)
        else:
            experiment = experiment or make_experiment()
            written = json.dumps(run_fold(experiment, Fold(session), folder)) + "\n"
            if processes.is_first():
                files.replace_file(path, written)
        results.append(json.loads(written))
    return results


def run_fold(experiment, fold: Fold, folder: str) -> dict:
    """Trains and tests one fold; returns its entry as described in `run`."""
    # Imported here: results are read and reported without jax.
    from mmer_jax.training.loop import train_fold

    trained = train_fold(experiment, fold, folder)
    names = experiment.corpus.label_names
    probabilities = metrics.softmax(trained["logits"])
    predictions = [
        {
            "utterance": u.id,
            "session": u.session,
            "label": names[u.label],
            "prediction": names[int(p.argmax())],
            "probabilities": [round(float(x), 6) for x in p],
        }
        for u, p in zip(trained["utterances"], probabilities)
    ]
    labels = [u.label for u in trained["utterances"]]
    matrix = metrics.confusion(labels, probabilities.argmax(-1), len(names))
    return {
        "fold": fold.test_session,
        "label_names": list(names),
        "counts": trained["counts"],
        "chosen": trained["chosen"],
        "confusion": matrix.tolist(),
        "history": trained["history"],
        "predictions": predictions,
    }
