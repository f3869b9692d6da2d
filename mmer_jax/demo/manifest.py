"""corpus.json: what a finished corpus was made from, by which a later run knows it again."""

import hashlib
import json

from mmer_jax.errors import UserError

NAME = "corpus.json"
# Counts up when the same options begin to make another corpus.
GENERATOR = 2


def tree_files(root):
    """Returns the paths of all files of a corpus but its manifest, sorted, relative to root."""
    paths = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in paths if path.as_posix() != NAME)


def tree_hash(root):
    """Returns the SHA-256 over the names and contents of all files of a corpus."""
    digest = hashlib.sha256()
    for name in tree_files(root):
        content = hashlib.sha256((root / name).read_bytes()).hexdigest()
        digest.update(f"{content}  {name}\n".encode())
    return digest.hexdigest()


def write(root, options, espeak, counts):
    """Writes the manifest of a finished corpus and returns it as a dict."""
    manifest = {
        "generator": GENERATOR,
        "options": options,
        "espeak": espeak,
        "counts": counts,
        "files": len(tree_files(root)),
        "sha256": tree_hash(root),
    }
    (root / NAME).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    return manifest


def find(out, options):
    """Returns the manifest of a finished corpus made with the same options, None if out is free.

    Args:
        out: Path of the corpus.
        options: dict of the options that decide its bytes.

    Raises:
        UserError: something else is there. Nothing is ever deleted.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    manifest = _read(out)
    made = {"generator": manifest["generator"], **manifest["options"]}
    wanted = {"generator": GENERATOR, **options}
    if made != wanted:
        raise UserError(
            f"{out} holds a corpus made with {_words(made)}, but {_words(wanted)} is asked for: "
            "name another folder, or remove this one first"
        )
    files = len(tree_files(out))
    if files != manifest["files"]:
        raise UserError(
            f"{out} holds {files} files where the corpus that was written there has "
            f"{manifest['files']}: remove the folder and make the corpus again"
        )
    return manifest


def _read(out):
    try:
        manifest = json.loads((out / NAME).read_text(encoding="utf-8"))
        manifest["generator"], manifest["files"], dict(manifest["options"])
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f"{out} exists and is not a corpus of this program (no readable {NAME} in it): "
            "name a folder that is empty or does not exist"
        ) from None
    return manifest


def _words(options):
    return ", ".join(f"{name}={value}" for name, value in options.items())
