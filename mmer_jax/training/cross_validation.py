"""Folds of a run, one after another: finished ones are read, the others are run."""

import json
import os

from mmer_jax import configuration, files, processes, runs
from mmer_jax.data import folds
from mmer_jax.data.folds import Fold
from mmer_jax.errors import UserError
from mmer_jax.metrics import classification, leakage


def open_workdir(workdir: str, config):
    """Makes the workdir a home of this config, or checks that it already is.

    Its config.json names the folds and seeds of all calls so far.

    Returns:
      The config with those folds and seeds.

    Raises:
      UserError: it holds a run of another config, or can't be written.
    """
    path = os.path.join(workdir, "config.json")
    before, config = None, config.copy_and_resolve_references()
    content = configuration.to_json(config)
    if files.exists(path):
        before = _check_same(path, config, workdir)
        config.folds = _of_all_calls(before, config, "folds", either=all)
        config.seeds = _of_all_calls(before, config, "seeds", either=any)
        content = before | {name: list(config[name]) for name in ("folds", "seeds")}
    if content != before and processes.is_first():
        try:
            files.replace_file(path, json.dumps(content, indent=2) + "\n")
        except OSError as e:
            raise UserError(
                f"The workdir {workdir} can't be written: {e}. Name another --workdir."
            ) from e
    return config


def _of_all_calls(before, config, name, either):
    """Numbers of an earlier call and of this one; () is all folds, but no seed of its own."""
    both = [tuple(before.get(name, ())), tuple(config[name])]
    return tuple(sorted({n for numbers in both for n in numbers})) if either(both) else ()


def _check_same(path, config, workdir):
    """What config.json held."""
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
    return before


def run(config, workdir: str, make_experiment, on_fold=None, top: str = "") -> list[dict]:
    """Results of the config's folds in their order, each stored in `workdir/fold<k>/result.json`.

    Args:
      config: a validated config.
      workdir: see `open_workdir`.
      make_experiment: called before each fold that is left to run.
      on_fold: called with each fold's result as soon as it is there.
      top: of the whole run, where what its seeds share goes; empty: `workdir`.

    Raises:
      UserError: a fold can't be run, or only with another input than those that are finished.

    Returns:
      Per fold: `fold`, `name` (who tests), `seed`, `confusion`, `chosen`, `history`, `counts`,
      `temperature`, `text_sources` (see `loop.train_fold`), `dataset_version`, `normalized`
      (whether waveforms are), `pretrained` (the weights begun with), `label_names` and
      `predictions`, a list of {utterance, session, speaker, dialog, label, prediction,
      probabilities, logits, seen (None: not known), recognized, transcript}.
    """
    from mmer_jax.training import fold_params  # here, for it imports jax

    results = []
    for fold in selected_folds(config):
        folder = os.path.join(workdir, f"fold{fold.number}")
        path = os.path.join(folder, "result.json")
        if processes.first_says(files.exists(path)):
            print(f"fold {fold.number}: finished before, read from {path}", flush=True)
            written = files.read_text(path)
        else:
            experiment = make_experiment()
            _check_input(experiment, top or workdir)
            written = json.dumps(run_fold(experiment, fold, folder, top or workdir)) + "\n"
            if processes.is_first():
                files.replace_file(path, written)
        fold_params.clean_up(folder, config)
        results.append(runs.parsed(json.loads(written), config))
        if on_fold:
            on_fold(results[-1])
    return results


def _check_input(experiment, workdir):
    """Raises UserError where a finished fold was given waveforms prepared in another way.

    `data.normalize=auto` did not always mean the same, and a table is of one kind of input.
    """
    from mmer_jax.models import factory

    if "audio" not in experiment.config.model.modalities:
        return
    now = experiment.collator.preprocessor.normalized
    for fold in runs.all_of(workdir):
        if factory.normalizes(factory.as_trained(fold.config, fold.result)) != now:
            words = {True: "normalised", False: "as they are"}
            raise UserError(
                f"{fold.folder} was trained with waveforms {words[not now]}, and the folds still "
                f"to run would get them {words[now]}: config.data.normalize="
                f"{experiment.config.data.normalize} means something else in this version, or for "
                "the encoder that is there now. Name another --workdir, there with "
                f"--config.data.normalize={'none' if now else 'utterance'} for the input of that "
                "fold."
            )


def selected_folds(config) -> tuple[Fold, ...]:
    """See `folds.selected`."""
    return folds.selected(config)


def run_fold(experiment, fold: Fold, folder: str, top: str) -> dict:
    """Trains and tests one fold and writes its parameters; returns its entry, see `run`."""
    # Imported here: results are read and reported without jax.
    from mmer_jax.training import fold_params
    from mmer_jax.training.loop import train_fold

    trained = train_fold(experiment, fold, folder)
    fold_params.write(experiment, trained["state"], folder, top)
    names = experiment.corpus.label_names
    logits = trained["answers"]["logits"]
    recognized = trained["answers"]["recognized"] or [None] * len(logits)
    probabilities = classification.softmax(logits)
    transcripts = [u.transcript for u in trained["utterances"]]
    known = trained["train_texts"]
    seen = [None] * len(logits) if known is None else leakage.seen(known, transcripts).tolist()
    rows = zip(trained["utterances"], probabilities, logits, recognized, seen)
    predictions = [
        {
            "utterance": u.id,
            "session": u.session,
            "speaker": u.speaker,
            "dialog": u.dialog,
            "label": names[u.label],
            "prediction": names[int(p.argmax())],
            "probabilities": [round(float(x), 6) for x in p],
            "logits": [round(float(x), 6) for x in z],
            "seen": is_seen,
            "recognized": words,
            "transcript": u.transcript,
        }
        for u, p, z, words, is_seen in rows
    ]
    labels = [u.label for u in trained["utterances"]]
    matrix = classification.confusion(labels, probabilities.argmax(-1), len(names))
    return {
        "fold": fold.number,
        "name": fold.name,
        "seed": experiment.config.seed,
        "label_names": list(names),
        "counts": trained["counts"],
        "chosen": trained["chosen"],
        "temperature": trained["temperature"],
        "text_sources": trained["text_sources"],
        "dataset_version": experiment.corpus.version,
        "normalized": experiment.collator.preprocessor.normalized,
        "pretrained": experiment.pretrained,
        "confusion": matrix.tolist(),
        "history": trained["history"],
        "predictions": predictions,
    }
