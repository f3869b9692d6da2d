"""Files that a reader never meets half of, on a disk or in a bucket (`gs://...`)."""

import atexit
import contextlib
import json
import os
import pathlib
import shutil
import tempfile

from etils import epath

try:
    import fcntl
except ImportError:  # Windows: nobody is kept out there
    fcntl = None

from mmer_jax.errors import NotWritten, UserError, refusal


def shipped(name: str) -> str:
    """`configs` or `datasets`: in a wheel they are in the package, in a clone beside it."""
    package = pathlib.Path(__file__).parent
    inside = package / name
    return str(inside if inside.is_dir() else package.parent / name)


def is_remote(path: str) -> bool:
    """Whether a path names an object store."""
    return "://" in str(path)


def resolve(path: str) -> str:
    """A path as it was meant: whole, without ~; an object store's stays as it is."""
    return str(path) if is_remote(path) else os.path.abspath(os.path.expanduser(path))


def exists(path: str) -> bool:
    """Whether there is such a file or folder."""
    return epath.Path(path).exists()


def check_regular(path: str) -> None:
    """Raises UserError for a device, a pipe or a socket, which may never end."""
    if not is_remote(path) and os.path.exists(path) and not os.path.isfile(path):
        if not os.path.isdir(path):
            raise UserError(f"{path} is a device or a pipe; expected a file.")


def read_text(path: str) -> str:
    """A text file's content.

    Raises:
      UserError: it is no file, see `check_regular`.
    """
    check_regular(path)
    return epath.Path(path).read_bytes().decode("utf-8")  # whatever the system's encoding is


def sha256(path: str) -> str:
    """64 hex digits of a local file's content."""
    from huggingface_hub.utils.sha import sha_fileobj

    with open(path, "rb") as f:
        return sha_fileobj(f).hex()


def replace_file(path: str, content: str | bytes) -> None:
    """Writes a file, and its folder if need be: whole, or not there.

    One on a disk that holds this already is left alone, be it on a disk that can't be written.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    if _holds(path, data):
        return
    with replacing(path) as temporary, open(temporary, "wb") as f:
        f.write(data)


def replace_results(folder: str, content: dict[str, str | bytes], table: str) -> None:
    """Writes files of results, each as `replace_file` does.

    Args:
      folder: for the files.
      content: name -> what it holds.
      table: what the results are, in short.

    Raises:
      NotWritten: a file can't be written; has the table.
    """
    try:
        for name, data in content.items():
            replace_file(os.path.join(folder, name), data)
    except OSError as e:
        raise NotWritten(
            f"The results can't be written to {folder} ({e.strerror or e}). Make it writable, or "
            "copy the run to where it is, and run the same command again.",
            table,
        ) from e


@contextlib.contextmanager
def replacing(path: str):
    """Path of a local file that takes the place of `path` if the block ends well.

    Its content is then on the disk, not only on its way there: what it stands for may be deleted.
    Several processes take turns; what a killed one left is written over.
    """
    if is_remote(path):
        with tempfile.TemporaryDirectory() as folder:
            temporary = os.path.join(folder, "content")
            yield temporary
            epath.Path(path).write_bytes(pathlib.Path(temporary).read_bytes())
        return
    folder, name = os.path.split(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    temporary = os.path.join(folder, f".{name[-50:]}.tmp")  # names have an end
    with lock(temporary) as is_alone:
        temporary = temporary if is_alone else f"{temporary}.{os.getpid()}"
        try:
            yield temporary
            with open(temporary, "rb") as f:
                os.fsync(f.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        finally:
            if not is_alone:
                pathlib.Path(temporary).unlink(missing_ok=True)


@contextlib.contextmanager
def lock(path: str, taken: str = "", on_wait=None):
    """Holds a file, made if need be, that one process at a time can hold; at the end it is deleted.

    Whatever ends a process, the system lets go of what it held. Where the file can't be made, or
    the disk knows no locks, nobody is kept out.

    Args:
      path: on a disk, in a folder that is there.
      taken: message of the error where another process holds it; "": it is waited for.
      on_wait: called before that.

    Yields:
      Whether others are kept out.

    Raises:
      UserError: another process holds it.
    """
    while True:
        handle = None
        with contextlib.suppress(OSError):  # who writes there is told by what it writes
            handle = fcntl and os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        if handle is None:
            yield False
            return
        try:
            holds = _hold(handle)
            if holds is False:
                if taken:
                    raise UserError(taken)
                if on_wait:
                    on_wait()
                fcntl.flock(handle, fcntl.LOCK_EX)
                holds = True
            if _is_at(path, handle):  # else it was deleted, or renamed, by who held it
                try:
                    yield bool(holds)
                finally:
                    if _is_at(path, handle):
                        os.unlink(path)
                return
        finally:
            os.close(handle)


def keep_others_out(file, path: str) -> None:
    """Raises UserError where another process has called this for the same open file."""
    if _hold(file.fileno()) is False:
        raise UserError(
            f"Another process is writing {path}. Wait for it and run the same command again, or "
            "name another place."
        )


def _hold(handle):
    """True: this process holds the file from now on; False: another does; None: nobody can."""
    try:
        if fcntl:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    except BlockingIOError:
        return False
    except OSError:  # a disk without locks
        pass
    return None


def _is_at(path, handle):
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.stat(path), os.fstat(handle))
    return False


class Journal:
    """Lines of JSON that are kept as they come: what a killed command goes on with.

    Args:
      path: on a disk; need not be there.
      head: plain value of the first line, all that the entries depend on; a file of another one is
        begun anew.

    Attributes:
      entries: one for each whole line after the first.

    Raises:
      UserError: another process has it.
    """

    def __init__(self, path: str, head):
        self.path, self.entries = path, []
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        self._file = open(path, "a", encoding="utf-8", newline="\n")
        keep_others_out(self._file, path)
        size = self._read(json.dumps(head))
        self._file.truncate(size)
        if not size:
            self._write(head)

    def _read(self, head):
        """Takes over the whole lines of before; their size in bytes."""
        with open(self.path, "rb") as f:
            lines = f.read().split(b"\n")[:-1]  # the last one is empty, or half
        if not lines or lines[0].decode("utf-8", "replace") != head:
            return 0
        self.entries = [json.loads(line) for line in lines[1:]]
        return sum(len(line) + 1 for line in lines)

    def add(self, entry) -> None:
        """Keeps an entry, a plain value."""
        self._write(entry)
        self.entries.append(entry)

    def _write(self, entry):
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Leaves what there is for the next time."""
        self._file.close()


def remove_folder(path: str) -> None:
    """Deletes a folder and all that is in it; nothing if there is none."""
    if exists(path):
        epath.Path(path).rmtree()


def copy_files(folder: str, to: str) -> None:
    """Copies the files of a folder, not those of folders in it; either may be in a bucket."""
    for path in epath.Path(folder).iterdir():
        if path.is_file():
            replace_file(os.path.join(to, path.name), path.read_bytes())


def local_copy(folder: str) -> str:
    """A folder on a disk with the files of `folder`: itself, or a copy that lasts as long as we."""
    if not is_remote(folder):
        return folder
    to = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, to, ignore_errors=True)
    copy_files(folder, to)
    return to


def _holds(path, data):
    try:
        with open(path, "rb") as f:
            return f.read() == data
    except OSError:
        return False


@contextlib.contextmanager
def new_folder(folder: str):
    """A temporary folder that takes the place of `folder` if the block ends well, or disappears.

    Args:
      folder: must not exist, or be empty; on a disk.

    Yields:
      Path of the temporary folder, beside `folder`.

    Raises:
      UserError: the folder is taken, or can't be written.
    """
    _check_free(folder)
    folder = resolve(folder)
    parent, name = os.path.split(folder)
    taken = f"Another process is writing {folder}. Wait for it, or name another folder."
    temporary = os.path.join(parent, f".{name[-50:]}.writing")
    try:
        os.makedirs(parent, exist_ok=True)
        with lock(f"{temporary}.lock", taken):
            shutil.rmtree(temporary, ignore_errors=True)  # of a process that was killed
            os.mkdir(temporary)
            try:
                yield temporary
                _check_free(folder)  # a process elsewhere may have been faster
                os.rename(temporary, folder)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    except BrokenPipeError:
        raise  # of who reads our output
    except UserError as e:
        raise UserError(str(e).replace(temporary, folder)) from e
    except Exception as e:
        said = refusal(e)
        if said is None:
            raise
        raise UserError(f"{folder} can't be written: {said} Or name another folder.") from e


def _check_free(folder):
    if is_remote(folder):
        raise UserError(f"{folder} is no local folder; write to one and copy it from there.")
    folder = resolve(folder)
    if os.path.exists(folder) and (not os.path.isdir(folder) or os.listdir(folder)):
        raise UserError(f"{folder} exists and is not empty; name another folder or delete it.")
