"""Files that a reader never meets half of, on a disk or in a bucket (`gs://...`)."""

import os
import tempfile

from etils import epath


def is_remote(path: str) -> bool:
    """Whether a path names an object store."""
    return "://" in str(path)


def resolve(path: str) -> str:
    """A path as it was meant: whole, without ~; an object store's stays as it is."""
    return str(path) if is_remote(path) else os.path.abspath(os.path.expanduser(path))


def exists(path: str) -> bool:
    """Whether there is such a file or folder."""
    return epath.Path(path).exists()


def read_text(path: str) -> str:
    """A text file's content."""
    return epath.Path(path).read_text()


def replace_file(path: str, content: str | bytes) -> None:
    """Writes a file, and its folder if need be: whole, or not there."""
    data = content.encode("utf-8") if isinstance(content, str) else content
    if is_remote(path):
        epath.Path(path).write_bytes(data)  # an object appears when it is whole
    else:
        _replace_local(path, data)


def _replace_local(path, data):
    folder = os.path.dirname(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=".", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as f:
            f.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
