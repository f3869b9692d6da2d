"""A damaged release of IEMOCAP: label files, transcripts, augmented views, archives."""

import gzip
import io
import os
import pathlib
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets.iemocap import augmented, files, release
from datasets.iemocap.files import ROOT, ReleaseError
from tests.inputs import damage, guard
from tests.inputs.guard import REFUSED, SAME, Damaged

DUMMY = pathlib.Path(release.__file__).parent / "dummy_data"
LABELS = "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
TEXTS = "Session1/dialog/transcriptions/Ses01F_impro01.txt"
FIELDS = ("nan", "inf", "-1", "9" * 400, "1e5", "", "6.29", "Ses01F_impro01_M000", "xxx", "joy",
          "\0", "é", "Ses09F_impro01_F000", "../../canary", "[", "]:", "\t")  # fmt: skip


class Release:
    """The dummy release in memory: what `files.Folder` is on a disk."""

    def __init__(self, content, **changed):
        self._content = content | changed
        self.paths, self.unread = sorted(self._content), []

    def __str__(self):
        return "the release"

    def read(self, path):
        return self._content[path]


@pytest.fixture(scope="module")
def content():
    found = files.find_release(DUMMY)
    return {path: found.read(path) for path in found.paths}


def check(utterances):
    for u in utterances:
        assert u.label in release.LABELS and 0 <= u.start < u.end and "\0" not in u.transcript
        assert all(0 <= x <= 10 for x in (u.valence, u.activation, u.dominance))
    assert len({u.id for u in utterances}) == len(utterances)


@st.composite
def damaged_lines(draw, data: bytes, separators="\t []-,:"):
    """A text file with fields of its lines that are others, or lines gone, doubled or moved."""
    lines = data.decode().split("\n")
    at = draw(st.integers(0, len(lines) - 1))
    way = draw(st.sampled_from(("field", "field", "field", "gone", "twice", "moved")))
    if way == "gone":
        lines.pop(at)
    elif way == "twice":
        lines.insert(at, lines[at])
    elif way == "moved":
        lines.insert(draw(st.integers(0, len(lines) - 1)), lines.pop(at))
    else:
        separator = draw(st.sampled_from(separators))
        parts = lines[at].split(separator)
        parts[draw(st.integers(0, len(parts) - 1))] = draw(st.sampled_from(FIELDS))
        lines[at] = separator.join(parts)
    return Damaged("\n".join(lines).encode(), f"line {at + 1} {way}")


@pytest.mark.parametrize("path, kind", [(LABELS, "label files"), (TEXTS, "transcripts")])
def test_label_files_and_transcripts(path, kind, content):
    expected = release.read_release(Release(content))

    @given(st.one_of(damaged_lines(content[path]), damage.damaged_bytes(content[path])))
    def run(damaged):
        guard.judge(
            f"IEMOCAP: {kind}", damaged,
            lambda: release.read_release(Release(content, **{path: damaged.data})),
            lambda x: x == expected, check, ReleaseError,
        )  # fmt: skip

    run()


def test_augmented_views(content, tmp_path_factory):
    folder = tmp_path_factory.mktemp("views")
    ids = {u.id for u in release.read_release(Release(content))}
    first, second, third = sorted(ids)[:3]
    head = ["utterance", "text", "audio", "voice"]
    cells = [[first, "One, two.", "a.wav", "Ses02F"], [first, "One, two.", f"b_{first}.wav", ""],
             [second, "Three", "", ""], [third, "", f"{third}.wav", "somebody"]]  # fmt: skip
    for name in ("a.wav", f"b_{first}.wav", f"{third}.wav"):
        (folder / name).write_bytes(b"x")
    (folder.parent / "canary").touch()

    def read(data):
        (folder / "t.csv").write_bytes(data)
        return augmented.read_augmented(folder, ids)

    expected = read(damage.written(head, cells).encode())

    def check_views(found):
        assert {*found.texts, *found.recordings} <= ids
        assert all(p.parent == folder and p.is_file() for v in found.recordings.values() for p in v)

    refused = {"utterance": ("", " ", "soon", "nan"), "audio": ("/dev/zero", ".", "../../canary"),
               "voice": ("x,y",)[:0]}  # fmt: skip
    strategy = st.one_of(
        damage.damaged_table(head, cells, refused=refused),
        damage.damaged_bytes(damage.written(head, cells).encode()),
    )

    @given(strategy)
    def run(damaged):
        guard.judge("IEMOCAP: augmented views", damaged, lambda: read(damaged.data),
                    lambda x: x == expected, check_views, ReleaseError)  # fmt: skip

    run()


def packed(members) -> bytes:
    """A .tar.gz of (TarInfo, content or None)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", compresslevel=1) as tar:
        for info, data in members:
            info.size = len(data or b"")
            tar.addfile(info, io.BytesIO(data) if data is not None else None)
    return out.getvalue()


def member(name, kind=tarfile.REGTYPE, target="", **pax):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.pax_headers = kind, target, pax
    return info


def header(name, size: int, kind=b"0", content=b"") -> bytes:
    """A tar header by hand, which may give any size, and content behind it."""
    info = member(name, kind)
    info.size = 0
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    number = size % 2**96
    block[124:136] = (b"\xff" if size < 0 else b"\x80") + (number % 2**88).to_bytes(11, "big")
    block[148:156] = b"        "
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + content


@pytest.fixture(scope="module")
def members(content):
    return [(member(f"{ROOT}/{path}"), data) for path, data in content.items()]


HOSTILE = {  # name -> what the archive begins with, and what must come of it
    "climbs out": ([(member(f"{ROOT}/../../{guard.CANARY}"), b"x")], SAME),
    "absolute": ([(member(f"/tmp/{guard.CANARY}"), b"x")], SAME),
    "a link that climbs": (
        [(member(f"{ROOT}/{LABELS}x.txt", tarfile.SYMTYPE, "/etc/passwd"), None)], SAME),
    "a hard link": ([(member(f"{ROOT}/link.wav", tarfile.LNKTYPE, "/etc/passwd"), None)], SAME),
    "a pipe": ([(member(f"{ROOT}/{TEXTS}x.txt", tarfile.FIFOTYPE), None)], SAME),
    "a device": ([(member(f"{ROOT}/{TEXTS}x.txt", tarfile.CHRTYPE), None)], SAME),
    "a file twice": ([(member(f"{ROOT}/{LABELS}"), b"x")], REFUSED),
    "a long name": ([(member(f"{ROOT}/{'a' * 5000}"), b"x")], SAME),
    "odd names": ([(member(f"{ROOT}/\udcff\n\x1b[31m"), b"x")], SAME),
    "a header that is none": ([(member("x", **{"GNU.sparse.map": "a,b"}), b"x")], ""),
}  # fmt: skip


def test_hostile_archives(members, content, tmp_path):
    path = tmp_path / f"{ROOT}.tar.gz"
    wanted = f"{ROOT}/{LABELS[:-4]}b.txt"
    bombs = {
        # 512 MB of zeros, a file that would be kept; and one that is passed over
        "a bomb": header(wanted, 2**29) + bytes(2**27), "a size below 0": header(wanted, -1024),
        "2^62 bytes": header(wanted, 2**62), "2^62 bytes of a name": header("x", 2**62, b"L"),
        "512 MB of a name": header("x", 2**29, b"L") + bytes(2**27),
        "512 MB of options": header("x", 2**29, b"x") + bytes(2**27),
    }  # fmt: skip
    cases = [(name, packed([*begin, *members]), must) for name, (begin, must) in HOSTILE.items()]
    cases += [(k, gzip.compress(v, 1) + packed(members), REFUSED) for k, v in bombs.items()]
    for how, data, must in cases:
        path.write_bytes(data)

        def read():
            found = files.Archive(path)
            return {name: found.read(name) for name in found.paths}

        guard.judge("IEMOCAP: hostile archives", Damaged(path, how, must), read,
                    lambda x: x == content, refusals=ReleaseError)  # fmt: skip
        assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_damaged_archives(members, content, tmp_path_factory):
    path = tmp_path_factory.mktemp("archive") / f"{ROOT}.tar.gz"
    small = [pair for pair in members if not pair[0].name.endswith(".wav")]
    expected = {path: data for path, data in content.items() if not path.endswith(".wav")}
    zipped, tar = packed(small), gzip.decompress(packed(small))
    path.write_bytes(zipped)

    def read():
        found = files.Archive(path)
        return {name: found.read(name) for name in found.paths}

    assert read() == expected
    strategy = st.one_of(
        damage.damaged_bytes(zipped),
        # What was damaged before it was packed has no checksum but those of tar's headers.
        damage.damaged_bytes(tar).map(lambda x: Damaged(gzip.compress(x.data, 1), x.how)),
    )

    @given(strategy)
    def run(damaged):
        path.write_bytes(damaged.data)
        guard.judge("IEMOCAP: archives", damaged, read, lambda x: x == expected,
                    lambda x: all(map(files._WANTED.fullmatch, x)), ReleaseError)  # fmt: skip

    run()


def test_a_release_of_links_and_pipes(content, tmp_path):
    """In a folder a link is what it leads to; what never ends is not waited for."""
    root = tmp_path / ROOT
    for name, data in content.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    wav = next(name for name in content if name.endswith(".wav"))
    expected = release.read_release(Release(content))
    for how, spoil, must in (
        ("a pipe", os.mkfifo, REFUSED), ("a device", lambda p: p.symlink_to("/dev/zero"), REFUSED),
        ("a loop", lambda p: p.symlink_to(p), REFUSED), ("a folder", lambda p: p.mkdir(), REFUSED),
        ("a link", lambda p: p.symlink_to(tmp_path / "kept"), SAME),
    ):  # fmt: skip
        for name in (LABELS, TEXTS, wav):
            (tmp_path / "kept").write_bytes(content[name])
            (root / name).unlink()
            spoil(root / name)
            guard.judge("IEMOCAP: no files", Damaged(name, f"{how}: {name}", must),
                        lambda: release.read_release(files.find_release(tmp_path)),
                        lambda x: x == expected, check, ReleaseError)  # fmt: skip
            (root / name).rmdir() if how == "a folder" else (root / name).unlink()
            (root / name).write_bytes(content[name])
