"""Predicts the emotion of recordings: `python -m mmer_jax.predict CHECKPOINT FILES...`."""

import argparse
import sys
import time

from mmer_jax import cli
from mmer_jax.errors import UserError

_EVERY = 20.0  # seconds between two plain lines of progress


def run(predictor, items, write, on_error, progress) -> tuple[int, int]:
    """Predicts items and writes each result as it comes.

    Args:
      predictor: a `Predictor`.
      items: `tables.Item`s.
      write: called with (item, prediction).
      on_error: called with the message for a recording that can't be predicted.
      progress: called with the number of recordings done so far.

    Returns:
      How many were predicted, and how many were left out.
    """
    failed = 0
    audio, texts = [item.audio for item in items], [item.text for item in items]
    for index, found in predictor.predict_each(audio, texts):
        try:
            if isinstance(found, UserError):
                raise found
            write(items[index], found)
        except UserError as e:
            failed += 1
            on_error(str(e))
        progress(index + 1)
    return len(items) - failed, failed


class _Progress:
    """A bar on a terminal, a plain line now and then elsewhere; both on stderr."""

    def __init__(self, total):
        self._total, self._began = total, time.monotonic()
        self._said = self._began
        self._bar = None
        if sys.stderr.isatty():
            import tqdm

            self._bar = tqdm.tqdm(total=total, unit="file", leave=False)

    def __call__(self, done):
        if self._bar is not None:
            self._bar.update(done - self._bar.n)
        elif time.monotonic() - self._said > _EVERY:
            self._said = time.monotonic()
            rate = done / (self._said - self._began)
            self.say(f"{done} of {self._total} files, {rate:.1f} files/s", sys.stderr)

    def say(self, text, stream):
        """A line that the bar does not get into."""
        if self._bar is not None:
            self._bar.write(text, file=stream)
        else:
            print(text, file=stream, flush=True)

    def close(self):
        """Takes the bar away."""
        if self._bar is not None:
            self._bar.close()


def _predict(args):
    """Runs the command and returns its exit code."""
    writer_name = _format(args)
    if args.removed:
        _say("note: the beam search was removed, as it wrote no better; texts are greedy")
    # Imported late: a wrong option is reported at once, without seconds of imports.
    from mmer_jax.inference import tables
    from mmer_jax.inference.predictor import Predictor
    from mmer_jax.training import checkpoint_io

    items = tables.expand(args.inputs, "" if args.no_text else args.text)
    cli.cache_compilations()
    print(f"loading {args.checkpoint} ...", file=sys.stderr, flush=True)
    model = checkpoint_io.read(args.checkpoint)
    predictor = Predictor(model, (1, args.batch_size), detect_speech=not args.assume_speech)
    writer = tables.WRITERS[writer_name](model.label_names)
    file = None
    if args.out:
        file = tables.ResumableFile(
            args.out, writer, _made_with(args, writer_name, checkpoint_io.digest(model))
        )
        left = file.left(items)
        if len(left) < len(items):
            _say(f"{len(items) - len(left)} of {len(items)} files are in {args.out} already")
        items = left
    return _write_all(predictor, items, writer, file, args.out)


def _write_all(predictor, items, writer, file, out):
    progress = _Progress(len(items))
    worth = _Worth(predictor.model, lambda text: progress.say(text, sys.stderr))
    emit = file.write if file else lambda line: progress.say(line, sys.stdout)
    try:
        if not file and writer.head() is not None:
            emit(writer.head())

        def write(item, found):
            worth(found)
            emit(writer.line(item, found))

        done, failed = run(
            predictor,
            items,
            write,
            lambda message: progress.say(f"error: {message}", sys.stderr),
            progress,
        )
    finally:
        progress.close()
        if file:
            file.close()
    where = f"; written to {out}" if out else ""
    left_out = f", {failed} left out" if failed else ""
    _say(f"{done} predicted{left_out}{where}")
    return 1 if failed else 0


class _Worth:
    """Says once for each text source how often the model is right with it."""

    def __init__(self, model, say):
        self._model, self._say, self._said = model, say, set()

    def __call__(self, found):
        if found.label is None or found.text_source in self._said:
            return
        self._said.add(found.text_source)
        from mmer_jax.metrics import reliability

        classes, uses_text = len(self._model.label_names), self._model.uses_text
        plain = reliability.sentence(found.held_out, found.text_source, classes, uses_text)
        self._say(f"warning: {found.warning}" if found.warning else f"note: {plain}")


def _say(text):
    print(text, file=sys.stderr, flush=True)


def _made_with(args, writer_name, model):
    """The model and the options that change a prediction or the file's form."""
    return {
        "model": model,
        "format": writer_name,
        "text": args.text,
        "no_text": args.no_text,
        "decoder": "greedy",  # of an earlier version's file it may be another
        "assume_speech": args.assume_speech,
    }


def _format(args):
    if args.text is not None and args.no_text:
        raise UserError("--text and --no-text say different things; leave out one.")
    if not args.out:
        return args.format or "table"
    if args.format == "table":
        raise UserError("--format=table is for looking at; with --out choose csv or jsonl.")
    return args.format or ("jsonl" if args.out.endswith((".jsonl", ".json")) else "csv")


def _parser():
    parser = cli.Parser(prog="python -m mmer_jax.predict", description=__doc__)
    parser.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        help=cli.MODEL,
    )
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="audio files; folders, for all audio files below them; tables (.csv, .tsv, .jsonl) "
        "with a column `file`, relative to the table, and perhaps `text`, `start` and `end` (in "
        "seconds)",
    )
    parser.add_argument(
        "--text", help="what is said in the files; default: the model writes it itself"
    )
    parser.add_argument("--no-text", action="store_true", help="speech alone, whatever is said")
    parser.add_argument(
        "--assume-speech", action="store_true", help="predict recordings without speech as well"
    )
    parser.add_argument("--decoder", "--beam-width", dest="removed", help=argparse.SUPPRESS)
    parser.add_argument(
        "--format",
        choices=("table", "csv", "jsonl"),
        help="default: table, or with --out by its name's end",
    )
    parser.add_argument("--out", default="", help="file to write, or to continue; default: stdout")
    parser.add_argument("--batch-size", type=int, default=8, help="recordings computed at once")
    return parser


def main(argv: list[str] | None = None) -> int:
    """The command; 1 where something is wrong or a file was left out."""
    args = _parser().parse_args(argv)
    goes_on = "the same command goes on where it stopped" if args.out else "nothing was written"
    return cli.attempt(lambda: _predict(args), goes_on, args.out or "")


if __name__ == "__main__":
    sys.exit(main())
