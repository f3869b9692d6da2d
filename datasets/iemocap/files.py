"""The release's files as bytes, from its folder or from its .tar.gz."""

import functools
import gzip
import pathlib
import re
import tarfile
import tempfile

ROOT = "IEMOCAP_full_release"
REQUEST_URL = "https://sail.usc.edu/iemocap/"
SHOWN = 20  # lines of a message

INSTRUCTIONS = f"""\
IEMOCAP is licensed: it cannot be downloaded by a program and is not part of this repository.
  1. Ask the SAIL lab, University of Southern California, for it: {REQUEST_URL} has the
     licence form.
  2. Put what you receive in one folder, MANUAL_DIR, unpacked or as it came:
       MANUAL_DIR/{ROOT}/Session1 ... Session5
       MANUAL_DIR/{ROOT}.tar.gz
     and, optionally, back-translated text and synthesised speech in MANUAL_DIR/augmented/.
  3. Run, in the folder of the repository:
       tfds build datasets/iemocap --manual_dir=MANUAL_DIR --data_dir=DATA_DIR
"""

# Only files directly in EmoEvaluation are label files: its sub-folders hold single raters'.
# A name that begins with "." is macOS's litter, such as `._Ses01F_impro01.txt`.
_NAME = r"[^/.][^/]*"
_WANTED = re.compile(
    r"Session[1-5]/(?:"
    rf"dialog/(?:EmoEvaluation|transcriptions)/{_NAME}\.txt|"
    rf"sentences/wav/{_NAME}/{_NAME}\.wav)"
)
# Where everything is either wanted or named as not read; a hidden name is neither.
_PLACE = re.compile(
    r"Session[^/]*/(?:dialog/(?:EmoEvaluation/[^/]*|transcriptions/.*)|sentences/wav/.*)"
)
_MEMBER = re.compile(rf"(?:\./)?(?:{ROOT}[^/]*/)?(?P<path>Session.*)")


# Bytes of a file that is needed, and of all: the real release has 1.1 MB and 1.4 GB.
_MOST_OF_ONE, _MOST = 2**26, 2**33


class ReleaseError(ValueError):
    """The release or the augmented data cannot be used as they are.

    The message says what was found, what was expected and what to do.
    """


def listing(lines: list[str]) -> str:
    """Joins `lines`, one indented line each, cut to the first 20 and a count of the rest."""
    rest = len(lines) - SHOWN
    shown = lines[:SHOWN] + ([f"... and {rest} more"] if rest > 0 else [])
    return "\n".join(f"  {line}" for line in shown)


def _is_unread(path: str) -> bool:
    hidden = any(part.startswith(".") for part in path.split("/"))
    return bool(_PLACE.fullmatch(path)) and not _WANTED.fullmatch(path) and not hidden


class Folder:
    """The extracted release.

    Attributes:
      paths: sorted names of the files needed, relative to the release, with "/".
      unread: sorted names of the other files that stand among them.

    Raises:
      ReleaseError: what is named like a file that is needed is none.
    """

    def __init__(self, root: pathlib.Path):
        self._root = root
        places = ("dialog/EmoEvaluation/*", "dialog/transcriptions/**/*", "sentences/wav/**/*")
        found = [p for place in places for p in root.glob(f"Session*/{place}")]
        names = sorted(p.relative_to(root).as_posix() for p in found if p.is_file())
        others = {p.relative_to(root).as_posix() for p in found}.difference(names)
        if others := sorted(filter(_WANTED.fullmatch, others)):
            raise ReleaseError(
                f"{len(others)} names of files in {root} are no files, but folders, pipes, devices "
                f"or links that lead nowhere:\n{listing(others)}\nUnpack the release again."
            )
        self.paths = [name for name in names if _WANTED.fullmatch(name)]
        self.unread = [name for name in names if _is_unread(name)]

    def __str__(self) -> str:
        return str(self._root)

    def read(self, path: str) -> bytes:
        """Returns the content of the file named `path` in `paths`."""
        return (self._root / path).read_bytes()


class _Bounded:
    """A stream that gives no more at once than the largest file has.

    A header of tar's own extensions can be of any size, and is read whole.
    """

    def __init__(self, stream):
        self._stream = stream
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int) -> bytes:
        """Returns the next bytes; raises ReadError where too many are asked for."""
        if not 0 <= size <= _MOST_OF_ONE:
            raise tarfile.ReadError(f"a header of {size} bytes, expected at most {_MOST_OF_ONE}")
        return self._stream.read(size)


class Archive:
    """The release's .tar.gz.

    One pass copies the files needed into an anonymous temporary file (1.4 GB of the real
    release's 12): a .tar.gz has no random access, and what has no name can neither be left
    behind nor, whatever a member is called, overwrite anything.

    Attributes:
      paths, unread: as in `Folder`.

    Raises:
      ReleaseError: the archive is damaged.
    """

    def __init__(self, archive: pathlib.Path):
        self._archive = archive
        self._spool = tempfile.TemporaryFile(prefix="iemocap")
        self._places = {}
        self.unread = []
        try:
            self._copy()
        except Exception as error:  # tarfile's, zlib's, and ValueError at many a damaged header
            raise ReleaseError(
                f"{archive} cannot be read to its end as .tar.gz: {error}.\n"
                f"Compare its size with the download's ({REQUEST_URL}) and fetch it again; the "
                "folder for temporary files (TMPDIR) must have 2 GB free."
            ) from error
        self.paths = sorted(self._places)
        self.unread.sort()

    def __str__(self) -> str:
        return str(self._archive)

    def _copy(self) -> None:
        # Not "r|gz": that mode takes a truncated archive for one that ends there.
        with (
            gzip.open(self._archive) as stream,
            tarfile.open(fileobj=_Bounded(stream), mode="r:") as archive,
        ):
            for member in archive:
                match = _MEMBER.fullmatch(member.name)
                if not member.isfile() or not match:
                    continue
                if _is_unread(match["path"]):
                    self.unread.append(match["path"])
                elif _WANTED.fullmatch(match["path"]):
                    self._keep(archive, member, match["path"])
            while stream.read(1 << 20):
                pass  # To the end of the gzip stream, where its checksum is.

    def _keep(self, archive, member, path):
        """Copies a member; what unpacks to more than there can be (a bomb) is refused before."""
        start = self._spool.tell()
        if not 0 <= member.size <= _MOST_OF_ONE or start + member.size > _MOST:
            raise tarfile.ReadError(
                f"{member.name} would have {member.size} bytes, expected at most {_MOST_OF_ONE}, "
                f"and {_MOST} in all"
            )
        if path in self._places:
            raise tarfile.ReadError(f"{member.name} is in it twice")
        self._spool.write(archive.extractfile(member).read())
        self._places[path] = (start, member.size)

    def read(self, path: str) -> bytes:
        """Returns the content of the file named `path` in `paths`."""
        start, size = self._places[path]
        self._spool.seek(start)
        return self._spool.read(size)


@functools.lru_cache(maxsize=1)
def _archive(path: pathlib.Path, size: int, mtime_ns: int) -> Archive:
    """Reads an archive once per process: `tfds build` builds every config in turn."""
    del size, mtime_ns  # Part of the key, so that a file put in its place is read.
    return Archive(path)


def find_release(manual_dir: pathlib.Path) -> Folder | Archive:
    """Finds the release in `manual_dir`; an extracted folder goes before an archive.

    Raises:
      ReleaseError: there is none, more than one archive, or a damaged one.
    """
    if (manual_dir / ROOT).is_dir():
        files = Folder(manual_dir / ROOT)
    else:
        path = _only_archive(manual_dir)
        files = _archive(path, path.stat().st_size, path.stat().st_mtime_ns)
    if not any("/EmoEvaluation/" in path for path in files.paths):
        raise ReleaseError(
            f"{files} holds no label file: expected Session1..5/dialog/EmoEvaluation/<dialog>.txt."
            f"\n\n{INSTRUCTIONS}"
        )
    return files


def _only_archive(manual_dir: pathlib.Path) -> pathlib.Path:
    archives = sorted(p for p in manual_dir.glob(f"{ROOT}*.tar.gz") if p.is_file())
    if len(archives) == 1:
        return archives[0]
    if archives:
        raise ReleaseError(
            f"{manual_dir} holds {len(archives)} archives of IEMOCAP, expected one:\n"
            f"{listing([p.name for p in archives])}\nMove the others away."
        )
    names = sorted(p.name for p in manual_dir.iterdir()) if manual_dir.is_dir() else []
    found = f"found:\n{listing(names)}" if names else "found nothing"
    hint = ""
    if "Session1" in names:
        hint = f"\nIt looks like the release itself: pass the folder above it, with {ROOT}/ in it."
    raise ReleaseError(
        f"No IEMOCAP release in {manual_dir}: looked for {ROOT}/ and {ROOT}*.tar.gz, {found}{hint}"
        f"\n\n{INSTRUCTIONS}"
    )
