"""Recordings that are damaged, odd or no recordings at all, drawn from a seed, as files."""

import io

import numpy as np
import soundfile
from scipy import signal

RATE = 16_000
COUNT = 300
FORMATS = (
    ("WAV", "PCM_16"), ("WAV", "PCM_U8"), ("WAV", "PCM_24"), ("WAV", "FLOAT"), ("WAV", "DOUBLE"),
    ("WAV", "ULAW"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"), ("AIFF", "PCM_16"), ("CAF", "PCM_16"), ("AU", "PCM_16"),
    ("W64", "PCM_16"), ("RF64", "PCM_16"),
)  # fmt: skip

_VOWELS = ((730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480))  # Hz


def tone(seconds=0.5, rate=RATE, channels=1, seed=0):
    """float64 [n, channels]: a tone in noise."""
    rng = np.random.default_rng(seed)
    n = int(seconds * rate)
    wave = 0.3 * np.sin(2 * np.pi * 220 * np.arange(n) / rate) + 0.05 * rng.standard_normal(n)
    return np.repeat(wave[:, None], channels, 1)


def voice(seconds=0.5, seed=0):
    """float64 [n, 1]: vowels of a synthetic voice at 16 kHz, which a detector takes for speech."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE)) / RATE
    pitch = 120 + 30 * rng.random() + 25 * np.sin(2 * np.pi * (2.1 * time + rng.random()))
    pulses = np.diff(np.floor(np.cumsum(pitch) / RATE), prepend=0)
    source = signal.lfilter([1], [1, -0.97], pulses) + 0.002 * rng.standard_normal(len(time))
    size, wave = round(0.16 * RATE), np.zeros(len(time))
    for k, at in enumerate(range(0, len(time), size)):
        part = source[at : at + size]
        for formant, width in zip(_VOWELS[(k + seed) % len(_VOWELS)], (80, 100, 130)):
            r = np.exp(-np.pi * width / RATE)
            poles = [1, -2 * r * np.cos(2 * np.pi * formant / RATE), r * r]
            part = signal.lfilter([sum(poles)], poles, part)
        wave[at : at + size] = part * np.sqrt(np.hanning(len(part) + 2)[1:-1])
    return (0.5 * wave / np.abs(wave).max())[:, None]


def encoded(samples, rate=RATE, form="WAV", subtype="PCM_16") -> bytes:
    """An audio file's bytes."""
    out = io.BytesIO()
    soundfile.write(out, samples, rate, format=form, subtype=subtype)
    return out.getvalue()


def _whole(rng):
    form, subtype = FORMATS[rng.integers(len(FORMATS))]
    return form, encoded(tone(0.2 + 0.4 * rng.random(), seed=rng), form=form, subtype=subtype)


def _truncated(rng):
    form, data = _whole(rng)
    return form, data[: rng.integers(len(data))]


def _flipped(rng):
    """Bytes of the header, and a few anywhere."""
    form, data = _whole(rng)
    data = bytearray(data)
    for _ in range(rng.integers(1, 9)):
        reach = 64 if rng.random() < 0.8 else len(data)
        data[rng.integers(min(reach, len(data)))] = rng.integers(256)
    return form, bytes(data)


def _lying(rng):
    """A wav whose header promises far more than there is."""
    data = bytearray(encoded(tone(0.1 * rng.random() + 0.02)))
    claimed = int(rng.choice([2**20, 2**31 - 1, 2**32 - 1]))
    data[4:8] = data[40:44] = claimed.to_bytes(4, "little")
    return "WAV", bytes(data)


def _no_numbers(rng):
    samples = tone(0.2)
    samples[rng.integers(len(samples))] = rng.choice([np.nan, np.inf, -np.inf, 1e30])
    return "WAV", encoded(samples, subtype="FLOAT")


def _odd(rng):
    """Unusual, and still to be read."""
    rate = int(rng.choice([4_000, 8_000, 11_025, 44_100, 48_000, 192_000]))
    channels = int(rng.choice([1, 2, 8]))
    subtype = rng.choice(["PCM_16", "PCM_U8", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
    return "WAV", encoded(tone(0.2, rate, channels), rate, subtype=str(subtype))


def _short(rng):
    return "WAV", encoded(tone(1)[: rng.integers(480)])


def _text(rng):
    words = " ".join(rng.choice(["RIFF", "fLaC", "hello", "ID3", "\n"], rng.integers(40)))
    return rng.choice(["WAV", "FLAC", "MP3", "AU", "GSM", "RAW", "VOX"]), words.encode()


def _noise(rng):
    return "WAV", rng.bytes(rng.integers(5000))


def _empty(rng):
    return "WAV", b""


KINDS = (_truncated, _flipped, _lying, _no_numbers, _odd, _short, _text, _noise, _empty)


def write(folder, count=COUNT, seed=0) -> list[str]:
    """Writes `count` of them into `folder`; their paths."""
    rng = np.random.default_rng(seed)
    paths = []
    for i in range(count):
        # Half of them broken in the two ways that leave the most to chance.
        kind = KINDS[i % len(KINDS)] if i % 2 else KINDS[i // 2 % 2]
        form, data = kind(rng)
        path = folder / f"{i:03d}.{form.lower()}"
        path.write_bytes(data)
        paths.append(str(path))
    return paths
