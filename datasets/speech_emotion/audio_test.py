"""Recordings of any format, rate and number of channels, and each kind of bad one."""

import numpy as np
import pytest
import soundfile

from . import audio


def tone(rate, seconds=0.5, hertz=440.0):
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "aiff", "caf"])
def test_formats(suffix, tmp_path):
    path = tmp_path / f"x.{suffix}"
    soundfile.write(path, tone(16_000), 16_000)
    found = audio.load(path)
    assert found.dtype == np.int16
    if suffix == "mp3":  # Its decoder may keep some padding.
        assert 8000 <= len(found) <= 8000 + 3 * 1152
    else:
        assert len(found) == 8000
    peak = np.abs(np.fft.rfft(found[:8000])).argmax() * 2
    assert peak == pytest.approx(440, abs=2)


@pytest.mark.parametrize("rate", [8000, 22_050, 24_414, 44_100, 48_000])
def test_rates(rate, tmp_path):
    soundfile.write(tmp_path / "x.wav", tone(rate), rate)
    found = audio.load(tmp_path / "x.wav")
    middle = slice(1000, 7000)
    assert len(found) == pytest.approx(8000, abs=1)
    np.testing.assert_allclose(found[middle] / 32768, tone(16_000)[: len(found)][middle], atol=0.01)


def test_16_kHz_mono_is_kept_bit_for_bit(tmp_path):
    samples = np.random.default_rng(0).integers(-32768, 32768, 4000).astype(np.int16)
    soundfile.write(tmp_path / "x.wav", samples, 16_000)
    np.testing.assert_array_equal(audio.load(tmp_path / "x.wav"), samples)


def test_channels_are_averaged(tmp_path):
    soundfile.write(tmp_path / "x.wav", np.array([[2000, 4000], [-6, -2]], np.int16), 16_000)
    assert audio.load(tmp_path / "x.wav").tolist() == [3000, -4]


def test_loud_floats_are_clipped(tmp_path):
    soundfile.write(tmp_path / "x.wav", np.array([1.5, -1.5]), 16_000, subtype="FLOAT")
    assert audio.load(tmp_path / "x.wav").tolist() == [32767, -32768]


def test_a_part(tmp_path):
    samples = np.arange(1, 16_001).astype(np.int16)
    soundfile.write(tmp_path / "x.wav", samples, 16_000)
    np.testing.assert_array_equal(audio.load(tmp_path / "x.wav", 0.25, 0.5), samples[4000:8000])
    np.testing.assert_array_equal(audio.load(tmp_path / "x.wav", 0.75), samples[12_000:])
    np.testing.assert_array_equal(audio.load(tmp_path / "x.wav", end=1.01), samples)


@pytest.mark.parametrize(
    "start, end", [(0.5, 0.5), (0.6, 0.5), (0.0, 1.2), (1.2, None), (2.0, 3.0), (None, 0.0)]
)
def test_a_part_that_is_none(start, end, tmp_path):
    soundfile.write(tmp_path / "x.wav", tone(16_000, 1.0), 16_000)
    with pytest.raises(audio.AudioError, match="a recording of 1.00 s"):
        audio.load(tmp_path / "x.wav", start, end)


@pytest.mark.parametrize("kept", [44, 1044, 15_000])
def test_a_wav_cut_short(kept, tmp_path):
    path = tmp_path / "x.wav"
    soundfile.write(path, tone(16_000), 16_000)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(audio.AudioError, match="16000 by its header: cut short"):
        audio.load(path)


def test_a_wav_from_a_pipe_counts_nothing(tmp_path):
    path = tmp_path / "x.wav"
    soundfile.write(path, tone(16_000), 16_000)
    data = path.read_bytes()
    assert data[36:40] == b"data"
    path.write_bytes(data[:4] + b"\xff" * 4 + data[8:40] + b"\xff" * 4 + data[44:])
    assert len(audio.load(path)) == 8000


BAD = {
    "empty.wav": (b"", "an empty file"),
    "pointer.wav": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
    "text.wav": (b"this is a text", "not readable as audio"),
    "headless.raw": (b"\x01\x02" * 100, "not readable as audio"),
    "clip.m4a": (b"\x00\x00\x00\x20ftypM4A ", "convert it to wav"),
}


@pytest.mark.parametrize("name", BAD)
def test_no_recording(name, tmp_path):
    data, message = BAD[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(audio.AudioError, match=message):
        audio.load(tmp_path / name)


def test_missing_and_folder(tmp_path):
    for path in (tmp_path / "x.wav", tmp_path):
        with pytest.raises(audio.AudioError, match="no such file"):
            audio.load(path)


@pytest.mark.parametrize(
    "samples, message",
    [
        (np.zeros(100), "silence"),
        (np.zeros(0), "no samples"),
        (np.array([0.1, np.nan]), "no number"),
        (np.array([0.1, 3000.0]), "no number"),
    ],
)
def test_nothing_to_hear(samples, message, tmp_path):
    soundfile.write(tmp_path / "x.wav", samples, 16_000, subtype="FLOAT")
    with pytest.raises(audio.AudioError, match=message):
        audio.load(tmp_path / "x.wav")


def test_half_an_hour_in_a_row(tmp_path):
    path = tmp_path / "x.flac"
    soundfile.write(path, np.ones(1800 * 1000, np.int16), 1000)
    with pytest.raises(audio.AudioError, match="1800 s in one row"):
        audio.load(path)
    assert len(audio.load(path, 1790.0, 1791.0)) == 16_000
