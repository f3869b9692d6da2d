"""Draws and explains a finished run: `python -m mmer_jax.analyze WORKDIR`."""

import os
import sys

from mmer_jax import cli, files
from mmer_jax.errors import UserError

REPORT = "report.html"


def run(workdir: str, fold: int | None = None, utterance: str = "", out: str = "",
        data_dir: str = "", no_audio: bool = False) -> str:  # fmt: skip
    """Writes the plots and the page; what the command does, for notebooks.

    Args:
      workdir: of a finished run of `mmer_jax.main`.
      fold: number of the fold whose test utterances are examined; None: the one that tests
        `utterance`, or the first.
      utterance: id of the one whose attention is drawn; empty: a confident correct one.
      out: folder for the files; empty: `workdir/analysis`.
      data_dir: where the prepared dataset is now; empty: where the run had it.
      no_audio: whether the page is to hold no recordings.

    Returns:
      Path of the page.

    Raises:
      UserError: no finished run there, no such fold or utterance, or `out` can't be written.
    """
    # Imported late: a wrong option is reported at once, without seconds of imports.
    from mmer_jax import runs
    from mmer_jax.reporting import analysis, report

    _say(f"reading the run in {workdir} ...")
    finished = runs.read(workdir)
    examined = _fold(finished, fold, utterance)
    shown = utterance or analysis.default_utterance(examined)
    features, reason = _features(examined, shown, data_dir)
    _say(f"drawing {report.plural(len(finished.folds), 'fold')} ...")
    sounds, silent = {}, "left out by --no_audio." if no_audio else "the dataset has none of these."
    if not no_audio:
        try:
            sounds = analysis.recordings(finished, data_dir)
        except UserError as e:
            silent = str(e)
    page, content = analysis.render(finished, examined, features, reason, sounds, silent)
    out = files.resolve(out) if out else os.path.join(finished.workdir, "analysis")
    return _write(out, content | {REPORT: page})


def _say(text):
    print(text, flush=True)


def _fold(finished, number, utterance):
    """The fold to examine, of the first seed."""
    folds = {f.result.fold: f for f in finished.folds if f.result.seed == finished.seeds[0]}
    if number is not None and number not in folds:
        raise UserError(
            f"--fold is {number}; the finished folds are: {', '.join(map(str, folds))}."
        )
    wanted = [f for n, f in folds.items() if number in (None, n)]
    for fold in wanted:
        if not utterance or utterance in {p.utterance for p in fold.result.predictions}:
            return fold
    of = f"fold {number}" if number is not None else "any finished fold"
    some = ", ".join(p.utterance for p in wanted[0].result.predictions[:3])
    raise UserError(
        f"--utterance is {utterance!r}, which is no test utterance of {of}; they are called "
        f"{some}, ... (see predictions.csv)."
    )


def _features(fold, utterance, data_dir):
    """(features, "") of the fold's test utterances, or (None, why they can't be computed)."""
    _say("loading the model; this takes a while ...")
    # Here, for it imports jax: plots of results come without it.
    from mmer_jax.reporting import embeddings

    try:
        return embeddings.extract(fold, utterance, data_dir), ""
    except UserError as e:
        _say(f"left out embeddings, attention and gate: {e}")
        return None, (
            f"{e}\nA dataset that has moved is named by --data_dir; relative folders of the run's "
            "options count from where this command is started."
        )


def _write(out, content):
    try:
        for name, data in content.items():
            files.replace_file(os.path.join(out, name), data)
    except OSError as e:
        raise UserError(f"{out} can't be written: {e}. Name another folder by --out.") from e
    return os.path.join(out, REPORT)


def main(argv: list[str] | None = None) -> int:
    """The command; 1 and one message where something is wrong."""
    parser = cli.Parser(prog="python -m mmer_jax.analyze", description=__doc__)
    parser.add_argument("workdir", metavar="WORKDIR", help=cli.RUN)
    parser.add_argument(
        "--fold", type=int, help="whose test utterances are examined; default: the first"
    )
    parser.add_argument(
        "--utterance",
        default="",
        metavar="ID",
        help="whose attention is drawn; default: a confident correct one",
    )
    parser.add_argument("--out", default="", help="folder for the files; default: WORKDIR/analysis")
    parser.add_argument(
        "--data_dir", default="", help="where the prepared dataset is, if it has moved"
    )
    parser.add_argument(
        "--no_audio", action="store_true", help="leave the corpus's recordings out of the page"
    )
    args = parser.parse_args(argv)

    def work():
        path = run(**vars(args))
        _say(f"Written to {path}, and each plot beside it, as PNG and PDF.")

    return cli.attempt(work, "nothing was written")


if __name__ == "__main__":
    sys.exit(main())
