"""Every kind of recording is read as it should be, or refused in one message."""

import io
import os
import tracemalloc

import numpy as np
import pytest
import soundfile

from mmer_jax.data.preprocessing import to_float
from mmer_jax.errors import UserError
from mmer_jax.inference import audio_io
from tests.inference import odd_recordings as odd

RATE = 16_000


@pytest.fixture
def samples():
    return np.random.default_rng(0).integers(-32768, 32768, 8_000).astype(np.int16)


def test_a_wav_as_the_corpus_has_it_is_read_exactly(samples, tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, samples, RATE)
    expected = to_float(samples)
    with open(path, "rb") as f:
        for audio in (str(path), path, f, io.BytesIO(path.read_bytes()), (samples, RATE)):
            found = audio_io.read(audio)
            assert found.dtype == np.float32
            np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(audio_io.read(samples, rate=RATE), expected)
    np.testing.assert_array_equal(audio_io.read((expected, RATE)), expected)


@pytest.mark.parametrize("form, subtype", odd.FORMATS)
def test_formats(form, subtype, tmp_path):
    wave = odd.tone(0.5)
    path = tmp_path / f"a.{form.lower()}"
    path.write_bytes(odd.encoded(wave, form=form, subtype=subtype))
    found = audio_io.read(path)
    lossy = subtype in ("VORBIS", "OPUS", "MPEG_LAYER_III")
    assert abs(len(found) - len(wave)) <= (1600 if lossy else 0)
    if not lossy:
        np.testing.assert_allclose(found, wave[:, 0], atol=0.03 if subtype == "ULAW" else 0.01)
    assert np.abs(np.fft.rfft(found)).argmax() * RATE / len(found) == pytest.approx(220, abs=3)


@pytest.mark.parametrize("kind, full", [
    ("int8", 2**7), ("uint8", 2**7), ("int16", 2**15), ("int32", 2**31), ("float32", 1),
    ("float64", 1), ("float16", 1),
])  # fmt: skip
def test_types_of_arrays_have_the_same_scale(kind, full):
    wave = odd.tone(0.1)[:, 0]
    middle = full if kind == "uint8" else 0
    array = (wave * max(full - 1, 1) + middle).astype(kind)
    np.testing.assert_allclose(audio_io.read((array, RATE)), wave, atol=0.02)


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000, 192_000])
def test_rates_are_resampled(rate, tmp_path):
    wave = odd.tone(0.5, rate)
    path = tmp_path / "a.wav"
    path.write_bytes(odd.encoded(wave, rate))
    found = audio_io.read(path)
    assert len(found) == pytest.approx(8_000, abs=2)
    assert np.abs(np.fft.rfft(found)).argmax() == pytest.approx(110, abs=1)
    np.testing.assert_allclose(audio_io.read((wave, rate)), found, atol=1e-3)
    assert np.std(found) == pytest.approx(0.3 / 2**0.5, rel=0.05)


def test_channels_are_averaged_whichever_way_round(tmp_path):
    both = np.stack([np.full(1_000, 0.5), np.full(1_000, -0.25)], 1)
    for array in (both, both.T):
        np.testing.assert_allclose(audio_io.read((array, RATE)), 0.125)
    path = tmp_path / "a.wav"
    path.write_bytes(odd.encoded(odd.tone(0.2, channels=8)))
    np.testing.assert_allclose(audio_io.read(path), odd.tone(0.2)[:, 0], atol=1e-4)


def test_arrays_of_other_libraries():
    torch = pytest.importorskip("torch")
    assert audio_io.read((torch.zeros(1, 1_000), RATE)).shape == (1_000,)
    with pytest.raises(UserError, match="can't be read as an array"):
        audio_io.read((torch.zeros(1, 1_000, requires_grad=True), RATE))


def test_a_lying_header_gives_what_is_there(tmp_path):
    data = bytearray(odd.encoded(odd.tone(0.1)))
    data[4:8] = data[40:44] = (2**32 - 1).to_bytes(4, "little")
    path = tmp_path / "a.wav"
    path.write_bytes(data)
    assert len(audio_io.read(path)) == 1_600
    path.write_bytes(data[:-2_500])
    with pytest.raises(UserError, match="21.9 ms of audio; expected at least 30 ms"):
        audio_io.read(path)


def test_an_hour_is_read_and_more_is_not(monkeypatch, tmp_path):
    monkeypatch.setattr(audio_io, "LONGEST", 2.0)
    path = tmp_path / "a.wav"
    path.write_bytes(odd.encoded(odd.tone(2.0)))
    assert len(audio_io.read(path)) == 32_000
    for rate in (RATE, 8_000, 48_000):
        path.write_bytes(odd.encoded(odd.tone(2.1, rate), rate))
        with pytest.raises(UserError, match="is longer than"):
            audio_io.read(path)
        with pytest.raises(UserError, match="is longer than"):
            audio_io.read((odd.tone(2.1, rate), rate))


def test_memory_stays_small_whatever_the_rate_and_the_channels(tmp_path):
    # 61 MB of samples; as float32 they would be 123 MB.
    path = tmp_path / "a.wav"
    path.write_bytes(odd.encoded(np.zeros((4_000_000, 8), np.int16), 192_000))
    tracemalloc.start()
    assert len(audio_io.read(path)) == pytest.approx(333_333, abs=2)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


REFUSED = {
    "missing": (lambda f: f / "no.wav", "There is no file"),
    "folder": (lambda f: f, "is a folder"),
    "empty": (lambda f: put(f, b""), "is empty"),
    "text": (lambda f: put(f, b"Dear diary, " * 20), "can't be read as audio"),
    "raw": (lambda f: put(f, bytes(4000), "a.raw"), "can't be read as audio"),
    "text_as_gsm": (lambda f: put(f, b"Dear diary, " * 20, "a.gsm"), "can't be read as audio"),
    "device": (lambda f: "/dev/zero", "is a device"),
    "no_samples": (lambda f: put(f, odd.encoded(np.zeros(0))), "holds no samples"),
    "one_sample": (lambda f: put(f, odd.encoded(np.zeros(1))), "0.1 ms of audio"),
    "short": (lambda f: put(f, odd.encoded(np.zeros(479))), "29.9 ms"),
    "slow": (lambda f: put(f, odd.encoded(np.zeros(479), 100)), "sample rate of 100"),
    "nan": (lambda f: (np.full(999, np.nan), RATE), "no numbers"),
    "inf": (lambda f: (np.full(999, 1e300), RATE), "no numbers"),
    "loud": (lambda f: (np.full(999, 20_000.0), RATE), "up to 2e"),
    "no_rate": (lambda f: np.zeros(999), "rate of None"),
    "wrong_rate": (lambda f: (np.zeros(999), float("nan")), "rate of nan"),
    "empty_array": (lambda f: (np.zeros(0), RATE), "no samples"),
    "cube": (lambda f: (np.zeros((9, 9, 9)), RATE), r"shape \(9, 9, 9\)"),
    "int64": (lambda f: (np.zeros(999, np.int64), RATE), "array of int64"),
    "words": (lambda f: (np.array(["a", "b"]), RATE), "array of str"),
    "none": (lambda f: None, "type NoneType"),
    "text_file": (lambda f: io.StringIO("x"), "file object of text"),
    "closed": (lambda f: closed(), "closed file"),
}


def put(folder, data, name="a.wav"):
    (folder / name).write_bytes(data)
    return folder / name


def closed():
    file = io.BytesIO(b"x")
    file.close()
    return file


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_recording_is_refused(case, tmp_path):
    make, message = REFUSED[case]
    with pytest.raises(UserError, match=message) as e:
        audio_io.read(make(tmp_path))
    assert "\n" not in str(e.value)


def test_a_file_object_is_read_to_its_end_but_not_without_one(monkeypatch):
    class Endless(io.RawIOBase):
        """Gives a little at a time, as a socket does."""

        def read(self, size=-1):
            assert size > 0, "read whole"
            return bytes(min(size, 1000))

    class Slow(io.BytesIO):
        def read(self, size=-1):
            return super().read(min(size, 1000))

    data = odd.encoded(odd.tone(0.2))
    np.testing.assert_array_equal(audio_io.read(Slow(data)), audio_io.read(io.BytesIO(data)))
    monkeypatch.setattr(audio_io, "_STREAM_BYTES", 1 << 20)
    with pytest.raises(UserError, match="more than 1 MiB"):
        audio_io.read(Endless())


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read(tmp_path):
    path = put(tmp_path, odd.encoded(odd.tone(0.1)))
    path.chmod(0)
    with pytest.raises(UserError, match="Permission denied"):
        audio_io.read(path)
