"""Predicts the emotion of recordings: `python -m mmer_jax.predict MODEL FILES...`."""

import argparse
import contextlib
import sys
import time

from mmer_jax import cli
from mmer_jax.errors import UserError

_EVERY = 20.0  # seconds between two lines of progress where there is no terminal


def _predict(args):
    """Runs the command and returns its exit code."""
    form = _format(args)
    if args.removed:
        _say("note: the beam search was removed, as it wrote no better; texts are greedy")
    # Imported late: a wrong option is reported at once, without seconds of imports.
    from mmer_jax.inference import tables
    from mmer_jax.inference.predictor import Predictor
    from mmer_jax.training import checkpoint_io

    items = tables.expand(args.inputs, "" if args.no_text else args.text)
    cli.cache_compilations()
    _say(f"loading {args.checkpoint} ...")
    model = checkpoint_io.read(args.checkpoint)
    transcriber = None
    if args.transcriber:
        from mmer_jax.augmentation.recognizer import Recognizer

        _say(f"loading {args.transcriber} ...")
        transcriber = Recognizer(args.transcriber, args.language, args.batch_size)
    predictor = Predictor(model, (1, args.batch_size), not args.assume_speech, transcriber)
    writer = tables.WRITERS[form](model.label_names)
    if not args.out:
        return _write_all(predictor, items, writer, None)
    file = tables.ResumableFile(
        args.out, writer, _made_with(args, form, checkpoint_io.digest(model), transcriber)
    )
    with contextlib.closing(file):
        left = file.left(items)
        if len(left) < len(items):
            _say(f"{len(items) - len(left)} of {len(items)} files are in {args.out} already")
        return _write_all(predictor, left, writer, file, f"; written to {args.out}")


def _write_all(predictor, items, writer, file, where=""):
    """Writes each prediction as it comes, to the file or stdout; all else is said on stderr."""
    import tqdm

    from mmer_jax.inference import tables

    # A bar on a terminal, which no line gets into; elsewhere a line now and then.
    bar = tqdm.tqdm(total=len(items), unit="file", leave=False, disable=None)
    began = said = time.monotonic()

    def say(text, stream=sys.stderr):
        with bar.external_write_mode(file=stream):
            print(cli.coloured(text) if stream is sys.stderr else text, file=stream, flush=True)

    write = file.write if file else lambda line: say(line, sys.stdout)
    # With the first line, so that what is said of the model stands above it.
    head = [writer.head] if not file and writer.head is not None else []

    def emit(*lines):
        for line in (*head, *lines):
            write(line)
        head.clear()

    audio, texts = [tables.recording(item) for item in items], [item.text for item in items]
    failed, sources = 0, set()
    with contextlib.closing(bar):
        for index, prediction in predictor.predict_each(audio, texts):
            try:
                if isinstance(prediction, UserError):
                    raise prediction
                if prediction.label is not None and prediction.text_source not in sources:
                    sources.add(prediction.text_source)
                    say(_worth(predictor.model, prediction))
                emit(writer.line(items[index], prediction))
            except UserError as e:
                failed += 1
                say(f"error: {e}")
            bar.update()
            if bar.disable and time.monotonic() - said > _EVERY:
                said = time.monotonic()
                rate = (index + 1) / (said - began)
                say(f"{index + 1} of {len(items)} files, {rate:.1f} files/s")
    emit()
    left_out = f", {failed} left out" if failed else ""
    _say(f"{len(items) - failed} predicted{left_out}{where}")
    return 1 if failed else 0


def _worth(model, prediction):
    """How often the model is right with a prediction's text source; said once for each."""
    if prediction.warning:
        return f"warning: {prediction.warning}"
    from mmer_jax.metrics import reliability

    classes = len(model.label_names)
    source, held_out = prediction.text_source, prediction.held_out
    return f"note: {reliability.sentence(held_out, source, classes, model.uses_text)}"


def _say(text):
    print(cli.coloured(text), file=sys.stderr, flush=True)


def _made_with(args, form, model, transcriber):
    """The model and the options that change a prediction or the file's form."""
    return {
        "model": model,
        "format": form,
        "text": args.text,
        "no_text": args.no_text,
        "decoder": "greedy",  # of an earlier version's file it may be another
        "assume_speech": args.assume_speech,
        "transcriber": transcriber.name if transcriber else None,  # as in files of before it came
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
    parser.add_argument("checkpoint", metavar="MODEL", help=cli.MODEL)
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="audio files; folders, for all audio files below them; tables (.csv, .tsv, .jsonl) "
        "with a column `file`, relative to the table, and perhaps `text`, `start` and `end` (in "
        "seconds)",
    )
    parser.add_argument(
        "--text",
        help="what is said in the files; default: the transcriber or the model itself writes it",
    )
    parser.add_argument("--no-text", action="store_true", help="speech alone, whatever is said")
    parser.add_argument(
        "--assume-speech", action="store_true", help="predict recordings without speech as well"
    )
    cli.add_transcriber(parser)
    parser.add_argument("--decoder", "--beam-width", dest="removed", help=argparse.SUPPRESS)
    parser.add_argument(
        "--format",
        choices=("table", "csv", "jsonl"),
        help="default: table, or with --out by its name's end",
    )
    parser.add_argument("--out", default="", help="file to write, or to continue; default: stdout")
    cli.add_batch_size(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """The command; 1 where something is wrong or a file was left out."""
    args = _parser().parse_args(argv)
    goes_on = "the same command goes on where it stopped" if args.out else "nothing was written"
    return cli.attempt(lambda: _predict(args), goes_on, args.out or "")


if __name__ == "__main__":
    sys.exit(main())
