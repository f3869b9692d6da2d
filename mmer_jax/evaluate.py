"""Tests a finished run again without transcripts: `python -m mmer_jax.evaluate WORKDIR`."""

import dataclasses
import os
import sys
import time

from mmer_jax import cli, files, processes
from mmer_jax.errors import UserError
from mmer_jax.metrics import reliability


def run(workdir: str, text_source: str = "ctc", data_dir: str = "") -> str:
    """Writes the results to `workdir/text_<source>`; what the command does, for notebooks.

    Args:
      workdir: of a finished run of `mmer_jax.main`.
      text_source: what the model reads: `gold`, `ctc` or `none`, see `reliability.TEXT_SOURCES`.
      data_dir: where the prepared dataset is now; empty: where the run had it.

    Returns:
      The table of results.md.

    Raises:
      UserError: no finished run there, or one that can't be tested so.
    """
    # Imported late: a wrong option is reported at once, without seconds of imports.
    from mmer_jax import runs

    finished = runs.read(workdir)
    _check(finished.config, text_source)
    from mmer_jax.reporting import report

    cli.cache_compilations()
    began = time.monotonic()
    results = test(finished, text_source, data_dir)
    out = os.path.join(finished.workdir, f"text_{text_source}")
    seconds = time.monotonic() - began
    return report.write(finished.config, results, out, seconds, processes.hardware(), text_source)


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


def main(argv: list[str] | None = None) -> int:
    """The command; 1 and one message where something is wrong."""
    parser = cli.Parser(prog="python -m mmer_jax.evaluate", description=__doc__)
    parser.add_argument("workdir", help="of a finished run of mmer_jax.main")
    parser.add_argument(
        "--text_source", default="ctc", help="what the model reads: gold, ctc (default) or none"
    )
    parser.add_argument(
        "--data_dir", default="", help="where the prepared dataset is, if it has moved"
    )
    args = parser.parse_args(argv)

    def work():
        table = run(args.workdir, args.text_source, args.data_dir)
        print(f"\n{table}\nWritten to {files.resolve(args.workdir)}/text_{args.text_source}")

    return cli.attempt(work, "nothing was written")


if __name__ == "__main__":
    sys.exit(main())
