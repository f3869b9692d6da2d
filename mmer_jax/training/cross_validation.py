"""Folds of a run, one after another: finished ones are read, the others are run."""

import os

from mmer_jax import files, processes, runs
from mmer_jax.data import folds
from mmer_jax.data.folds import Fold
from mmer_jax.errors import UserError
from mmer_jax.metrics import leakage
from mmer_jax.results import FoldResult, PredictionRow, scores


def run(config, workdir: str, make_trainer, on_fold=None, top: str = "") -> list[FoldResult]:
    """Results of the config's folds in their order, each stored in `workdir/fold<k>/result.json`.

    Args:
      config: a validated config.
      workdir: see `runs.open_workdir`.
      make_trainer: called before each fold that is left to run.
      on_fold: called with each fold's result as soon as it is there.
      top: of the whole run, where what its seeds share goes; empty: `workdir`.

    Raises:
      UserError: a fold can't be run, or only with another input than those that are finished.
    """
    from mmer_jax.training import fold_params  # here, for it imports jax

    results = []
    for fold in folds.selected(config):
        folder = os.path.join(workdir, f"fold{fold.number}")
        path = os.path.join(folder, runs.RESULT)
        if processes.first_says(files.exists(path)):
            print(f"fold {fold.number}: finished before, read from {path}", flush=True)
            result = runs.read_result(folder, config)
        else:
            trainer = make_trainer()
            _check_input(trainer, top or workdir)
            result = run_fold(trainer, fold, folder, top or workdir)
            runs.write_result(result, folder)
        fold_params.clean_up(folder, config)
        results.append(result)
        if on_fold:
            on_fold(result)
    return results


def _check_input(trainer, workdir):
    """Raises UserError where a finished fold was given waveforms prepared in another way.

    `data.normalize=auto` did not always mean the same, and a table is of one kind of input.
    """
    from mmer_jax.models import factory

    if "audio" not in trainer.config.model.modalities:
        return
    now = trainer.collator.preprocessor.normalized
    for fold in runs.finished_folds(workdir):
        if factory.normalizes(factory.as_trained(fold.config, fold.result.normalized)) != now:
            words = {True: "normalised", False: "as they are"}
            raise UserError(
                f"{fold.folder} was trained with waveforms {words[not now]}, and the folds still "
                f"to run would get them {words[now]}: config.data.normalize="
                f"{trainer.config.data.normalize} means something else in this version, or for "
                "the encoder that is there now. Name another --workdir, there with "
                f"--config.data.normalize={'none' if now else 'utterance'} for the input of that "
                "fold."
            )


def run_fold(trainer, fold: Fold, folder: str, top: str) -> FoldResult:
    """Trains and tests one fold and writes its parameters; returns its result."""
    # Imported here: results are read and reported without jax.
    from mmer_jax.training import fold_params
    from mmer_jax.training.loop import train_fold

    trained = train_fold(trainer, fold, folder)
    fold_params.write(trainer, trained["state"], folder, top)
    return FoldResult(
        fold=fold.number,
        name=fold.name,
        seed=trainer.config.seed,
        label_names=list(trainer.corpus.label_names),
        dataset_version=trainer.corpus.version,
        normalized=trainer.collator.preprocessor.normalized,
        pretrained=trainer.pretrained,
        predictions=_rows(trainer, trained),
        **{k: trained[k] for k in ("counts", "chosen", "temperature", "text_sources", "history")},
    )


def _rows(trainer, trained):
    utterances, known = trained["utterances"], trained["train_texts"]
    label_names = trainer.corpus.label_names
    seen = recognized = [None] * len(utterances)
    if trained["answers"]["recognized"] and trainer.config.losses.ctc.weight:
        recognized = trained["answers"]["recognized"]
    if known is not None:
        seen = leakage.seen(known, [u.transcript for u in utterances]).tolist()
    found = scores(trained["answers"]["logits"], label_names)
    return [
        PredictionRow(
            utterance=u.id,
            session=u.session,
            speaker=u.speaker,
            dialog=u.dialog,
            label=label_names[u.label],
            **score,
            seen=is_seen,
            recognized=words,
            transcript=u.transcript,
        )
        for u, score, is_seen, words in zip(utterances, found, seen, recognized)
    ]
