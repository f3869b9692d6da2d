"""Makes the demo corpus: `python -m mmer_jax.demo.corpus OUT`.

OUT/IEMOCAP_full_release  a speech corpus of ten synthetic speakers in the layout of IEMOCAP
OUT/augmented             each four-class utterance in other words and another voice than the cast's
OUT/tokenizer             a small Hugging Face tokenizer of the corpus's own words
OUT/corpus.json           options, counts, checksum
"""

import hashlib
import json
import os
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tokenizers import normalizers, pre_tokenizers
from tqdm import tqdm

from mmer_jax import cli, files
from mmer_jax.demo import plan, release, speech
from mmer_jax.errors import UserError

MAX_PER_SPEAKER_CLASS = 500
MAX_WORKERS, CHUNK = 8, 32  # processes that speak, and utterances that each gets at once
MANIFEST = "corpus.json"
# Counts up when the same options begin to make another corpus.
GENERATOR = 2
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
MAX_TOKENS = 600


def build(out, seed=0, per_speaker_class=25, awkward=False):
    """Makes a corpus, or finds it there already.

    The same arguments give the same bytes. The folder appears under its name only when it is whole.

    Args:
        out: folder to make.
        seed: of all that is random, 0 or more.
        per_speaker_class: utterances of each of the ten speakers in each of the four classes.
        awkward: more blemishes, and worse ones, than the real release has.

    Returns:
        The contents of corpus.json (dict).

    Raises:
        UserError: an option is out of range, the folder holds something else or cannot be
            written, or espeak-ng is missing.
    """
    if seed < 0:
        raise UserError(f"the seed is {seed}; it must be 0 or more")
    if not 1 <= per_speaker_class <= MAX_PER_SPEAKER_CLASS:
        raise UserError(
            f"{per_speaker_class} utterances per speaker and class are asked for; "
            f"1 to {MAX_PER_SPEAKER_CLASS} can be made"
        )
    options = {"seed": seed, "per_speaker_class": per_speaker_class, "awkward": bool(awkward)}
    out = Path(out)
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        return _find(out, options)
    with files.new_folder(str(out)) as folder:
        return _fill(Path(folder), options)


def _fill(root, options):
    seed, awkward = options["seed"], options["awkward"]
    turns = plan.turns(seed, options["per_speaker_class"], awkward)
    clips = plan.clips(seed, turns)
    seconds, version = _record(root, turns, clips)
    release.write(root, turns, seconds, awkward)
    release.write_augmented(root, clips)
    texts = [release.joined(turn) for turn in turns]
    texts += [turn.text.paraphrase for turn in turns if turn.four_class]
    save_tokenizer(texts, root / "tokenizer")
    manifest = {
        "generator": GENERATOR,
        "options": options,
        "espeak": version,
        "counts": _counts(turns, clips, seconds),
        "files": len(_tree_files(root)),
        "sha256": tree_hash(root),
    }
    (root / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    return manifest


def _record(root, turns, clips):
    """Speaks everything; returns utterance -> seconds, and espeak-ng's version."""
    takes = [(release.wav_path(root, turn), turn) for turn in turns]
    takes += [(release.clip_path(root, clip), clip) for clip in clips]
    for folder in {path.parent for path, _ in takes}:
        folder.mkdir(parents=True, exist_ok=True)
    chunks = [takes[i : i + CHUNK] for i in range(0, len(takes), CHUNK)]
    interval = 0.1 if sys.stderr.isatty() else 10
    durations = []
    with (
        ThreadPoolExecutor(min(MAX_WORKERS, os.cpu_count() or 1)) as pool,
        tqdm(desc="speaking", total=len(takes), mininterval=interval) as bar,
    ):
        for seconds, version in pool.map(speech.record, chunks):  # noqa: B007
            durations += seconds
            bar.update(len(seconds))
    return {turn.utterance: length for turn, length in zip(turns, durations)}, version


def _counts(turns, clips, seconds):
    labels = Counter((turn.session, turn.label) for turn in turns)
    return {
        "utterances": len(turns),
        "four_class": sum(turn.four_class for turn in turns),
        "dialogs": len({turn.dialog for turn in turns}),
        "augmented_wavs": len(clips),
        "hours": round(sum(seconds.values()) / 3600, 3),
        "labels": {
            f"Session{session}": {
                label: labels[session, label] for label in speech.MEANS if labels[session, label]
            }
            for session in plan.SESSIONS
        },
    }


def _tree_files(root):
    """Returns the paths of all files of a corpus but its manifest, sorted, relative to root."""
    paths = (path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    return sorted(path for path in paths if path != MANIFEST)


def tree_hash(root):
    """Returns the SHA-256 over the names and contents of all files of a corpus."""
    digest = hashlib.sha256()
    for name in _tree_files(root):
        content = hashlib.sha256((root / name).read_bytes()).hexdigest()
        digest.update(f"{content}  {name}\n".encode())
    return digest.hexdigest()


def _find(out, options):
    """Returns the manifest of the corpus in `out`, made with the same options.

    Raises:
        UserError: something else is there. Nothing is ever deleted.
    """
    try:
        manifest = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
        made = {"generator": manifest["generator"], **manifest["options"]}
        count = manifest["files"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f"{out} exists and is not a corpus of this program (no readable {MANIFEST} in it): "
            "name a folder that is empty or does not exist"
        ) from None
    wanted = {"generator": GENERATOR, **options}
    if made != wanted:
        made, wanted = (", ".join(f"{k}={v}" for k, v in x.items()) for x in (made, wanted))
        raise UserError(
            f"{out} holds a corpus made with {made}, but {wanted} is asked for: "
            "name another folder, or remove this one first"
        )
    if len(_tree_files(out)) != count:
        raise UserError(
            f"{out} holds {len(_tree_files(out))} files where the corpus that was written there "
            f"has {count}: remove the folder and make the corpus again"
        )
    return manifest


def vocabulary(texts, max_tokens=MAX_TOKENS):
    """Chooses WordPiece tokens: special ones, every character, then the most frequent words.

    Hugging Face's own trainer numbers equally frequent tokens by the order of a hash map, which
    differs from process to process.
    """
    normalizer = normalizers.BertNormalizer(lowercase=True)
    splitter = pre_tokenizers.BertPreTokenizer()
    words = Counter()
    for text in texts:
        words.update(word for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)))
    characters = sorted({character for word in words for character in word})
    tokens = [*SPECIAL_TOKENS, *characters, *(f"##{character}" for character in characters)]
    ranked = sorted(words, key=lambda word: (-words[word], word))
    return [*tokens, *(word for word in ranked if len(word) > 1)][:max_tokens]


def save_tokenizer(texts, folder):
    """Makes a folder with a tokenizer that knows every word of `texts`, for AutoTokenizer."""
    # It takes seconds to import and only the end of a run needs it.
    from transformers import BertTokenizerFast

    folder.mkdir(parents=True)
    vocab = folder / "vocab.txt"
    vocab.write_text("".join(f"{token}\n" for token in vocabulary(texts)), encoding="utf-8")
    BertTokenizerFast(str(vocab), do_lower_case=True, model_max_length=512).save_pretrained(folder)


def summary(out, counts):
    """Returns the table of what a corpus holds."""
    rows = [["", *speech.MEANS]]
    for session, found in counts["labels"].items():
        rows.append([session, *(found.get(label, 0) for label in speech.MEANS)])
    lines = [f"{row[0]:10}" + "".join(f"{cell:>6}" for cell in row[1:]) for row in rows]
    lines += [
        f"{counts['utterances']} utterances ({counts['hours'] * 60:.0f} minutes) in "
        f"{counts['dialogs']} dialogs; {counts['four_class']} of them in the four classes",
        f"release    {out / release.ROOT}",
        f"augmented  {out / release.AUGMENTED} ({counts['augmented_wavs']} wavs)",
        f"tokenizer  {out / 'tokenizer'}",
    ]
    return "\n".join(lines)


def main(arguments=None):
    """The command line; returns its exit code."""
    parser = cli.Parser(
        prog="python -m mmer_jax.demo.corpus",
        description="Makes a synthetic emotional speech corpus in the layout of IEMOCAP.",
    )
    add = parser.add_argument
    add("out", type=Path, help="folder to make")
    add("--seed", type=int, default=0, help="another seed, another corpus (0)")
    add(
        "--per-speaker-class", type=int, default=25, metavar="N",
        help="utterances of each of 10 speakers in each of 4 classes (25)",
    )  # fmt: skip
    add(
        "--awkward", action="store_true",
        help="more blemishes: CRLF, stray bytes, tabs, extreme lengths, an empty transcript",
    )  # fmt: skip
    flags = parser.parse_args(arguments)

    def work():
        found = (flags.out / MANIFEST).exists()
        manifest = build(flags.out, flags.seed, flags.per_speaker_class, flags.awkward)
        if found:
            print(f"already there: {flags.out}, made with the same options")
        print(summary(flags.out, manifest["counts"]))

    return cli.attempt(work, "no corpus was written")


if __name__ == "__main__":
    sys.exit(main())
