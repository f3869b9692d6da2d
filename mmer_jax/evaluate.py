"""Tests a finished run again without transcripts: `python -m mmer_jax.evaluate WORKDIR`."""

import os
import sys
import time

from mmer_jax import cli, files, processes
from mmer_jax.errors import UserError
from mmer_jax.metrics.reliability import TEXT_SOURCES, text_sources


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

    found = runs.read(workdir)
    _check(found.config, text_source)
    from mmer_jax.reporting import report, transcript_ablation

    cli.cache_compilations()
    began = time.monotonic()
    results = transcript_ablation.evaluate(found, text_source, data_dir)
    out = os.path.join(found.workdir, f"text_{text_source}")
    seconds = time.monotonic() - began
    return report.write(found.config, results, out, seconds, processes.hardware(), text_source)


def _check(config, source):
    """Raises UserError where a run can't be tested with texts from `source`."""
    if source not in TEXT_SOURCES:
        raise UserError(f"--text_source is {source!r}; the choices are: {', '.join(TEXT_SOURCES)}.")
    if "text" not in config.model.modalities:
        raise UserError("This run's model reads no text: its results are the same without.")
    if source not in text_sources(config):
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
