"""Damaged recordings, as the predictor and the two dataset builders read them."""

import io
import os
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets.iemocap import audio as iemocap
from datasets.iemocap.files import ReleaseError
from datasets.speech_emotion import audio as speech_emotion
from mmer_jax.errors import UserError
from mmer_jax.inference import audio_io
from tests.inference import odd_recordings as odd
from tests.inputs import damage, guard
from tests.inputs.guard import KNOWN, REFUSED, SAME, Damaged

WAVE = odd.tone(0.3)
FILES = {form: odd.encoded(WAVE, form=form[0], subtype=form[1]) for form in odd.FORMATS}
WAV, FLAC = FILES["WAV", "PCM_16"], FILES["FLAC", "PCM_16"]
NUMBERS = (0, 1, 2, 3, 7, 8, 24, 255, 1000, 16_001, 48_000, 65_535, 2**16, 2**20, 2**31 - 1, 2**31,
           2**32 - 1)  # fmt: skip


@st.composite
def wavs(draw):
    """A WAV whose header has another number somewhere, or other chunks around."""
    at, size, must = draw(st.sampled_from([
        (4, 4, SAME), (-1, 0, SAME), (-2, 0, SAME), (16, 4, KNOWN), (20, 2, KNOWN), (22, 2, KNOWN),
        (24, 4, KNOWN), (28, 4, KNOWN), (32, 2, KNOWN), (34, 2, KNOWN), (40, 4, KNOWN),
    ]))  # fmt: skip
    number = draw(st.sampled_from(NUMBERS)) % 2 ** (8 * max(size, 1))
    if at == -1:
        chunk = b"LIST" + struct.pack("<I", 16) + b"INFOISFT\4\0\0\0me\0\0"
        body = WAV[:36] + chunk + WAV[36:]
        return Damaged(
            body[:4] + struct.pack("<I", len(body) - 8) + body[8:], "a chunk before", must
        )
    if at == -2:
        return Damaged(WAV + b"LIST" + struct.pack("<I", 4) + b"INFO", "a chunk behind", must)
    data = WAV[:at] + number.to_bytes(size, "little") + WAV[at + size :]
    return Damaged(data, f"{number} at {at}", must)


@st.composite
def recordings(draw):
    """A recording of any format with damaged bytes, or an odd one."""
    if not draw(st.integers(0, 4)):
        make = draw(st.sampled_from(odd.KINDS))
        form, data = make(np.random.default_rng(draw(st.integers(0, 10**6))))
        return Damaged(data, f"{form}, {make.__name__}")
    form = draw(st.sampled_from(odd.FORMATS))
    found = draw(damage.damaged_bytes(FILES[form], head=0.7))
    # Ogg has a checksum of all, FLAC of all but its first block.
    summed = {"OGG": 0, "FLAC": 42}.get(form[0], len(FILES[form]))
    must = KNOWN if found.data[:summed] == FILES[form][:summed] else ""
    return Damaged(found.data, f"{form[0]} {form[1]}, {found.how}", must)


@pytest.fixture(autouse=True, scope="module")
def every_warning():
    """Not once for a file of a name."""
    once, audio_io._warn_once = audio_io._warn_once, audio_io._warn_once.__wrapped__
    yield
    audio_io._warn_once = once


def floats(value):
    assert value.dtype == np.float32 and value.ndim == 1 and np.isfinite(value).all()
    assert 480 <= len(value) <= 3600 * 16_000


@pytest.mark.parametrize("kind", ["path", "object"])
def test_a_wavs_header(kind, tmp_path_factory):
    path = tmp_path_factory.mktemp("wav") / "a.wav"
    path.write_bytes(WAV)
    expected = audio_io.read(path)

    @given(wavs())
    def run(damaged):
        path.write_bytes(damaged.data)
        read = {"path": lambda: audio_io.read(path),
                "object": lambda: audio_io.read(io.BytesIO(damaged.data))}[kind]  # fmt: skip
        guard.judge("recording: WAV headers", damaged, read,
                    lambda x: np.array_equal(x, expected), floats)  # fmt: skip

    run()


def test_recordings_of_all_formats(tmp_path_factory):
    path = tmp_path_factory.mktemp("recording") / "a.wav"
    expected = [audio_io.read(io.BytesIO(data)) for data in FILES.values()]

    def read(data):
        """As a file; as a file object it is the same, or is refused the same."""
        path.write_bytes(data)
        found = []
        for source in (path, io.BytesIO(data)):
            try:
                found.append(audio_io.read(source, name="it"))
            except UserError as e:
                found.append(e)
        if isinstance(found[0], UserError):
            assert str(found[1]) == str(found[0])
            raise found[0]
        np.testing.assert_array_equal(*found)
        return found[0]

    @given(recordings())
    def run(damaged):
        guard.judge("recording: bytes of 15 formats", damaged, lambda: read(damaged.data),
                    lambda x: any(np.array_equal(x, y) for y in expected), floats)  # fmt: skip

    run()


def test_recordings_of_a_table(tmp_path_factory):
    path = tmp_path_factory.mktemp("recording") / "a.wav"
    expected = []
    for data in FILES.values():
        path.write_bytes(data)
        expected.append(speech_emotion.load(path))

    @given(st.one_of(wavs(), recordings()))
    def run(damaged):
        path.write_bytes(damaged.data)
        guard.judge(
            "recording: builder of a user's corpus", damaged, lambda: speech_emotion.load(path),
            lambda x: any(np.array_equal(x, y) for y in expected),
            lambda x: x.dtype == np.int16 and x.any(), speech_emotion.AudioError,
        )  # fmt: skip

    run()


def test_recordings_of_a_release():
    expected = [iemocap.decode(data) for data in (WAV, FLAC)]

    @given(st.one_of(wavs(), damage.damaged_bytes(WAV, 0.7), damage.damaged_bytes(FLAC, 0.7)))
    def run(damaged):
        # The release's are all alike: another length of the whole may be refused as well.
        strict = Damaged(damaged.data, damaged.how, damaged.must and KNOWN)
        guard.judge(
            "recording: builder of IEMOCAP", strict, lambda: iemocap.decode(damaged.data),
            lambda x: any(np.array_equal(x, y) for y in expected),
            lambda x: x.dtype == np.int16 and x.any(), iemocap.WavError,
        )  # fmt: skip

    run()


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "fifo.wav")
    (tmp_path / "loop.wav").symlink_to(tmp_path / "loop.wav")
    (tmp_path / "zero.wav").symlink_to("/dev/zero")
    (tmp_path / "link.wav").symlink_to(tmp_path / "a.wav")
    (tmp_path / "a.wav").write_bytes(WAV)
    for name, must in (("fifo.wav", REFUSED), ("loop.wav", REFUSED), ("zero.wav", REFUSED),
                       ("", REFUSED), ("link.wav", SAME)):  # fmt: skip
        damaged = Damaged(tmp_path / name, name, must)
        readers = (audio_io.read, UserError), (speech_emotion.load, speech_emotion.AudioError)
        for read, refusal in readers:
            guard.judge("recording: no files", damaged, lambda r=read, d=damaged: r(d.data),
                        lambda x: len(x) == 4800, refusals=refusal)  # fmt: skip
    assert issubclass(iemocap.WavError, ValueError) and issubclass(ReleaseError, ValueError)


@pytest.mark.parametrize("header", [WAV[:44], FLAC[:42]], ids=["wav", "flac"])
def test_a_file_of_2_gb_is_no_more_in_memory(header, tmp_path):
    """Sparse: its zeros are nowhere. Read block by block, or refused by its length."""
    path = tmp_path / "a.wav"
    sizes = struct.pack("<I", 2**31 + 36), struct.pack("<I", 2**31)
    if header.startswith(b"RIFF"):
        header = header[:4] + sizes[0] + header[8:40] + sizes[1]
    with open(path, "wb") as f:
        f.write(header)
        f.truncate(2**31)
    damaged = Damaged(path, "2 GB", REFUSED)
    for read, refusal in (
        (audio_io.read, UserError), (speech_emotion.load, speech_emotion.AudioError),
    ):  # fmt: skip
        guard.judge("recording: 2 GB", damaged, lambda r=read: r(path), lambda x: False,
                    refusals=refusal, mebibytes=400)  # fmt: skip
