"""Makes the demo corpus: `python -m mmer_jax.demo.corpus OUT`.

OUT/IEMOCAP_full_release  a speech corpus of ten synthetic speakers in the layout of IEMOCAP
OUT/augmented             each four-class utterance in other words and another voice than the cast's
OUT/tokenizer             a small Hugging Face tokenizer of the corpus's own words
OUT/corpus.json           options, counts, checksum
"""

import argparse
import hashlib
import itertools
import json
import os
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from mmer_jax import cli, files
from mmer_jax.demo import plan, release, sound, tokenizer, tts
from mmer_jax.errors import UserError

MAX_PER_SPEAKER_CLASS = 500
MAX_WORKERS, CHUNK = 8, 32  # processes that speak, and utterances that each gets at once
MANIFEST = "corpus.json"
# Counts up when the same options begin to make another corpus.
GENERATOR = 2


def build(out, seed=0, per_speaker_class=25, awkward=False, progress=True):
    """Makes a corpus, or finds it there already.

    The same arguments give the same bytes. The folder appears under its name only when it is whole.

    Args:
        out: folder to make.
        seed: of all that is random, 0 or more.
        per_speaker_class: utterances of each of the ten speakers in each of the four classes.
        awkward: more blemishes, and worse ones, than the real release has.
        progress: shows a progress bar.

    Returns:
        The contents of corpus.json (dict).

    Raises:
        UserError: an option is out of range, the folder holds something else or cannot be
            written, or espeak-ng is missing.
    """
    return _make(Path(out), _options(seed, per_speaker_class, awkward), progress)[0]


def _options(seed, per_speaker_class, awkward):
    if seed < 0:
        raise UserError(f"the seed is {seed}; it must be 0 or more")
    if not 1 <= per_speaker_class <= MAX_PER_SPEAKER_CLASS:
        raise UserError(
            f"{per_speaker_class} utterances per speaker and class are asked for; "
            f"1 to {MAX_PER_SPEAKER_CLASS} can be made"
        )
    return {"seed": seed, "per_speaker_class": per_speaker_class, "awkward": bool(awkward)}


def _make(out, options, progress):
    """Returns (corpus.json's contents, whether the corpus was made now)."""
    found = find_manifest(out, options)
    if found:
        return found, False
    with files.new_folder(str(out)) as folder:
        return _fill(Path(folder), options, progress), True


def _fill(root, options, progress):
    seed = options["seed"]
    turns = plan.turns(seed, options["per_speaker_class"], options["awkward"])
    clips = plan.clips(seed, turns)
    seconds, version = _write_sounds(root, turns, clips, progress)
    _write_release(root, turns, seconds, options["awkward"])
    release.write_augmented(root, clips)
    texts = [release.joined(turn) for turn in turns]
    texts += [turn.text.paraphrase for turn in turns if turn.four_class]
    tokenizer.save(texts, root / "tokenizer")
    return write_manifest(root, options, version, _counts(turns, clips, seconds))


def _write_sounds(root, turns, clips, progress):
    """Speaks everything; returns utterance -> seconds, and espeak-ng's version."""
    tasks = [
        (release.wav_path(root, turn), turn, turn.speaker, turn.text.sentence) for turn in turns
    ]
    tasks += [
        (release.clip_path(root, clip), clip, clip.voice, clip.turn.text.paraphrase)
        for clip in clips
    ]
    for folder in {path.parent for path, *_ in tasks}:
        folder.mkdir(parents=True, exist_ok=True)
    chunks = [tasks[i : i + CHUNK] for i in range(0, len(tasks), CHUNK)]
    interval = 0.1 if sys.stderr.isatty() else 10
    with (
        ThreadPoolExecutor(min(MAX_WORKERS, os.cpu_count() or 1)) as pool,
        tqdm(desc="speaking", total=len(tasks), disable=not progress, mininterval=interval) as bar,
    ):
        spoken = []
        for chunk in pool.map(_speak, chunks):
            spoken.append(chunk)
            bar.update(len(chunk[0]))
    durations = itertools.chain.from_iterable(seconds for seconds, _ in spoken)
    return {turn.utterance: length for turn, length in zip(turns, durations)}, spoken[0][1]


def _speak(tasks):
    """Writes the sound of each task; returns their seconds, and espeak-ng's version."""
    speech = tts.say(
        [
            sound.espeak_job(text, speaker, source.prosody, source.seed)
            for _, source, speaker, text in tasks
        ]
    )
    seconds = []
    for (path, source, *_), samples in zip(tasks, speech.samples):
        limit = getattr(source, "max_seconds", None)
        audio = sound.colour(samples, speech.sample_rate, source.prosody, source.seed, limit)
        sound.write_wav(path, audio)
        seconds.append(len(audio) / sound.SAMPLE_RATE)
    return seconds, speech.version


def _write_release(root, turns, seconds, awkward):
    for _, session in itertools.groupby(turns, key=lambda turn: turn.session):
        dialogs = itertools.groupby(session, key=lambda turn: turn.dialog)
        for index, (_, items) in enumerate(dialogs):
            release.write_dialog(root, index, list(items), seconds, awkward)


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
                label: labels[session, label] for label in sound.MEANS if labels[session, label]
            }
            for session in plan.SESSIONS
        },
    }


def _tree_files(root):
    """Returns the paths of all files of a corpus but its manifest, sorted, relative to root."""
    paths = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in paths if path.as_posix() != MANIFEST)


def tree_hash(root):
    """Returns the SHA-256 over the names and contents of all files of a corpus."""
    digest = hashlib.sha256()
    for name in _tree_files(root):
        content = hashlib.sha256((root / name).read_bytes()).hexdigest()
        digest.update(f"{content}  {name}\n".encode())
    return digest.hexdigest()


def write_manifest(root, options, espeak, counts):
    """Writes the manifest of a finished corpus and returns it as a dict."""
    manifest = {
        "generator": GENERATOR,
        "options": options,
        "espeak": espeak,
        "counts": counts,
        "files": len(_tree_files(root)),
        "sha256": tree_hash(root),
    }
    (root / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    return manifest


def find_manifest(out, options):
    """Returns the manifest of a finished corpus made with the same options, None if out is free.

    Args:
        out: Path of the corpus.
        options: dict of the options that decide its bytes.

    Raises:
        UserError: something else is there. Nothing is ever deleted.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    manifest = _read_manifest(out)
    made = {"generator": manifest["generator"], **manifest["options"]}
    wanted = {"generator": GENERATOR, **options}
    if made != wanted:
        raise UserError(
            f"{out} holds a corpus made with {_words(made)}, but {_words(wanted)} is asked for: "
            "name another folder, or remove this one first"
        )
    count = len(_tree_files(out))
    if count != manifest["files"]:
        raise UserError(
            f"{out} holds {count} files where the corpus that was written there has "
            f"{manifest['files']}: remove the folder and make the corpus again"
        )
    return manifest


def _read_manifest(out):
    try:
        manifest = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
        manifest["generator"], manifest["files"], dict(manifest["options"])
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f"{out} exists and is not a corpus of this program (no readable {MANIFEST} in it): "
            "name a folder that is empty or does not exist"
        ) from None
    return manifest


def _words(options):
    return ", ".join(f"{name}={value}" for name, value in options.items())


def summary(out, counts):
    """Returns the table of what a corpus holds."""
    labels = list(sound.MEANS)
    rows = [["", *labels]]
    for session, found in counts["labels"].items():
        rows.append([session, *(found.get(label, 0) for label in labels)])
    lines = [f"{row[0]:10}" + "".join(f"{cell:>6}" for cell in row[1:]) for row in rows]
    lines += [
        f"{counts['utterances']} utterances ({counts['hours'] * 60:.0f} minutes) in "
        f"{counts['dialogs']} dialogs; {counts['four_class']} of them in the four classes",
        f"release    {out / release.ROOT}",
        f"augmented  {out / release.AUGMENTED} ({counts['augmented_wavs']} wavs)",
        f"tokenizer  {out / 'tokenizer'}",
    ]
    return "\n".join(lines)


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m mmer_jax.demo.corpus",
        description="Makes a synthetic emotional speech corpus in the layout of IEMOCAP.",
    )
    parser.add_argument("out", type=Path, help="folder to make")
    parser.add_argument("--seed", type=int, default=0, help="another seed, another corpus (0)")
    parser.add_argument(
        "--per-speaker-class",
        type=int,
        default=25,
        metavar="N",
        help="utterances of each of 10 speakers in each of 4 classes (25)",
    )
    parser.add_argument(
        "--awkward",
        action="store_true",
        help="more blemishes: CRLF, stray bytes, tabs, extreme lengths, an empty transcript",
    )
    return parser


def main(arguments=None):
    """The command line; returns its exit code."""
    flags = _parser().parse_args(arguments)

    def work():
        options = _options(flags.seed, flags.per_speaker_class, flags.awkward)
        result, made = _make(flags.out, options, progress=True)
        if not made:
            print(f"already there: {flags.out}, made with the same options")
        print(summary(flags.out, result["counts"]))

    return cli.attempt(work, "no corpus was written")


if __name__ == "__main__":
    sys.exit(main())
