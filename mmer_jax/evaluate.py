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
        label_map: dict[str, str] | None = None) -> str:  # fmt: skip
    """Writes the results to `folder(...)` of the workdir; what the command does, for notebooks.

    Args:
      workdir: of a finished run of `mmer_jax.main`.
      text_source: what the model reads: `gold`, `ctc` or `none`, see `reliability.TEXT_SOURCES`;
        empty: `ctc`, or on another corpus its transcripts where there are some.
      data_dir: where the prepared dataset is now; empty: where the run had it.
      data: name and builder config of another corpus, as in `speech_emotion/emodb`, all of which
        every finished fold's model is tested on; empty: the run's own test utterances.
      label_map: label of that corpus -> class of the run; others keep their name, and utterances
        whose label is then no class are left out.

    Returns:
      The table of results.md.

    Raises:
      UserError: no finished run there, or one that can't be tested so.
    """
    # Imported late: a wrong option is reported at once, without seconds of imports.
    from mmer_jax import runs

    if label_map and not data:
        raise UserError("--label_map is of another corpus; name it by --data.")
    finished = runs.read(workdir)
    if text_source or not data:
        _check(finished.config, text_source or "ctc")
    from mmer_jax.reporting import across, report

    cli.cache_compilations()
    began, tested_on, source = time.monotonic(), None, text_source or "ctc"
    if data:
        corpus = across.open_corpus(finished, data, data_dir, label_map)
        source = across.resolve_text_source(finished.config, corpus, text_source)
        results = across.test(finished, corpus, source, data_dir)
        tested_on = across.facts(finished, corpus, label_map, source, results)
    else:
        results = test(finished, source, data_dir)
    out, seconds = folder(workdir, text_source, data), time.monotonic() - began
    hardware = processes.hardware()
    return report.write(finished.config, results, out, seconds, hardware, source, tested_on)


def folder(workdir: str, text_source: str = "", data: str = "") -> str:
    """Where `run` writes: `text_<source>`, or `on_<corpus>` and below it `text_<source>`."""
    from mmer_jax.data.corpus import short_name

    parts = [f"on_{short_name(data).replace('/', '_')}"] if data else []
    if not data or text_source not in ("", "gold"):
        parts.append(f"text_{text_source or 'ctc'}")
    return os.path.join(files.resolve(workdir), *parts)


def test(finished, text_source: str, data_dir: str = "") -> list:
    """Results of every finished fold with other texts, from the checkpoints tested before.

    Args:
      finished: see `runs.read`.
      text_source: one of `reliability.text_sources` of its config.
      data_dir: see `run`.

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
        texts = reliability.texts(text_source, utterances, recognized)
        logits = predict(trainer, state, utterances, texts)["logits"]
        new = scores(logits, result.label_names)
        results.append(dataclasses.replace(
            result,
            predictions=[dataclasses.replace(p, **s) for p, s in zip(result.predictions, new)],
            temperature=result.text_sources.get(text_source, {}).get("temperature"),
        ))  # fmt: skip
    return results


def _check(config, source):
    """Raises UserError where a run can't be tested with texts from `source`."""
    choices = reliability.TEXT_SOURCES
    if source not in choices:
        raise UserError(f"--text_source is {source!r}; the choices are: {', '.join(choices)}.")
    if "text" not in config.model.modalities:
        raise UserError("This run's model reads no text: its results are the same without.")
    if source not in reliability.text_sources(config):
        reason = "has text alone and so no CTC head to write a transcript"
        if "audio" in config.model.modalities:
            reason = "was trained without CTC, so it can't write a transcript"
        raise UserError(f"This run's model {reason}; the choices for it are: gold, none.")


def _label_map(text):
    """The dictionary on a command line."""
    try:
        value = ast.literal_eval(text)
        if isinstance(value, dict) and all(isinstance(x, str) for kv in value.items() for x in kv):
            return value
    except (SyntaxError, ValueError):
        pass
    raise argparse.ArgumentTypeError(
        f'{text!r} is no map of labels to classes; expected, in quotes, {{"exc": "hap"}}'
    )


def main(argv: list[str] | None = None) -> int:
    """The command; 1 and one message where something is wrong."""
    parser = cli.Parser(prog="python -m mmer_jax.evaluate", description=__doc__)
    parser.add_argument("workdir", help="of a finished run of mmer_jax.main")
    parser.add_argument(
        "--text_source",
        default="",
        help="what the model reads: gold, ctc or none; default ctc, with --data gold where the "
        "corpus has transcripts",
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
        place = folder(args.workdir, args.text_source, args.data)
        print(f"\n{table}\nWritten to {place}")

    return cli.attempt(work, "nothing was written")


if __name__ == "__main__":
    sys.exit(main())
