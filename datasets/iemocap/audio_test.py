"""Good wavs, and each kind of bad one."""

import io
import struct
import wave

import numpy as np
import pytest
import soundfile

from . import audio
from .files import ReleaseError


def wav(samples, rate=16_000, channels=1, width=2) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(width)
        writer.setframerate(rate)
        writer.writeframes(np.asarray(samples, {1: "u1", 2: "<i2", 4: "<i4"}[width]).tobytes())
    return out.getvalue()


def flac(samples, rate=16_000, bits=16) -> bytes:
    out = io.BytesIO()
    data = np.asarray(samples, np.int16)
    soundfile.write(out, data, rate, format="FLAC", subtype=f"PCM_{'S' * (bits == 8)}{bits}")
    return out.getvalue()


GOOD = wav([1, -2, 3, -32768])
FLOAT = GOOD[:20] + struct.pack("<H", 3) + GOOD[22:]  # Format 3: IEEE float.

BAD = {
    "riff": (b"\x00\x05\x16\x07Mac OS X", "begin with b'\\x00\\x05\\x16\\x07'"),
    "no_bytes": (b"", "0 bytes"),
    "cut_header": (GOOD[:30], "expected a RIFF/WAVE file"),
    "float": (FLOAT, "unknown format: 3"),
    "truncated": (GOOD[:-3], "2 samples; expected 4 by its header"),
    "empty": (wav([]), "0 samples; expected sound"),
    "silent": (wav([0, 0, 0]), "3 samples, all zero; expected sound"),
    "rate": (wav([1, 2], rate=44_100), "16 bit, 1 channel(s), 44100 Hz; expected 16 bit"),
    "stereo": (wav([1, 2], channels=2), "16 bit, 2 channel(s), 16000 Hz"),
    "8_bit": (wav([1, 2], width=1), "8 bit, 1 channel(s)"),
    "32_bit": (wav([1, 2], width=4), "32 bit, 1 channel(s)"),
    "flac_rate": (flac([1, 2], rate=44_100), "16 bit, 1 channel(s), 44100 Hz"),
    "flac_stereo": (flac([[1, 2]]), "16 bit, 2 channel(s)"),
    "flac_24_bit": (flac([1, 2], bits=24), "24 bit, 1 channel(s)"),
    "flac_8_bit": (flac([256, 512], bits=8), "8 bit, 1 channel(s)"),
    "flac_silent": (flac([0, 0, 0]), "3 samples, all zero; expected sound"),
    "flac_cut_header": (flac([1, 2])[:20], "expected a whole flac file"),
}


def test_good():
    samples = audio.decode(GOOD)
    assert samples.dtype == np.int16
    assert samples.tolist() == [1, -2, 3, -32768]


def test_a_flac_is_the_same_samples():
    samples = np.random.default_rng(0).integers(-32768, 32768, 5000).astype(np.int16)
    for found in (audio.decode(flac(samples)), audio.decode(wav(samples))):
        np.testing.assert_array_equal(found, samples)
        assert found.dtype == np.int16


def test_a_truncated_flac_is_refused():
    data = flac(np.random.default_rng(0).integers(-32768, 32768, 20_000))
    with pytest.raises(audio.WavError):
        audio.decode(data[: len(data) // 2])


def test_chunks_after_the_samples_are_no_samples():
    assert len(audio.decode(GOOD + b"LIST\x04\x00\x00\x00abcd")) == 4


@pytest.mark.parametrize("kind", BAD)
def test_each_kind_of_bad_wav_says_what_it_has(kind):
    data, message = BAD[kind]
    with pytest.raises(audio.WavError) as error:
        audio.decode(data)
    assert message in str(error.value)


def test_every_bad_wav_is_named_in_one_error():
    files = [("good.wav", GOOD)] + [(f"{kind}.wav", data) for kind, (data, _) in BAD.items()]
    with pytest.raises(ReleaseError) as error:
        audio.check_wavs(files)
    lines = str(error.value).splitlines()
    assert lines[0].startswith(f"{len(BAD)} of {len(files)} wavs")
    assert [line.split(":")[0].strip() for line in lines[1:-1]] == [f"{kind}.wav" for kind in BAD]
    assert all("; expected " in line for line in lines[1:-1])


def test_good_wavs_are_counted():
    assert audio.check_wavs([("a", GOOD), ("b", GOOD)]) == 2
