"""Writes down what is said: `python -m mmer_jax.transcribe CORPUS_OR_FILES --model=MODEL`.

Of a prepared dataset (`iemocap/emotions4`, `speech_emotion/ravdess`) it writes a transcript file
beside it, which training and evaluation read; of recordings a line each.
"""

import collections
import contextlib
import csv
import io
import os
import re
import sys
import time

from mmer_jax import cli, files
from mmer_jax.errors import UserError


def run(dataset: str, recognizer, data_dir: str = "~/tensorflow_datasets", out: str = "",
        batch_size: int = 8) -> str:  # fmt: skip
    """Writes a prepared dataset's transcript file; for notebooks, what the command does.

    A file that is there already is left as it is. Killed, it goes on where it stopped, and the file
    has the same bytes.

    Args:
      dataset, data_dir: of the prepared dataset, as `config.data.dataset` and `config.data.dir`.
      recognizer: a `Recognizer`.
      out: path of the file; "": beside the dataset, under the recogniser's name.
      batch_size: utterances at once.

    Returns:
      The file's path.

    Raises:
      UserError: no such dataset, or another file is there.
    """
    import tqdm

    from mmer_jax.data import transcripts
    from mmer_jax.data.corpus import Corpus

    corpus = Corpus(data_dir, dataset)
    folder = transcripts.folder(data_dir, dataset, corpus.version)
    path = files.resolve(out or os.path.join(folder, recognizer.name + transcripts.SUFFIX))
    if files.exists(path):
        there = transcripts.read(path, data_dir, corpus)
        if there.recognizer != recognizer.settings:
            raise UserError(
                f"{path} was written by {there.recognizer}. Name another file by --out."
            )
        transcripts.discard_partial(path)
        return path
    # All windows are of 30 s: what counts is that texts of like length end together.
    queue = sorted(corpus.utterances, key=lambda u: u.samples)
    header = {
        "dataset": dataset, "version": corpus.version, "recognizer": recognizer.settings,
        "batch_size": batch_size,
    }  # fmt: skip
    writer = transcripts.Writer(path, header)
    with (
        contextlib.closing(writer),
        tqdm.tqdm(
            total=len(queue), unit="utterance", initial=len(writer.rows), disable=None
        ) as bar,
    ):
        for at in range(writer.batches * batch_size, len(queue), batch_size):
            batch = queue[at : at + batch_size]
            found = recognizer.transcribe([corpus.recordings(u)[0] for u in batch])
            writer.add([_row(u, t) for u, t in zip(batch, found)])
            bar.update(len(batch))
        writer.finish([u.id for u in corpus.utterances])
    return path


def _row(utterance, transcript):
    return {
        "id": utterance.id, "samples": utterance.samples, "text": transcript.text,
        "confidence": round(transcript.confidence, 6), "no_speech": round(transcript.no_speech, 6),
        "note": transcript.note,
    }  # fmt: skip


def summary(path: str, dataset: str, data_dir: str) -> str:
    """What a transcript file holds, with error rates where the dataset has transcripts."""
    from mmer_jax.data import transcripts
    from mmer_jax.data.corpus import Corpus
    from mmer_jax.metrics import asr

    corpus = Corpus(data_dir, dataset)
    found = transcripts.read(path, data_dir, corpus).transcripts
    notes = collections.Counter(t.note for t in found.values() if t.note)
    lines = [f"{n} of {len(found)} utterances: {note}" for note, n in sorted(notes.items())]
    reference = [u.transcript for u in corpus.utterances]
    written = [found[u.id] for u in corpus.utterances]
    texts = [t.text for t in written]
    rates = asr.recognizer_rates(reference, texts)
    if rates["wer"] is not None:
        lines.append(
            f"WER {100 * rates['wer']:.1f} %, CER {100 * rates['cer']:.1f} % over "
            f"{rates['utterances']} utterances, without case and punctuation"
        )
        lines += [
            f"  confidence {low:.1f} to {high:.1f}: WER {100 * part['wer']:.1f} % over "
            f"{part['utterances']} utterances"
            for low, high, part in asr.by_confidence(
                reference, texts, [t.confidence for t in written]
            )
        ]
    return "\n".join(lines)


def _of_dataset(args, recognizer):
    (dataset,) = args.inputs
    began = time.monotonic()
    path = run(dataset, recognizer, args.data_dir, args.out, args.batch_size)
    print(summary(path, dataset, args.data_dir))
    name = path if args.out else os.path.basename(path).removesuffix(".json")
    print(
        f"{path}\n{time.monotonic() - began:.0f} s. Trained and tested with: "
        f"--config.data.asr_transcripts={name}"
    )


class _Lines:
    """Lines to look at."""

    head = "confidence  no speech  file: text"

    def line(self, item, transcript):
        t = transcript
        said = f"{t.text} ({t.note})".strip() if t.note else t.text
        where = f" {item.start or 0:g} s" if item.start is not None or item.end is not None else ""
        return f"{t.confidence:10.2f}  {t.no_speech:9.2f}  {item.audio}{where}: {said}"


class _Csv:
    """A table that `mmer_jax.predict` takes as well: it has a column `text`."""

    _columns = ("file", "start", "end", "text", "confidence", "no_speech", "note")
    head = ",".join(_columns)

    def line(self, item, transcript):
        if "\n" in item.audio or "\r" in item.audio:
            raise UserError(f"{item.audio!r} has a line break in its name, which no line can hold.")
        t, out = transcript, io.StringIO()
        csv.writer(out, lineterminator="").writerow([
            item.audio, item.start, item.end, " ".join(t.text.split()), f"{t.confidence:.6f}",
            f"{t.no_speech:.6f}", t.note,
        ])  # fmt: skip
        return out.getvalue()

    def key(self, line):
        row = dict(zip(self._columns, next(csv.reader([line])), strict=True))
        return row["file"], *(float(row[k]) if row[k] else None for k in ("start", "end"))


def _of_files(args, recognizer):
    """Returns the exit code."""
    from mmer_jax.inference import tables

    items = tables.expand(args.inputs)
    if not args.out:
        print(_Lines.head)
        return _each(items, recognizer, args.batch_size, lambda *row: print(_Lines().line(*row)))
    writer = _Csv()
    file = tables.ResumableFile(args.out, writer, recognizer.settings)
    with contextlib.closing(file):
        left = file.left(items)
        if len(left) < len(items):
            print(f"{len(items) - len(left)} of {len(items)} files are in {args.out} already")
        return _each(left, recognizer, args.batch_size,
                     lambda *row: file.write(writer.line(*row)))  # fmt: skip


def _each(items, recognizer, batch_size, emit):
    """Emits each item's transcript; a file that can't be read is reported and left out."""
    import tqdm

    from mmer_jax.inference import audio_io, tables

    failed = 0
    with tqdm.tqdm(total=len(items), unit="file", leave=False, disable=None) as bar:
        for at in range(0, len(items), batch_size):
            readable, waves = [], []
            for item in items[at : at + batch_size]:
                try:
                    waves.append(audio_io.read(tables.recording(item)))
                    readable.append(item)
                except UserError as e:
                    failed += 1
                    bar.write(cli.coloured(f"error: {e}"), file=sys.stderr)
            with bar.external_write_mode():
                for row in zip(readable, recognizer.transcribe(waves)):
                    emit(*row)
            bar.update(len(items[at : at + batch_size]))
    left_out = f", {failed} left out" if failed else ""
    print(f"{len(items) - failed} transcribed{left_out}", file=sys.stderr)
    return 1 if failed else 0


def _transcribe(args):
    """Runs the command and returns its exit code."""
    # Imported late: a wrong option is reported at once, without seconds of imports.
    from mmer_jax.augmentation.recognizer import Recognizer

    datasets = [x for x in args.inputs if re.fullmatch(r"\w+/\w+", x) and not os.path.exists(x)]
    if datasets and len(args.inputs) > 1:
        raise UserError(
            f"{datasets[0]} is no file, so it names a prepared dataset; transcribe it by itself."
        )
    cli.cache_compilations()
    print(f"loading {args.model} ...", file=sys.stderr, flush=True)
    recognizer = Recognizer(args.model, args.language, args.batch_size)
    return (_of_dataset if datasets else _of_files)(args, recognizer)


def _parser():
    parser = cli.Parser(prog="python -m mmer_jax.transcribe", description=__doc__)
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="CORPUS_OR_FILES",
        help="a prepared dataset, such as iemocap/emotions4; or audio files, folders and tables, "
        "as mmer_jax.predict takes them",
    )
    parser.add_argument("--model", required=True, help=cli.WHISPER)
    parser.add_argument(
        "--language", default="", help="spoken language of a multilingual model: de, german, ..."
    )
    parser.add_argument(
        "--data_dir", default="~/tensorflow_datasets", help="where the prepared dataset is"
    )
    parser.add_argument(
        "--out",
        default="",
        help="file to write, or to continue: of files a CSV; default: stdout, of a dataset a file "
        "beside it",
    )
    cli.add_batch_size(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """The command; 1 where something is wrong or a file was left out."""
    args = _parser().parse_args(argv)
    return cli.attempt(
        lambda: _transcribe(args), "the same command goes on where it stopped", args.out
    )


if __name__ == "__main__":
    sys.exit(main())
