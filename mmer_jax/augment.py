"""Makes the augmented views of a corpus: `python -m mmer_jax.augment --data=iemocap --out=FOLDER`.

Other words (`--texts`) and other voices (`--speech`) for the utterances of a prepared dataset, as
`tfds build` reads them: with them the augmented contrastive loss has something to train on.
"""

import functools
import io
import json
import os
import sys

from mmer_jax import cli, configuration, files
from mmer_jax.errors import UserError

QUALITY = "quality.json", "quality.html"
SIMILARITY = 0.5, 0.2  # least one of a text, by a sentence encoder and by shared words


def run(views, title: str) -> tuple[dict, list[str]]:
    """Makes the views and writes what became of them; for notebooks, what the command does.

    Killed, it goes on where it stopped, and table and recordings have the same bytes.

    Args:
      views: an `augmentation.views.Views`.
      title: the corpus, for the page.

    Returns:
      The figures, see `augmentation.quality.summary`, and the paths of the files with them.

    Raises:
      UserError: see `Views`.
    """
    from mmer_jax.augmentation import quality
    from mmer_jax.reporting import listening

    views.make()
    found = quality.summary(
        views.corpus, views.texts, views.recordings, views.failed, views.seconds
    )
    page = listening.page(title, found, _pairs(views))
    paths = [os.path.join(views.out, name) for name in QUALITY]
    for path, content in zip(paths, (json.dumps(found, indent=1) + "\n", page)):
        files.replace_file(path, content)
    return found, paths


def _pairs(views):
    """Ten views of all emotions, as `listening.page` takes them."""
    import soundfile

    from mmer_jax.reporting import listening

    corpus = views.corpus
    utterances = {u.id: u for u in corpus.utterances}
    rows = [row for row in views.recordings if not row["rejected"]]
    rows = rows or [row for row in views.texts.values() if row["text"]]
    labels = [utterances[row["id"]].label for row in rows]
    pairs = []
    for i in listening.choose(labels, views.seed):
        row, u, wav = rows[i], utterances[rows[i]["id"]], io.BytesIO()
        soundfile.write(wav, corpus.recordings(u)[0], 16_000, "PCM_16", format="WAV")
        recording = row.get("audio") and open(os.path.join(views.out, row["audio"]), "rb").read()
        pairs.append({
            "utterance": u.id, "emotion": corpus.label_names[u.label], "speaker": u.speaker,
            "text": u.transcript, "original": wav.getvalue(), "view_text": row["text"],
            "recording": recording, "voice": row.get("voice"), "recognized": row.get("recognized"),
            "reference": row.get("reference"),
        })  # fmt: skip
    return pairs


def _augment(args):
    """Runs the command and returns its exit code."""
    from mmer_jax.augmentation import quality, speech, texts, views
    from mmer_jax.data.corpus import Corpus

    if not (args.texts or args.speech):
        raise UserError(f"Say what to make: --texts ({texts.WAYS}), --speech ({speech.WAYS}).")
    if min(args.views, args.candidates, args.workers) < 1 or args.max_length < 1:
        raise UserError("--views, --candidates, --workers and --max_length are 1 or more.")
    voices = args.speech and speech.create(
        args.speech, args.tts_command, args.voice, args.time_limit, args.workers
    )
    cli.cache_compilations()
    dataset = configuration.whole_name(args.data)
    corpus = Corpus(args.data_dir, dataset)
    made = views.Views(
        corpus, args.out, _texts(args, corpus), voices or None, _similarity(args),
        _recognizer(args), quality.Limits(
            SIMILARITY[not args.encoder] if args.min_similarity is None else args.min_similarity,
            args.max_length, wer=args.max_wer,
        ), args.views, args.seed,
    )  # fmt: skip
    found, paths = run(made, dataset)
    return _say(args, dataset, found, paths)


def _say(args, dataset, found, paths):
    from mmer_jax.reporting import listening

    print(listening.figures(found), *paths, sep="\n")
    if found["recordings_failed"]:
        print(
            f"error: {found['recordings_failed']} recordings could not be made; the same command "
            "tries them again.", file=sys.stderr,
        )  # fmt: skip
    if not found["texts"] and not found["recordings"]:
        raise UserError("No view is left: the table says what became of them.")
    print(
        "Trained on when the folder is augmented/ beside the corpus and it is built again: tfds "
        f"build datasets/{dataset.partition('/')[0]} --config={dataset.partition('/')[2]} "
        "--manual_dir=MANUAL --data_dir=DATA --overwrite"
    )
    return 1 if found["recordings_failed"] else 0


def _texts(args, corpus):
    from mmer_jax.augmentation import texts

    if not args.texts:
        return None
    if args.texts == "marian":
        from mmer_jax.augmentation.translation import FORWARD, Marian

        other = {u.language for u in corpus.utterances} - {"", "en"}
        if other and args.forward == FORWARD:
            raise UserError(
                f"The corpus has utterances in {', '.join(sorted(other))}, and {FORWARD} reads "
                "English. Name a pair of models by --forward and --backward."
            )
        return Marian(args.forward, args.backward, args.candidates, args.temperature)
    if args.texts.lower().endswith(".csv"):
        return texts.Table(args.texts, [u.id for u in corpus.utterances])
    if ":" in args.texts:
        return texts.Function(args.texts)
    raise UserError(f"--texts={args.texts} is no way to other words; the choices: {texts.WAYS}.")


def _similarity(args):
    from mmer_jax.augmentation import texts

    if not (args.texts and args.encoder):
        return texts.overlap
    from mmer_jax.augmentation.translation import Meaning

    return Meaning(args.encoder)


def _recognizer(args):
    if not args.recognizer:
        return None
    from mmer_jax.augmentation.recognizer import Recognizer

    return Recognizer(args.recognizer, args.language)


def _parser():
    parser = cli.Parser(prog="python -m mmer_jax.augment", description=__doc__)
    add = functools.partial(parser.add_argument, metavar="VALUE")
    add("--data", required=True, help="a prepared dataset: iemocap, speech_emotion/ravdess, ...")
    add("--data_dir", default="~/tensorflow_datasets", help="where it is")
    add("--out", required=True, help="folder to write, or to continue: MANUAL/augmented")
    add("--texts", default="", help="other words: marian (translated there and back), a CSV with a "
        "column text or AugmentedText, or module:function")  # fmt: skip
    add("--forward", default="Helsinki-NLP/opus-mt-en-fr", help="Marian model there")
    add("--backward", default="Helsinki-NLP/opus-mt-fr-en", help="Marian model back")
    add("--candidates", type=int, default=8, help="translations that are drawn of each text (8)")
    add("--temperature", type=float, default=0.8, help="of the draws (0.8)")
    add("--encoder", default="", help="sentence encoder that says which text keeps the meaning "
        "(sentence-transformers/all-MiniLM-L6-v2, or a folder); default: shared words")  # fmt: skip
    add("--min_similarity", type=float, help="a text that is less similar is rejected ({} by an "
        "encoder, {} by shared words)".format(*SIMILARITY))  # fmt: skip
    add("--speech", default="", help="other voices: signal, espeak, command or module:function")
    add("--tts_command", default="", help='for command: "yourtts --text {text} --reference {wav} '
        '--out {out}"; also {emotion}, {seed}, {language}')  # fmt: skip
    add("--voice", default="", help="name of a synthesiser's only voice, if it clones none")
    add("--time_limit", type=float, default=120.0, help="seconds for a command (120)")
    add("--workers", type=int, default=1, help="commands at once (1)")
    add("--views", type=int, default=2, help="recordings of an utterance (2)")
    add("--max_length", type=float, default=3.0, help="a recording so many times as long, or as "
        "short, as the original is rejected (3)")  # fmt: skip
    add("--recognizer", default="", help=f"listens to each recording: {cli.WHISPER}")
    add("--language", default="", help="of a multilingual recogniser: de, german, ...")
    add("--max_wer", type=float, default=0.5, help="word errors beyond which a recording is "
        "rejected (0.5)")  # fmt: skip
    add("--seed", type=int, default=0, help="of all that is drawn (0)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """The command; 1 where something is wrong or a recording could not be made."""
    args = _parser().parse_args(argv)
    return cli.attempt(
        lambda: _augment(args), "the same command goes on where it stopped", args.out
    )


if __name__ == "__main__":
    sys.exit(main())
