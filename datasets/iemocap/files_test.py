"""The release found, and read alike from its folder and its archive."""

import io
import tarfile

import pytest

from .files import ROOT, Archive, ReleaseError, find_release


def contents(files) -> dict[str, bytes]:
    return {path: files.read(path) for path in files.paths}


def error_of(manual_dir) -> str:
    with pytest.raises(ReleaseError) as error:
        find_release(manual_dir)
    return str(error.value)


def test_archive_equals_folder(release):
    folder = contents(find_release(release.manual_dir))
    assert len(folder) == 28 + 2 * 11
    release.pack()
    assert contents(find_release(release.manual_dir)) == folder


def test_dot_files_and_raters_folders_are_left_out(release):
    (release.root / "Session1/sentences/wav/.DS_Store").write_bytes(b"\0")
    paths = find_release(release.manual_dir).paths
    assert not any("/." in path or "Categorical" in path for path in paths)


def test_what_is_not_read_is_listed_alike(release):
    odd = (
        "Session1/dialog/transcriptions/old/Ses01F_impro01.txt",
        "Session1/dialog/transcriptions/Ses01F_impro01.doc",
        "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.mp3",
        "Session1/sentences/wav/Ses01F_impro01_F000.wav",
        "Session2 (copy)/dialog/EmoEvaluation/Ses02F_impro02.txt",
    )
    elsewhere = ("Session1/dialog/EmoEvaluation/Attribute/x.txt", "Session1/dialog/wav/x.wav")
    hidden = ("Session1/sentences/wav/.DS_Store", "Session1/dialog/transcriptions/._x.txt")
    for name in (*odd, *elsewhere, *hidden):
        (release.root / name).parent.mkdir(parents=True, exist_ok=True)
        (release.root / name).write_bytes(b"x")
    assert find_release(release.manual_dir).unread == sorted(odd)
    release.pack()
    assert find_release(release.manual_dir).unread == sorted(odd)


@pytest.mark.parametrize("root", ["", "./", f"./{ROOT}/", f"{ROOT}_withoutVideos/"])
def test_archives_with_other_roots(root, tmp_path):
    name = "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
    assert contents(Archive(pack(tmp_path, {root + name: b"x"}))) == {name: b"x"}


def pack(folder, members: dict[str, bytes]):
    path = folder / f"{ROOT}.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def test_members_elsewhere_are_neither_read_nor_written(tmp_path):
    outside = f"{ROOT}/../Session1/dialog/EmoEvaluation/a.txt"
    names = [outside, "/etc/x", "../Session1/dialog/EmoEvaluation/b.txt", f"{ROOT}/notes.txt"]
    archive = Archive(pack(tmp_path, dict.fromkeys(names, b"x")))
    assert archive.paths == []
    assert [path.name for path in tmp_path.iterdir()] == [f"{ROOT}.tar.gz"]


@pytest.mark.parametrize("cut", [0, 10, -2000, -1])
def test_damaged_archive(cut, release):
    path = release.pack()
    path.write_bytes(path.read_bytes()[:cut])
    assert f"{path} cannot be read" in error_of(release.manual_dir)


def test_archive_with_a_wrong_checksum(release):
    path = release.pack()
    data = path.read_bytes()
    path.write_bytes(data[:-8] + bytes(4) + data[-4:])  # CRC-32, then the length.
    assert "CRC check failed" in error_of(release.manual_dir)


def test_archive_is_read_once_and_again_when_replaced(release):
    path = release.pack()
    first = find_release(release.manual_dir)
    assert find_release(release.manual_dir) is first
    name = f"{ROOT}/Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
    pack(release.manual_dir, {name: b"x"})
    assert path.exists() and len(find_release(release.manual_dir).paths) == 1


def test_folder_goes_before_archive(release):
    (release.manual_dir / f"{ROOT}.tar.gz").write_bytes(b"not one")
    assert str(find_release(release.manual_dir)) == str(release.root)


def test_two_archives(release):
    second = release.pack().rename(release.manual_dir / f"{ROOT}_withoutVideos.tar.gz")
    (release.manual_dir / f"{ROOT}.tar.gz").write_bytes(second.read_bytes())
    assert "holds 2 archives" in error_of(release.manual_dir)


def test_what_was_found_instead_is_named(release):
    release.root.rename(release.manual_dir / "iemocap")
    message = error_of(release.manual_dir)
    assert "found:\n  augmented\n  iemocap\n" in message and "sail.usc.edu" in message


def test_the_release_itself_as_manual_dir(release):
    assert "pass the folder above it" in error_of(release.root)


def test_release_without_label_files(release):
    for path in release.root.glob("Session*/dialog/EmoEvaluation/*.txt"):
        path.unlink()
    assert "holds no label file" in error_of(release.manual_dir)
