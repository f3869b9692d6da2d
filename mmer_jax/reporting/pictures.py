"""Pictures of a run's course and of what its model does inside, as PNG bytes.

They are narrow, so that their labels can be read on a telephone too.
"""

import dataclasses

import numpy as np

from mmer_jax.data.preprocessing import SAMPLE_RATE
from mmer_jax.reporting.plots import COLOURS, new_figure, png

# Yellow and black are left out: one is lost on white, the other is the colour of the text.
LINES = COLOURS[:6]
DASHES = ("-", "--", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
NARROW = 4.6  # inches


@dataclasses.dataclass(frozen=True)
class Curve:
    """A quantity over the training of one fold.

    Attributes:
      fold: its number.
      seed: of the run.
      steps, values: as many of either.
    """

    fold: int
    seed: int
    steps: list[int]
    values: list[float]


def fold_bars_png(rates: dict[str, np.ndarray], folds) -> bytes:
    """A group of bars per fold, in percent.

    Args:
      rates: title -> [seeds, folds], NaN where there is none; several seeds give the bar's mean,
        a whisker of their standard deviation, and a dot each.
      folds: titles.
    """
    figure = new_figure(max(NARROW, 1.6 + 0.62 * len(folds)), 3.4)
    axes = figure.add_subplot()
    width = 0.8 / len(rates)
    for i, (title, values) in enumerate(rates.items()):
        at = np.arange(len(folds)) + (i - (len(rates) - 1) / 2) * width
        _bars(axes, at, 100 * np.asarray(values, float), width * 0.92, COLOURS[i], title)
    axes.set_xticks(range(len(folds)), folds)
    axes.set_xlabel("fold (who is tested)")
    axes.set_xlim(-0.7, len(folds) - 0.3)
    return _percent(figure, axes)


def recall_bars_png(recall: np.ndarray, names, chance: float) -> bytes:
    """A bar per class: its recall in percent, over all folds.

    Args:
      recall: [seeds, c], NaN for a class without utterances.
      names: c titles.
      chance: recall of guessing, a line.
    """
    figure = new_figure(max(NARROW, 1.6 + 0.62 * len(names)), 3.4)
    axes = figure.add_subplot()
    _bars(axes, np.arange(len(names)), 100 * np.asarray(recall, float), 0.6, COLOURS[2], None)
    axes.axhline(100 * chance, color="0.35", linestyle=":", label="guessing")
    axes.set_xticks(range(len(names)), names)
    axes.set_xlabel("true emotion")
    axes.set_xlim(-0.7, len(names) - 0.3)
    return _percent(figure, axes, "recall, %")


def _bars(axes, at, values, width, colour, title):
    """Of values [seeds, n]: the mean of the seeds, above it as a number; spread where several."""
    there = ~np.isnan(values).all(0)
    at, values = at[there], values[:, there]
    mean = np.nanmean(values, 0)
    axes.bar(at, mean, width, color=colour, label=title)
    top = mean.copy()
    if len(values) > 1:
        # As np.nanstd with ddof=1, without its warning where a fold has one seed yet: no whisker.
        count = (~np.isnan(values)).sum(0)
        spread = (
            np.nansum((values - mean) ** 2, 0) / np.where(count > 1, count - 1, np.nan)
        ) ** 0.5
        axes.errorbar(at, mean, spread, fmt="none", ecolor="black", capsize=3)
        axes.scatter(np.tile(at, len(values)), values.ravel(), 12, "white", edgecolors="black",
                     linewidths=0.7, zorder=3)  # fmt: skip
        top = np.fmax(mean + spread, np.nanmax(values, 0))
    for x, y, value in zip(at, top, mean):
        axes.annotate(f"{value:.0f}", (x, y), (0, 3), textcoords="offset points", ha="center",
                      fontsize=9)  # fmt: skip


def _percent(figure, axes, label="%"):
    axes.set_ylabel(label)
    axes.set_ylim(0, 112)  # room for the numbers above the bars
    axes.set_yticks(range(0, 101, 20))
    _plain(axes)
    if axes.get_legend_handles_labels()[1]:
        figure.legend(loc="outside upper right", frameon=False, ncols=3)
    return png(figure)


def _plain(axes):
    axes.spines[["top", "right"]].set_visible(False)


def curves_png(title: str, curves: list[Curve], percent: bool = False) -> bytes:
    """Values against step: a colour per fold, a thin line per seed where there are several.

    Args:
      title: of the quantity.
      curves: at least one.
      percent: values are shares and shown in percent.
    """
    figure = new_figure(NARROW, 3.2)
    axes = figure.add_subplot()
    folds = sorted({c.fold for c in curves})
    several = len({c.seed for c in curves}) > 1
    named = set()
    for curve in curves:
        i = folds.index(curve.fold)
        values = np.array(curve.values, float) * (100 if percent else 1)
        axes.plot(
            curve.steps, values, color=LINES[i % len(LINES)],
            linestyle=DASHES[i // len(LINES) % len(DASHES)], linewidth=0.9 if several else 1.5,
            marker="o" if len(values) < 25 else None, markersize=3.5,
            label=None if curve.fold in named else str(curve.fold),
        )  # fmt: skip
        named.add(curve.fold)
    axes.set_title(title, fontsize=11)
    axes.set_xlabel("step")
    axes.set_ylabel("%" if percent else "")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.25)
    _plain(axes)
    figure.legend(loc="outside right upper", title="fold", frameon=False)
    return png(figure)


def map_png(points: np.ndarray, groups, names, title: str) -> bytes:
    """A map of utterances: colour and shape of a point say which group it is of.

    Args:
      points: [n, 2].
      groups: n names.
      names: of the groups, in the legend's order.
      title: what the groups are.
    """
    figure = new_figure(NARROW, 4.5)
    axes = figure.add_subplot()
    groups = np.asarray(groups)
    size = 26 if len(points) < 400 else 12
    for i, name in enumerate(names):
        at = points[groups == name]
        axes.scatter(at[:, 0], at[:, 1], size, LINES[i % len(LINES)], alpha=0.75,
                     marker=MARKERS[i % len(MARKERS)], linewidths=0, label=str(name))  # fmt: skip
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(title, fontsize=11)
    figure.legend(loc="outside lower center", ncols=min(len(names), 4), frameon=False,
                  columnspacing=1.0, handletextpad=0.2)  # fmt: skip
    return png(figure)


def attention_png(wave: np.ndarray, weights: np.ndarray, tokens, frame: float) -> bytes:
    """Tokens against time, below the waveform on the same axis.

    The colour is the weight in units of an even spread over all frames, so that it means the same
    for short and long utterances.

    Args:
      wave: [n], 16 kHz.
      weights: [s, t], rows that sum to 1.
      tokens: s texts.
      frame: seconds per frame.
    """
    count, frames = weights.shape
    figure = new_figure(5.4, 2.3 + 0.24 * max(count, 6))
    heights = (1.2, 0.24 * max(count, 6))
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=heights)
    upper.plot(np.arange(len(wave)) / SAMPLE_RATE, wave, color=COLOURS[0], linewidth=0.5)
    peak = max(float(np.abs(wave).max(initial=0)), 1e-3)
    upper.set_ylim(-1.05 * peak, 1.05 * peak)
    upper.set_ylabel("waveform")
    upper.set_yticks([])
    _plain(upper)
    image = lower.imshow(
        weights * frames, cmap="viridis", vmin=0, aspect="auto", interpolation="nearest",
        extent=(0, frames * frame, count - 0.5, -0.5),
    )  # fmt: skip
    lower.set_yticks(range(count), [_short(t) for t in tokens], fontsize=9)
    lower.set_xlabel("time, s")
    lower.set_xlim(0, max(frames * frame, len(wave) / SAMPLE_RATE))
    figure.colorbar(image, ax=[upper, lower], label="attention / even spread", aspect=30)
    return png(figure)


def _short(token):
    # A $ would begin a formula.
    text = token if len(token) <= 14 else token[:13] + "…"
    return text.replace("$", r"\$")


def gate_png(openness: np.ndarray, label: np.ndarray, names) -> bytes:
    """Boxes of the gate's openness per class, with a dot for each utterance.

    Args:
      openness: [n], 0 closed, 1 open.
      label: int [n].
      names: c titles.
    """
    figure = new_figure(max(NARROW, 1.6 + 0.7 * len(names)), 3.4)
    axes = figure.add_subplot()
    rng = np.random.default_rng(0)  # of the dots' places within their column alone
    for k in range(len(names)):
        values = openness[np.asarray(label) == k]
        if not len(values):
            continue
        # Boxes of fewer would show quartiles that are not there.
        if len(values) >= 5:
            axes.boxplot(values, positions=[k], widths=0.55, showfliers=False, zorder=3,
                         medianprops={"color": "black", "linewidth": 1.6})  # fmt: skip
        x = k + rng.uniform(-0.2, 0.2, len(values))
        axes.scatter(x, values, 9, LINES[k % len(LINES)], alpha=0.45, linewidths=0)
    axes.set_xticks(range(len(names)), names)
    axes.set_xlim(-0.6, len(names) - 0.4)
    axes.set_xlabel("true emotion")
    axes.set_ylabel("mean of the gate")
    axes.grid(axis="y", alpha=0.25)
    axes.ticklabel_format(axis="y", useOffset=False)
    _plain(axes)
    return png(figure)
