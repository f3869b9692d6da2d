"""Tests a finished run again, without transcripts or on another corpus.

`python -m mmer_jax.evaluate WORKDIR`, see its --help.
"""

import argparse
import ast
import dataclasses
import os
import sys
import time

from mmer_jax import cli, files, processes
from mmer_jax.errors import UserError
from mmer_jax.metrics import reliability


def run(workdir: str, text_source: str = "", data_dir: str = "", data: str = "",
        label_map: dict[str, str] | None = None, transcripts: str = "") -> str:  # fmt: skip
    """Writes the results to `folder(...)` of the workdir; what the command does, for notebooks.

    Args:
      workdir: of a finished run of `mmer_jax.main`.
      text_source: what the model reads: `gold`, `asr`, `ctc` or `none`, see
        `reliability.TEXT_SOURCES`; empty: `ctc`, or on another corpus its transcripts where there
        are some.
      data_dir: where the prepared dataset is now; empty: where the run had it.
      data: name and builder config of another corpus, as in `speech_emotion/emodb`, all of which
        every finished fold's model is tested on; empty: the run's own test utterances.
      label_map: label of that corpus -> class of the run; others keep their name, and utterances
        whose label is then no class are left out.
      transcripts: of `asr`, which transcript file, see `transcripts.read`; empty: that of the run,
        or the only one beside the corpus.

    Returns:
      The table of results.md.

    Raises:
      UserError: no finished run there, or one that can't be tested so.
    """
    # Imported late: a wrong option is reported at once, without seconds of imports.
    from mmer_jax import runs

    if label_map and not data:
        raise UserError("--label_map is of another corpus; name it by --data.")
    if transcripts and text_source != "asr":
        raise UserError("--transcripts is what --text_source=asr reads; give both or neither.")
    finished = runs.read(workdir)
    if text_source or not data:
        _check(finished.config, text_source or "ctc")
    from mmer_jax.reporting import across, report

    cli.cache_compilations()
    began, tested_on, source = time.monotonic(), None, text_source or "ctc"
    place = data_dir or finished.config.data.dir
    if data:
        corpus = across.open_corpus(finished, data, data_dir, label_map)
        source = across.resolve_text_source(finished.config, corpus, text_source)
        asr = _transcripts(source, transcripts, place, corpus)
        results = across.test(finished, corpus, source, data_dir, asr)
        tested_on = across.facts(finished, corpus, label_map, source, results)
    else:
        asr = _transcripts(source, transcripts, place, config=finished.config)
        results = test(finished, source, data_dir, asr)
    out, seconds = folder(workdir, text_source, data), time.monotonic() - began
    hardware = processes.hardware()
    return report.write(finished.config, results, out, seconds, hardware, source, tested_on, asr)


def _transcripts(source, name, data_dir, corpus=None, config=None):
    """The recogniser's, of a corpus or that of a run; None with another source."""
    if source != "asr":
        return None
    from mmer_jax.data import transcripts
    from mmer_jax.data.corpus import Corpus

    if config is not None:
        config = config.copy_and_resolve_references()
        config.data.dir, name = data_dir, name or config.data.asr_transcripts
        corpus = Corpus.of(config)
    return transcripts.read(name, data_dir, corpus)


def folder(workdir: str, text_source: str = "", data: str = "") -> str:
    """Where `run` writes: `text_<source>`, or `on_<corpus>` and below it `text_<source>`."""
    from mmer_jax.data.corpus import short_name

    parts = [f"on_{short_name(data).replace('/', '_')}"] if data else []
    if not data or text_source not in ("", "gold"):
        parts.append(f"text_{text_source or 'ctc'}")
    return os.path.join(files.resolve(workdir), *parts)


def test(finished, text_source: str, data_dir: str = "", asr=None) -> list:
    """Results of every finished fold with other texts, from the checkpoints tested before.

    Args:
      finished: see `runs.read`.
      text_source: one of `reliability.text_sources` of its config, or `asr`.
      data_dir: see `run`.
      asr: the corpus' `Transcripts`, read with the source `asr`.

    Returns:
      `FoldResult`s; `temperature` is that of the source, None where the run fitted none for it.

    Raises:
      UserError: see `embeddings.open_fold`.
    """
    from mmer_jax.reporting import embeddings
    from mmer_jax.results import scores
    from mmer_jax.training.evaluation import predict

    trainer, results = None, []
    for fold in finished.folds:
        result = fold.result
        print(f"seed {result.seed}, fold {result.fold} ...", flush=True)
        trainer, state, utterances = embeddings.open_fold(fold, data_dir, trainer)
        recognized = [p.recognized for p in result.predictions]
        texts = reliability.texts(text_source, utterances, recognized, asr and asr.texts)
        logits = predict(trainer, state, utterances, texts)["logits"]
        new = scores(logits, result.label_names)
        name = asr.name if asr else ""
        held_out = reliability.held_out(result.text_sources, text_source, True, name)
        results.append(dataclasses.replace(
            result,
            predictions=[dataclasses.replace(p, **s) for p, s in zip(result.predictions, new)],
            temperature=held_out.get("temperature"),
        ))  # fmt: skip
    return results


def _check(config, source):
    """Raises UserError where a run can't be tested with texts from `source`."""
    choices = reliability.TEXT_SOURCES
    if source not in choices:
        raise UserError(f"--text_source is {source!r}; the choices are: {', '.join(choices)}.")
    if "text" not in config.model.modalities:
        raise UserError("This run's model reads no text: its results are the same without.")
    if source not in ("asr", *reliability.text_sources(config)):
        reason = "has text alone and so no CTC head to write a transcript"
        if "audio" in config.model.modalities:
            reason = "was trained without CTC, so it can't write a transcript"
        raise UserError(f"This run's model {reason}; the choices for it are: gold, asr, none.")


def _label_map(text):
    """The dictionary on a command line."""
    try:
        value = ast.literal_eval(text)
        if isinstance(value, dict) and all(isinstance(x, str) for kv in value.items() for x in kv):
            return value
    except (SyntaxError, TypeError, ValueError, RecursionError, MemoryError):
        pass
    raise argparse.ArgumentTypeError(
        f'{text!r} is no map of labels to classes; expected, in quotes, {{"exc": "hap"}}'
    )


def main(argv: list[str] | None = None) -> int:
    """The command; 1 and one message where something is wrong."""
    parser = cli.Parser(prog="python -m mmer_jax.evaluate", description=__doc__)
    parser.add_argument("workdir", metavar="WORKDIR", help=cli.RUN)
    parser.add_argument(
        "--text_source",
        default="",
        help="what the model reads: gold, asr, ctc or none; default ctc, with --data gold where "
        "the corpus has transcripts",
    )
    parser.add_argument(
        "--transcripts",
        default="",
        help="with asr, the transcript file that mmer_jax.transcribe wrote: its name beside the "
        "corpus, or a path; default: the run's, or the only one there",
    )
    parser.add_argument(
        "--data_dir", default="", help="where the prepared dataset is, if not where the run had it"
    )
    parser.add_argument(
        "--data",
        default="",
        help="another corpus, all of which each fold's model is tested on: speech_emotion/emodb",
    )
    parser.add_argument(
        "--label_map",
        type=_label_map,
        help='labels of that corpus that are other classes of the run, such as \'{"exc": "hap"}\'',
    )
    args = parser.parse_args(argv)

    def work():
        table = run(**vars(args))
        from mmer_jax.reporting import report

        place = folder(args.workdir, args.text_source, args.data)
        print(f"\n{report.aligned(table)}\nWritten to {place}")

    return cli.attempt(work, "nothing was written")


if __name__ == "__main__":
    sys.exit(main())
