"""Recordings as people have them: what players read is read, what isn't is named."""

import io
import tempfile

import numpy as np
import pytest

import mmer_jax
from mmer_jax import predict
from mmer_jax.errors import UserError
from mmer_jax.inference import audio_io
from tests.inference import odd_recordings as odd


@pytest.fixture(scope="module")
def predictor(tiny_folder):
    return mmer_jax.load(tiny_folder)


def resized(data, claimed, whole=None):
    """A wav whose header claims so many bytes of samples (and of the whole file)."""
    data = bytearray(data)
    data[40:44] = claimed.to_bytes(4, "little")
    if whole is not None:
        data[4:8] = whole.to_bytes(4, "little")
    return bytes(data)


WAV = odd.encoded(odd.voice(0.5))
MP3 = odd.encoded(odd.voice(0.5), form="MP3", subtype="MPEG_LAYER_III")
DAMAGED = {
    "no_size.wav": (WAV, resized(WAV, 0)),
    "no_sizes.wav": (WAV, resized(WAV, 0, 0)),
    "unknown_sizes.wav": (WAV, resized(WAV, 2**32 - 1, 2**32 - 1)),
    "too_large.wav": (WAV, resized(WAV, 2**20)),
    "one_zero.mp3": (MP3, bytes(1) + MP3),
    "zeros.mp3": (MP3, bytes(3_000_000) + MP3),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_what_players_read_is_read_and_said(predictor, tmp_path, name, caplog):
    whole, damaged = DAMAGED[name]
    (tmp_path / name).write_bytes(damaged)
    expected = predictor.predict(io.BytesIO(whole), text="it was you")
    assert not caplog.messages
    for audio in (str(tmp_path / name), io.BytesIO(damaged)):
        found = predictor.predict(audio, text="it was you")
        np.testing.assert_array_equal(found.logits, expected.logits)
        assert found.seconds == expected.seconds
    assert any(name in message for message in caplog.messages)


@pytest.mark.parametrize("head", [b"\0\0\0\x1cftypM4A ", b"\0\0\0\x18ftypmp42", b"\0\0RIFF"])
def test_zeros_before_what_is_no_mp3_are_its_own(tmp_path, head, caplog):
    (tmp_path / "a.m4a").write_bytes(head + bytes(range(256)) * 8)
    with pytest.raises(UserError, match="can't be read as audio"):
        audio_io.read(tmp_path / "a.m4a")
    assert not caplog.messages


@pytest.mark.parametrize("form", ["WAV", "MP3"])
def test_segments_of_a_damaged_file_are_said_once_and_copied_never(
    tmp_path, form, caplog, monkeypatch
):
    wave = odd.voice(2.0)
    subtype = "PCM_16" if form == "WAV" else "MPEG_LAYER_III"
    data = odd.encoded(wave, form=form, subtype=subtype)
    (tmp_path / "whole").write_bytes(data)
    (tmp_path / "damaged").write_bytes(resized(data, 0) if form == "WAV" else bytes(99) + data)
    monkeypatch.setattr(tempfile, "TemporaryFile", None)
    for start in (0.0, 0.5, 1.25):
        expected, found = (
            audio_io.read(audio_io.Segment(str(tmp_path / name), start, start + 0.5))
            for name in ("whole", "damaged")
        )
        np.testing.assert_array_equal(found, expected)
    (said,) = caplog.messages
    assert said.startswith(f"{tmp_path / 'damaged'} ")


def test_a_wav_that_is_truly_empty_is_refused(predictor):
    empty = odd.encoded(np.zeros((0, 1)))
    for data in (empty, empty + b"LIST\4\0\0\0abcd", bytes(2_000)):
        with pytest.raises(UserError, match="holds no samples|can't be read as audio"):
            predictor.predict(io.BytesIO(data), text="")


def test_arrays_with_their_rate_in_every_order(predictor):
    wave = odd.tone(0.4, 8_000)[:, 0].astype(np.float32)
    expected = predictor.predict(wave, text="it was you", rate=8_000).logits
    spellings = [(wave, 8_000), (8_000, wave), (np.int64(8_000), wave),
                 {"array": wave, "sampling_rate": 8_000, "path": "a.wav"}]  # fmt: skip
    found = [predictor.predict(one, text="it was you").logits for one in spellings]
    for logits in found:
        np.testing.assert_array_equal(logits, expected)
    for prediction in predictor.predict(spellings, text="it was you"):  # in one batch
        np.testing.assert_allclose(prediction.logits, expected, atol=1e-5)
    for wrong in ({"array": wave}, {"sampling_rate": 8_000}, (8_000, 16_000)):
        with pytest.raises(UserError):
            predictor.predict(wrong, text="")


def test_what_a_folder_holds_and_nobody_reads_is_named(tiny_folder, tmp_path, capsys):
    for name in ("a.wav", "b.WEBM", "sub/c.m4a", "d.m4a", "d.wav", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(WAV if name.endswith("wav") else b"\0\0\0\x1cftypM4A ")
    assert predict.main([tiny_folder, str(tmp_path), "--text=it was you"]) == 1
    printed = capsys.readouterr()
    errors = [line for line in printed.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 2 and "2 predicted, 2 left out" in printed.err
    for line, name, wav in zip(errors, ("b.WEBM", "sub/c.m4a"), ("b.wav", "sub/c.wav")):
        assert f"ffmpeg -i {tmp_path / name} {tmp_path / wav}" in line
    (tmp_path / "b.wav").write_bytes(WAV)
    (tmp_path / "sub" / "c.wav").write_bytes(WAV)
    assert predict.main([tiny_folder, str(tmp_path), "--text=it was you"]) == 0


def test_a_folder_of_such_files_alone_names_them(tiny_folder, tmp_path, capsys):
    (tmp_path / "a.m4a").write_bytes(b"\0\0\0\x1cftypM4A ")
    assert predict.main([tiny_folder, str(tmp_path)]) == 1
    assert "ffmpeg -i" in capsys.readouterr().err
