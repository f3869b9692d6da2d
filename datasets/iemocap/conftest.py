"""A copy of the dummy release that a test may damage."""

import dataclasses
import pathlib
import shutil
import tarfile
import wave

import numpy as np
import pytest

from .files import ROOT


@dataclasses.dataclass
class Release:
    """A manual_dir of its own."""

    manual_dir: pathlib.Path

    @property
    def root(self) -> pathlib.Path:
        return self.manual_dir / ROOT

    @property
    def augmented(self) -> pathlib.Path:
        return self.manual_dir / "augmented"

    def labels(self, dialog: str) -> pathlib.Path:
        return self.root / f"Session{dialog[4]}/dialog/EmoEvaluation/{dialog}.txt"

    def transcripts(self, dialog: str) -> pathlib.Path:
        return self.root / f"Session{dialog[4]}/dialog/transcriptions/{dialog}.txt"

    def wav(self, path: pathlib.Path) -> np.ndarray:
        with wave.open(str(path)) as wav:
            return np.frombuffer(wav.readframes(wav.getnframes()), "<i2")

    def pack(self) -> pathlib.Path:
        """Replaces the folder by its archive."""
        archive = self.manual_dir / f"{ROOT}.tar.gz"
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(self.root, ROOT)
        shutil.rmtree(self.root)
        return archive


@pytest.fixture
def release(tmp_path) -> Release:
    manual_dir = tmp_path / "manual"
    shutil.copytree(pathlib.Path(__file__).parent / "dummy_data", manual_dir)
    return Release(manual_dir)


def edit(path: pathlib.Path, old: bytes, new: bytes) -> None:
    """Replaces the first `old` in a file, which must be there."""
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1))


@pytest.fixture(name="edit")
def edit_fixture():
    return edit
