"""A recording's waveform as a picture, coloured by the emotion that is heard where."""

import numpy as np

from mmer_jax.data.preprocessing import SAMPLE_RATE
from mmer_jax.reporting.pictures import LINES, NARROW
from mmer_jax.reporting.plots import new_figure, png

_COLUMNS = 1500  # more than the picture has pixels


def waveform_png(wave: np.ndarray, spans=(), names=()) -> bytes:
    """The waveform; behind it, which class each stretch got.

    Args:
      wave: float32 [n], 16 kHz, up to an hour.
      spans: (start, end, class name) in seconds, side by side; none for one colour.
      names: of all classes, whose order gives the colours.
    """
    figure = new_figure(NARROW, 2.3 if spans else 1.8)
    axes = figure.add_subplot()
    time, low, high = _envelope(wave)
    axes.fill_between(time, low, high, color="0.15" if spans else LINES[0], linewidth=0.4)
    peak = max(float(np.abs(wave).max(initial=0)), 1e-3)
    axes.set_ylim(-1.05 * peak, 1.05 * peak)
    axes.set_xlim(0, len(wave) / SAMPLE_RATE)
    axes.set_yticks([])
    axes.set_xlabel("time, s")
    axes.spines[["top", "right", "left"]].set_visible(False)
    _shade(figure, axes, spans, list(names))
    return png(figure)


def _envelope(wave):
    """Times [k], lowest [k] and highest samples [k] of k <= 1500 stretches."""
    size = -(-len(wave) // _COLUMNS)
    starts = np.arange(0, len(wave), size)
    low, high = np.minimum.reduceat(wave, starts), np.maximum.reduceat(wave, starts)
    return (starts + size / 2) / SAMPLE_RATE, low, high


def _shade(figure, axes, spans, names):
    named = set()
    for start, end, name in spans:
        colour = LINES[names.index(name) % len(LINES)]
        label = None if name in named else name
        axes.axvspan(start, end, color=colour, alpha=0.45, linewidth=0, label=label, zorder=0)
        named.add(name)
    if spans:
        figure.legend(loc="outside upper center", frameon=False, ncols=4, handlelength=1.2)
