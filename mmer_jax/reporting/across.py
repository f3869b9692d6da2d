"""A finished run tested on all utterances of another corpus than its own."""

import dataclasses

import numpy as np

from mmer_jax import configuration, files
from mmer_jax.data.corpus import Corpus, recording
from mmer_jax.data.prepared import natural
from mmer_jax.data.preprocessing import SAMPLE_RATE
from mmer_jax.errors import UserError
from mmer_jax.metrics import classification, reliability
from mmer_jax.reporting import embeddings
from mmer_jax.results import FoldResult
from mmer_jax.runs import Run
from mmer_jax.training.cross_validation import prediction_rows
from mmer_jax.training.evaluation import predict


def open_corpus(run: Run, dataset: str, data_dir: str = "", label_map=None) -> Corpus:
    """A corpus with the classes of a run's models, in their order.

    Args:
      run: a finished one.
      dataset: name and builder config, as in `speech_emotion/emodb`.
      data_dir: where it is prepared; empty: where the run's own is.
      label_map: label of the dataset -> class of the run.

    Raises:
      UserError: it is not there, has less than two of the classes, or is what the run was trained
        on.
    """
    config, names = run.config, tuple(run.label_names)
    if not all(dataset.partition("/")):
        raise UserError(
            f"--data is {dataset!r}; expected a prepared dataset's name and builder config, for "
            "example speech_emotion/emodb."
        )
    place = data_dir or config.data.dir
    is_same = files.resolve(place) == files.resolve(config.data.dir)
    corpus = Corpus(place, dataset, names, label_map, given=True)
    tested = {
        recording(p.utterance, p.speaker, p.transcript, p.corpus)
        for fold in run.folds
        for p in fold.result.predictions
    }
    known = [recording(u.id, u.speaker, u.transcript, "") in tested for u in corpus.utterances]
    if any(known) or (is_same and dataset in configuration.datasets(config)):
        found = f" ({sum(known)} of its utterances are in the run's tables)" if any(known) else ""
        raise UserError(
            f"{dataset} is what this run was trained on{found}: all but one of its models know any "
            "utterance of it, and the figures would mean nothing. The run's own results.md has "
            "them as they should be, each utterance tested by the models that do not know it."
        )
    return corpus


def resolve_text_source(config, corpus: Corpus, wanted: str) -> str:
    """What the models read of a corpus, one of `reliability.TEXT_SOURCES`.

    Args:
      config: of the run.
      corpus: tested on.
      wanted: by the user; "": the transcripts, where there are some.

    Raises:
      UserError: there are none.
    """
    if wanted == "gold" and not any(u.transcript for u in corpus.utterances):
        raise UserError(
            f"--text_source=gold reads transcripts, and {corpus.datasets[0]} has none. Use none, "
            "or ctc where the model was trained with CTC."
        )
    if wanted or "text" not in config.model.modalities:
        return wanted or "gold"
    return "gold" if any(u.transcript for u in corpus.utterances) else "none"


def test(run: Run, corpus: Corpus, text_source: str = "gold",
         data_dir: str = "") -> list[FoldResult]:  # fmt: skip
    """Results of the model of every finished fold on all utterances of a corpus.

    Args:
      run: a finished one.
      corpus, data_dir: see `open_corpus`.
      text_source: see `resolve_text_source`.

    Raises:
      UserError: see `embeddings.open_fold`.
    """
    trainer, results = None, []
    for fold in run.folds:
        result, uses_text = fold.result, "text" in fold.config.model.modalities
        print(f"seed {result.seed}, fold {result.fold} ...", flush=True)
        trainer, state, utterances = embeddings.open_fold(fold, data_dir, trainer, corpus)
        outputs, texts = {"recognized": None}, None
        if not uses_text or text_source in ("gold", "ctc"):
            outputs = predict(trainer, state, utterances)
        if uses_text and text_source != "gold":
            texts = reliability.texts(text_source, utterances, outputs["recognized"])
            outputs = predict(trainer, state, utterances, texts)
        measured = result.text_sources.get(text_source, {}).get("temperature")
        results.append(dataclasses.replace(
            result,
            shared_speakers=[],
            counts=result.counts | {"test": len(utterances)},
            temperature=measured if uses_text else result.temperature,
            dataset_version=corpus.version,
            predictions=prediction_rows(trainer, outputs, utterances),
        ))  # fmt: skip
    return results


def facts(run: Run, corpus: Corpus, label_map, text_source: str, results) -> dict:
    """What a table must say of the corpus, for `RunResult.tested_on`.

    Args:
      run, corpus, text_source: see `test`.
      label_map: see `open_corpus`.
      results: of `test`.

    Returns:
      `dataset`, `version`, `languages`, `utterances`, `label_map`, `left_out` (see `Corpus`) and
      `missing` (classes of the run without an utterance) of the corpus; `trained_on` (datasets) and
      `trained_languages` of the run; `notes`, sentences on what makes the figures another quantity;
      `ensemble`, metrics, `confusion` and number of `models` of the mean of all models'
      probabilities, None for one model.
    """
    utterances, config = corpus.utterances, run.config
    there, trained_on = {u.label for u in utterances}, configuration.datasets(config)
    # IEMOCAP's older datasets do not say it.
    english = {"en"} if all(name.startswith("iemocap/") for name in trained_on) else set()
    about = {
        "dataset": corpus.datasets[0],
        "version": corpus.version,
        "trained_on": list(trained_on),
        "utterances": len(utterances),
        "label_map": dict(label_map or {}),
        "left_out": corpus.left_out,
        "missing": [n for i, n in enumerate(corpus.label_names) if i not in there],
        "languages": sorted({u.language for u in utterances} - {""}, key=natural),
        "trained_languages": sorted(english.union(*(r.languages for r in results)), key=natural),
    }
    notes = _notes(about, config, utterances, text_source)
    return about | {"notes": list(notes), "ensemble": _ensemble(results)}


def _notes(about, config, utterances, text_source):
    there = len({u.label for u in utterances})
    if about["missing"]:
        yield (
            f"No utterance there is of {', '.join(about['missing'])}: UA is the mean over the other"
            f" {there} classes. The models choose among all {there + len(about['missing'])}; in "
            "macro-F1 a class that is predicted and not there counts as 0."
        )
    spoken, trained = about["languages"], about["trained_languages"]
    reads = "text" in config.model.modalities and text_source == "gold"
    if trained and set(spoken) - set(trained):
        words = "; the text encoder reads its words all the same" if reads else ""
        yield (
            f"Another language: {', '.join(spoken)}, where the models were trained on "
            f"{', '.join(trained)}{words}."
        )
    silent = sum(not u.transcript for u in utterances)
    if reads and silent:
        yield f"{silent} utterances have no transcript: the models read no words of them."
    longer = sum(u.samples > SAMPLE_RATE * config.data.max_seconds for u in utterances)
    if longer and "audio" in config.model.modalities:
        yield f"{longer} utterances are longer than {config.data.max_seconds:g} s and cut there."
    if config.init_from:
        yield "The run started from another model, and whether that one knows them is not known."


def _ensemble(results):
    if len(results) < 2:
        return None
    mean = np.mean([r.probabilities() for r in results], axis=0)
    counts = classification.confusion(results[0].labels, mean.argmax(-1), mean.shape[1])
    rates = classification.rates(counts)
    return {"models": len(results), **rates, "confusion": counts.tolist()}
