"""Folds of a run, one after another: finished ones are read, the others are run."""

import contextlib
import os
import re

import jax

from mmer_jax import configuration, files, losses, processes, runs
from mmer_jax.data import folds, text
from mmer_jax.data.alphabet import Alphabet
from mmer_jax.data.corpus import Corpus
from mmer_jax.data.folds import Fold
from mmer_jax.data.preprocessing import SAMPLE_RATE
from mmer_jax.errors import UserError
from mmer_jax.models import factory
from mmer_jax.results import FoldResult, PredictionRow, scores
from mmer_jax.training import checkpoint, sharding
from mmer_jax.training.evaluation import measure_heldout, predict
from mmer_jax.training.loop import selected, train
from mmer_jax.training.optimizer import merge
from mmer_jax.training.trainer import Trainer

SHOWN = 10  # folds that can't be run, in a message
MOST_LACKING = 0.02  # share of the transcripts' letters that CTC may leave out without a warning


def run(config, workdir: str, on_fold=None) -> tuple[list[FoldResult], bool]:
    """Results of the config's seeds and folds, each stored in its folder as soon as it is there.

    One trainer, made when it is first needed, serves all seeds.

    Args:
      config: a validated config.
      workdir: see `runs.open_workdir`.
      on_fold: called with each fold's result.

    Returns:
      The results, and whether there was anything left to compute.

    Raises:
      UserError: a fold can't be run, or only with another input than those that are finished, or
        another process runs it.
    """
    results, trainer = [], None
    for one, folder in _by_seed(config, workdir):
        if folder != workdir:
            runs.open_workdir(folder, one)
        for number, fold in _folds(one, folder).items():
            place = os.path.join(folder, f"fold{number}")
            with _alone(place):
                result = _read_finished(place, one)
                if result is None:
                    trainer = trainer or make_trainer(one, *_stored_alphabet(workdir))
                    trainer.start_from(configuration.of_fold(one, number))
                    _check_input(trainer, workdir)
                    result = run_fold(trainer, fold, place, workdir)
                    runs.write_result(result, place)
                checkpoint.clean_up(place, one)
            results.append(result)
            if on_fold:
                on_fold(result)
    return results, trainer is not None


def _alone(place):
    """Keeps other runs out of a fold's folder; the first process of one does it for all."""
    if files.is_remote(place) or not processes.is_first():
        return contextlib.nullcontext()
    folder, name = os.path.split(place)
    return files.lock(
        os.path.join(folder, f".{name}.lock"),
        f"Another process is training {name} in {folder}. Wait for it and run the same command "
        "again, name other folds, or another --workdir.",
    )


def _by_seed(config, workdir):
    """(config, folder) of each seed's run."""
    if not config.seeds:
        return [(config, workdir)]
    configs = []
    for seed in config.seeds:
        one = config.copy_and_resolve_references()
        one.seed, one.seeds = seed, ()
        configs.append((one, os.path.join(workdir, f"seed{seed}")))
    return configs


def _folds(config, folder):
    """Number -> fold; without the dataset, None for those that the config names or finished."""
    try:
        corpus = Corpus.of(config)
    except UserError:
        numbers = config.folds or [f.result.fold for f in runs.finished_folds(folder)]
        if not numbers:
            raise
        return dict.fromkeys(numbers)
    return {f.number: f for f in folds.selected(corpus.utterances, config)}


def _read_finished(folder, config):
    path = os.path.join(folder, runs.RESULT)
    if not processes.first_says(files.exists(path)):
        return None
    print(f"{os.path.basename(folder).replace('fold', 'fold ')}: finished before, read from {path}",
          flush=True)  # fmt: skip
    return runs.read_result(folder, config)


def _stored_alphabet(workdir):
    """[] or that of the finished folds, which is that of all."""
    return [Alphabet.from_json(f.result.alphabet) for f in runs.finished_folds(workdir)[:1]]


def make_trainer(config, alphabet: Alphabet | None = None) -> Trainer:
    """A trainer of the config's corpus; says what it found in the corpus.

    Args:
      config, alphabet: see `Trainer.for_corpus`.

    Raises:
      UserError: see `Trainer.for_corpus`; or some of the config's folds can't be run: names all.
    """
    print("reading the corpus and building the model ...", flush=True)
    trainer = Trainer.for_corpus(config, alphabet)
    f = trainer.collator
    edges = ", ".join(f"{n / SAMPLE_RATE:.1f}" for n in f.edges)
    print(
        f"{len(f.corpus.utterances)} utterances in buckets of {edges} s, "
        f"{100 * f.choice.padding:.1f} % padding; running on {processes.hardware()}",
        flush=True,
    )
    for about in (_about_labels, _about_letters, _about_frames, _about_views):
        for line in about(trainer):
            print(line, flush=True)
    limit = config.data.max_padding
    if len(f.edges) < f.choice.wanted:
        print(
            f"config.data.max_padding={limit} asks for {f.choice.wanted} buckets: the others would "
            "take longer to compile than they save.",
            flush=True,
        )
    if not config.data.buckets and not f.choice.reached:
        views = "the two views of an utterance differ too much in length."
        rows = f"too few utterances are of like length for batches of {config.data.batch_size}."
        reason = views if f.choice.floor > limit else rows
        print(f"config.data.max_padding={limit} is out of reach here: {reason}", flush=True)
    return trainer


def _about_labels(trainer):
    """What is to be known of labels and folds, line by line; an error if a fold can't be run."""
    corpus, config, problems, few = trainer.corpus, trainer.config, [], []
    if corpus.left_out:
        counts = ", ".join(f"{name} {count}" for name, count in corpus.left_out.items())
        yield f"Left out, for their labels are no classes: {counts}."
    for name in dict.fromkeys(u.corpus for u in corpus.utterances if u.corpus):
        labels = [corpus.label_names[u.label] for u in corpus.utterances if u.corpus == name]
        counts = ", ".join(f"{label} {labels.count(label)}" for label in corpus.label_names)
        yield f"{name}: {len(labels)} utterances: {counts}."
    for fold in folds.selected(corpus.utterances, config):
        try:
            split = trainer.split(fold)
        except UserError as e:
            if str(e) not in problems:  # what every fold lacks is said once
                problems.append(str(e))
            continue
        for label, name in enumerate(corpus.label_names):
            count = sum(u.label == label for u in split.test)
            if count < 2:
                few.append(f"{fold.name} has {count} of {name}")
        shared = split.shared_speakers
        if shared:
            yield (
                f"Warning: {len(shared)} of the speakers that {fold.name} tests are trained on as "
                "well: its figures are no estimate for new speakers."
            )
    if problems:
        more = [f"... and {len(problems) - SHOWN} more folds"] if len(problems) > SHOWN else []
        raise UserError("\n".join(problems[:SHOWN] + more))
    if few:
        yield f"Test utterances, too few to say anything of the class: {'; '.join(few)}."


def _about_letters(trainer):
    """What the CTC head can't write of the transcripts, line by line."""
    if not trainer.config.losses.ctc.weight or "audio" not in trainer.config.model.modalities:
        return
    transcripts = [u.transcript for u in trainer.corpus.utterances]
    lacking, share = trainer.alphabet.lacking(transcripts)
    shown = " ".join(list(lacking)[:10]) + (" ..." if len(lacking) > 10 else "")
    if not trainer.alphabet.is_english:
        left_out = f"; left out: {len(lacking)} rare ones ({shown}), " if lacking else ""
        part = f"{100 * share:.2g} % of the text" if lacking else ""
        yield (
            f"CTC writes {len(trainer.alphabet.characters)} characters, those of the transcripts"
            f"{left_out}{part}."
        )
    elif share > MOST_LACKING:
        yield (
            f"Warning: {100 * share:.0f} % of the transcripts' letters and digits are not in the "
            f"English alphabet that CTC writes ({shown}) and are left out. The corpus' own "
            "characters: --config.losses.ctc.alphabet=corpus."
        )


def _about_frames(trainer):
    """How many transcripts the means over frames can't spell; an error if it is most."""
    config, p = trainer.config, trainer.collator.preprocessor
    spells = trainer.model.audio_encoder is not None and config.losses.ctc.weight
    if config.audio.subsample == 1 or not spells:
        return
    lost = total = 0
    for u in trainer.corpus.utterances:
        symbols = p.alphabet.encode(u.transcript)
        # As the CTC loss counts: a doubled symbol has a blank between.
        needed = len(symbols) + int((symbols[1:] == symbols[:-1]).sum())
        total += needed > 0
        lost += needed > -(-min(u.samples, p.max_samples) // trainer.model.frame_samples)
    text = (
        f"With config.audio.subsample={config.audio.subsample}, {lost} of {total} transcripts have "
        "more symbols than their recordings frames"
    )
    if 2 * lost > total:
        raise UserError(
            f"{text}, and CTC would leave them out. Train without it, "
            "--config.losses.ctc.weight=0.0, or take the mean of fewer frames."
        )
    if lost:
        yield f"{text}: CTC leaves them out."


def _about_views(trainer):
    """What is to be known of the corpus's augmented views, line by line."""
    config, collator = trainer.config, trainer.collator
    utterances, modalities = collator.corpus.utterances, tuple(config.model.modalities)
    texts, recordings = (
        [u.has_view((one,)) for u in utterances] for one in configuration.MODALITIES[::-1]
    )
    both = sum(a and b for a, b in zip(texts, recordings))
    if any(texts) or any(recordings):
        yield (
            f"Augmented views: {sum(texts)} utterances have a text, {sum(recordings)} a "
            f"recording, {both} both."
        )
    for loss in () if collator.augmented else losses.of_two_views(config.losses):
        needed = {"audio": "recordings", "text": "texts"}
        yield (
            f"{losses.LOSSES[loss].title.capitalize()} (losses.{loss}) is off: the corpus has no "
            f"augmented {' with '.join(needed[name] for name in modalities[::-1])} to train on."
        )
    voices = [r.voice for u in utterances for r in u.augmented]
    if collator.augmented and "audio" in modalities and not all(voices):
        yield (
            f"Warning: {voices.count('')} of {len(voices)} augmented recordings do not say whose "
            "voice they have; a test speaker's may be among them. Say it in the column `voice` of "
            "the table in augmented/ and build the dataset again."
        )


def _check_input(trainer, workdir):
    """Raises UserError where a finished fold was given waveforms prepared in another way.

    `data.normalize=auto` did not always mean the same, and a table is of one kind of input.
    """
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


def run_fold(trainer: Trainer, fold: Fold, folder: str, top: str) -> FoldResult:
    """Trains on a fold, resuming an earlier run, tests the selected epoch, writes its parameters.

    With `config.refit` a second phase follows, on the validation utterances as well, for as many
    steps as were selected and on the same schedule; its last state is tested.

    Args:
      trainer: of the run, with a corpus.
      fold: which utterances are tested.
      folder: for checkpoints, metrics and parameters; made if missing.
      top: the run's workdir, above its seeds.

    Raises:
      UserError: training diverged, or a checkpoint can't be read.
    """
    config, split = trainer.config, trainer.split(fold)
    title = f"fold {fold.number}"
    state, history, total = train(trainer, title, folder, split.train, split.validation)
    chosen = selected(history)
    trained = split.train if chosen["step"] else ()
    sources = {}
    if config.selection == "heldout":
        sources = measure_heldout(trainer, state, split.validation)
    refit = config.refit and chosen["step"]
    if refit:
        trained = split.train + split.validation
        place, steps = os.path.join(folder, checkpoint.REFIT), chosen["step"]
        state, _, _ = train(trainer, f"{title}, refit", place, trained, None, steps, total)
    if config.init_from or refit:  # it was, or may have been, trained on what it was measured with
        sources = {name: found | {"temperature": None} for name, found in sources.items()}
    outputs = predict(trainer, state, split.test)
    predictions = prediction_rows(trainer, outputs, split.test, trained)
    checkpoint.write_params(trainer, state, folder, top)
    return FoldResult(
        fold=fold.number,
        name=fold.name,
        protocol=fold.protocol,
        heldout=split.heldout,
        shared_speakers=split.shared_speakers,
        seed=config.seed,
        label_names=list(trainer.label_names),
        counts={
            "train": len(split.train),
            "select": len(split.validation),
            "test": len(split.test),
            "trained": len(trained),
        },
        chosen=chosen,
        temperature=next((found["temperature"] for found in sources.values()), None),
        text_sources=sources,
        dataset_version=trainer.corpus.version,
        normalized=trainer.collator.preprocessor.normalized,
        pretrained=trainer.pretrained,
        languages=sorted({u.language for u in split.train} - {""}),
        alphabet=trainer.alphabet.to_json(),
        layer_weights=_layer_weights(state),
        history=history,
        predictions=predictions,
    )


def _layer_weights(state):
    logits = merge(state.params, state.frozen).get("audio_layers")
    weights = logits and jax.nn.softmax(sharding.gather(logits["weights"]))
    return weights if weights is None else [round(float(x), 4) for x in weights]


def prediction_rows(trainer: Trainer, outputs: dict, utterances,
                    trained=None) -> list[PredictionRow]:  # fmt: skip
    """What `evaluation.predict` gave for utterances, as it is stored.

    Args:
      trainer, utterances: see there.
      outputs: what it gave.
      trained: utterances that the state was trained on; None: not known.
    """
    config = trainer.config
    seen = recognized = [None] * len(utterances)
    if outputs["recognized"] and config.losses.ctc.weight:
        recognized = outputs["recognized"]
    # What another model was trained on is not known.
    if trained is not None and not config.init_from:
        known = folds.training_texts(trained, trainer.collator.augmented)
        seen = [text.normalized(u.transcript) in known for u in utterances]
    return [
        PredictionRow(
            utterance=u.id,
            session=int(u.session) if re.fullmatch(r"[1-9][0-9]*", u.session) else u.session,
            speaker=u.speaker,
            dialog=u.dialog,
            label=trainer.label_names[u.label],
            **score,
            seen=is_seen,
            recognized=words,
            transcript=u.transcript,
            corpus=u.corpus,
        )
        for u, score, is_seen, words in zip(
            utterances, scores(outputs["logits"], trainer.label_names), seen, recognized
        )
    ]
