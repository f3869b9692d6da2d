"""Plots of results, training and predictions as figures; none needs jax."""

import base64
import io

import numpy as np

from mmer_jax.data.preprocessing import SAMPLE_RATE

# Okabe and Ito's colours, distinguishable with every kind of colour vision.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
LINES = COLOURS[:6]  # without yellow, lost on white, and black, the colour of text
# Of emotions, by how their names begin: each stands out by 3 to 1 from white and from the dark
# pages' backgrounds (WCAG 2.2, 1.4.11). Anger, happiness, neutral and sadness differ with every
# kind of colour vision; more can't, so a name or a marker always stands beside a colour.
EMOTIONS = {
    "ang": "#CC3C48", "hap": "#B08A14", "neu": "#888C98", "sad": "#2478C0", "exc": "#D2609E",
    "fru": "#A8643A", "fea": "#7664EE", "dis": "#3A9450", "sur": "#1C9A9E", "cal": "#7A9030",
}  # fmt: skip
DASHES = ("-", "--", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
NARROW = 4.6  # inches: labels stay legible on a telephone
FEW = 10  # utterances: what fewer show is chance
_COLUMNS = 1500  # of a waveform; more than the plot has pixels


def emotion_colours(names) -> dict[str, str]:
    """Class name -> its colour, the same in every plot and page, whatever the other classes are.

    Classes that are no emotion of `EMOTIONS` get, in order, what the others leave.
    """
    colours = {name: EMOTIONS.get(str(name)[:3].lower()) for name in names}
    left = [c for c in EMOTIONS.values() if c not in colours.values()] or list(EMOTIONS.values())
    unknown = [name for name, colour in colours.items() if colour is None]
    return colours | {name: left[i % len(left)] for i, name in enumerate(unknown)}


def _figure(width, height):
    """A figure of width x height inches."""
    # The object interface: pyplot would keep figures, and pick a screen.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def png(figure) -> bytes:
    """The figure as the bytes of a PNG file."""
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()


def pdf(figure) -> bytes:
    """The figure as the bytes of a PDF file for papers: the same for the same figure."""
    import matplotlib

    out = io.BytesIO()
    with matplotlib.rc_context({"pdf.fonttype": 42}):  # publishers refuse Type 3 fonts
        figure.savefig(out, format="pdf", metadata={"CreationDate": None})
    return out.getvalue()


def image(figure) -> dict:
    """A figure for a page: `png` bytes, `src`, a data URI, `width` and `height` in CSS pixels."""
    width, height = (round(96 * x) for x in figure.get_size_inches())
    content = png(figure)
    source = "data:image/png;base64," + base64.b64encode(content).decode("ascii")
    return {"png": content, "src": source, "width": width, "height": height}


def _axes(width, height):
    axes = _figure(width, height).add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def _columns(names, xlabel, each=0.62, margin=0.7):
    """Axes with a place for each name, `each` inches wide, and `margin` places at the ends."""
    axes = _axes(max(NARROW, 1.6 + each * len(names)), 3.4)
    axes.set_xticks(range(len(names)), names)
    axes.set(xlabel=xlabel, xlim=(-margin, len(names) - 1 + margin))
    return axes


def confusion(matrix: np.ndarray, names, small: str = ""):
    """A confusion matrix [c, c]: share of the true class as colour and text, with the count.

    Args:
      matrix: of counts.
      names: c titles.
      small: title of one of several that stand beside each other, with the shares alone.
    """
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    longest = max(map(len, names))
    size = 0.5 + 0.055 * longest + 0.36 * len(names) if small else 1.9 + 0.9 * len(names)
    figure = _figure(size, size if small else size * 0.86)
    axes = figure.add_subplot()
    image = axes.imshow(share, cmap="cividis", vmin=0, vmax=1)
    for i, j in np.ndindex(*matrix.shape):
        text = f"{100 * share[i, j]:.0f}" + ("" if small else f"%\n{matrix[i, j]}")
        axes.text(
            j, i, text, ha="center", va="center", fontsize=8 if small else 10,
            color="black" if share[i, j] > 0.55 else "white",
        )  # fmt: skip
    axes.set_xticks(range(len(names)), names, rotation=90 if small and longest > 3 else 0)
    axes.set_yticks(range(len(names)), names)
    if small:
        axes.tick_params(labelsize=8, length=2, pad=2)
        axes.set_title(small, fontsize=9)
        return figure
    axes.set(xlabel="predicted", ylabel="true")
    axes.set_title(f"{int(matrix.sum())} test utterances", fontsize=11)
    figure.colorbar(image, label="share of the true class", shrink=0.85)
    return figure


def reliability(plain: dict, scaled: dict | None):
    """Accuracy against confidence, with the number of utterances below.

    Points of fewer than `FEW` utterances are grey and on no line.

    Args:
      plain: bins of `calibration.reliability`, as the model states them.
      scaled: with the temperature; None where none was fitted.
    """
    figure = _figure(5.2, 5.6)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color="0.6", linestyle=":", label="as often right as stated")
    systems = [("as stated", plain, "o-"), ("with temperature", scaled, "s--")]
    for (title, bins, style), colour in zip(systems, COLOURS):
        if bins is None:
            continue
        count = np.array(bins["count"])
        points = np.array([bins["confidence"], bins["accuracy"]], float)
        upper.plot(*points[:, count >= FEW], style, color=colour, label=title)
        few = points[:, (count > 0) & (count < FEW)]
        if few.size:
            upper.plot(*few, style[0], color="0.75", ms=4, label=f"under {FEW} utterances")
        centres = (np.arange(len(count)) + 0.5) / len(count)
        lower.step(centres, count, where="mid", color=colour, linestyle=style[1:])
    upper.set(ylabel="accuracy", ylim=(0, 1))
    handles = dict(zip(*upper.get_legend_handles_labels()[::-1]))
    upper.legend(handles.values(), handles.keys(), loc="lower right", frameon=False)
    lower.set(xlabel="confidence", ylabel="utterances", xlim=(0, 1))
    lower.set_ylim(0)
    return figure


def comparison(systems: list[dict]):
    """Each system's UA, and its difference to the first with its 95 % intervals; in percent.

    Where there is no interval, differences of single folds, speakers or seeds stand in its place.

    Args:
      systems: from top to bottom: `title`, and `ua` and `difference` of `comparison.compare`.
    """
    figure = _figure(8.6, 1.5 + 0.36 * len(systems))
    left, right = figure.subplots(1, 2, sharey=True)
    for y, s in enumerate(systems):
        values, parts = s["ua"]["values"], _parts(s["difference"])
        left.plot(100 * np.array(values), [y] * len(values), "o", color="0.6", ms=4)
        left.plot([100 * s["ua"]["mean"]], [y], "D", color=COLOURS[0], ms=6)
        right.plot(100 * np.array(parts), [y] * len(parts), "o", color="0.6", ms=4)
        if s["difference"] is not None:
            _difference(right, y, s["difference"])
    left.set_yticks(range(len(systems)), [s["title"] for s in systems])
    left.set_ylim(len(systems) - 0.5, -0.5)
    left.set_xlabel("UA, %: runs (grey) and their mean")
    right.axvline(0, color="0.35", linestyle=":")
    right.set_xlabel(_difference_label([s["difference"] for s in systems if s["difference"]]))
    for axes in (left, right):
        axes.grid(axis="x", color="0.9")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _parts(d):
    """Differences of the first kind of part that there are several of."""
    if d is None or d["over"]:
        return []
    several = [list(d["parts"][k].values()) for k in ("fold", "speaker", "seed")]
    return next((values for values in several if len(values) > 1), [])


def _difference(axes, y, d):
    """One difference: its interval thick, Nadeau and Bengio's thin, hollow if exploratory."""
    larger = d["corrected"] and d["corrected"]["interval"]
    for ends, width in ((larger, 1), (d["interval"], 3)):
        if ends:
            clear = ends[0] > 0 or ends[1] < 0
            colour = COLOURS[5] if clear else "0.45"
            axes.plot([100 * x for x in ends], [y, y], "-", color=colour, lw=width)
    fill = COLOURS[0] if d["primary"] else "white"
    axes.plot([100 * d["difference"]], [y], "D", color=COLOURS[0], markerfacecolor=fill, ms=6)


def _difference_label(differences):
    text = "difference to the first"
    if not any(d["interval"] for d in differences):
        return f"{text} (hollow: exploratory)\ngrey: single folds, speakers or seeds; no interval"
    thin = "; thin: NB" if any(d["corrected"] for d in differences) else ""
    return f"{text}, 95 % interval{thin}\norange: without 0; hollow: exploratory"


def fold_bars(metrics: dict[str, np.ndarray], folds):
    """A group of bars per fold, in percent.

    Args:
      metrics: title -> [seeds, folds], NaN where there is none; several seeds give the bar's mean,
        a whisker of their standard deviation, and a dot each.
      folds: titles.
    """
    axes = _columns(folds, "fold (who is tested)", each=0.7)
    width = 0.84 / len(metrics)
    for i, (title, values) in enumerate(metrics.items()):
        at = np.arange(len(folds)) + (i - (len(metrics) - 1) / 2) * width
        _bars(axes, at, 100 * np.asarray(values, float), width * 0.92, COLOURS[i], title)
    return _percent(axes, "%")


def recall_bars(recall: np.ndarray, overall, names, chance: float):
    """A bar per class: its recall in percent, over all folds.

    Args:
      recall: [seeds, c] of each seed, NaN for a class without utterances.
      overall: [c], over the utterances of all seeds: the bars.
      names: c titles.
      chance: recall of guessing, drawn as a line.
    """
    axes = _columns(names, "true emotion")
    recall, overall = (100 * np.asarray(x, float) for x in (recall, overall))
    colours = list(emotion_colours(names).values())
    _bars(axes, np.arange(len(names)), recall, 0.6, colours, None, overall)
    axes.axhline(100 * chance, color="0.35", linestyle=":", label="guessing")
    return _percent(axes, "recall, %")


def _bars(axes, at, values, width, colour, title, height=None):
    """Bars of the seeds' means of values [seeds, n], or of a height; their spread, if several."""
    some = ~np.isnan(values).all(0)
    mean = np.nanmean(values[:, some], 0)
    top = height = mean if height is None else height[some]
    at, values = at[some], values[:, some]
    colour = colour if isinstance(colour, str) else [c for c, there in zip(colour, some) if there]
    axes.bar(at, height, width, color=colour, label=title)
    if len(values) > 1:
        # np.nanstd(ddof=1), without its warning where a fold has one seed yet: no whisker.
        count = (~np.isnan(values)).sum(0)
        squares = np.nansum((values - mean) ** 2, 0)
        spread = (squares / np.where(count > 1, count - 1, np.nan)) ** 0.5
        axes.errorbar(at, height, spread, fmt="none", ecolor="black", capsize=3)
        axes.scatter(np.tile(at, len(values)), values.ravel(), 12, "white", edgecolors="black",
                     linewidths=0.7, zorder=3)  # fmt: skip
        top = np.fmax(height + spread, np.nanmax(values, 0))
    for x, y, value in zip(at, top, height):
        axes.annotate(f"{value:.1f}", (x, y), (0, 3), textcoords="offset points", ha="center",
                      fontsize=8)  # fmt: skip


def _percent(axes, label):
    axes.set(ylabel=label, ylim=(0, 112), yticks=range(0, 101, 20))  # room for numbers above bars
    _legend(axes, "outside upper right", ncols=3)
    return axes.figure


def _legend(axes, where, **options):
    """A legend beside the axes that has each name once; none without names."""
    handles = {}
    for handle, label in zip(*axes.get_legend_handles_labels()):
        handles.setdefault(label, handle)
    if handles:
        axes.figure.legend(handles.values(), handles.keys(), loc=where, frameon=False, **options)


def curves(title: str, curves: list[tuple], chosen: dict | None = None, percent: bool = False):
    """Values against step: a colour per fold, a thin line per seed where there are several.

    Args:
      title: of the quantity.
      curves: (fold, seed, steps, values), at least one.
      chosen: (fold, seed) -> step of the epoch whose weights were tested, marked by a ring.
      percent: values are shares and shown in percent.
    """
    axes = _axes(NARROW, 3.2)
    folds = sorted({fold for fold, *_ in curves})
    several = len({seed for _, seed, *_ in curves}) > 1
    for fold, seed, steps, values in curves:
        i, values = folds.index(fold), np.array(values, float) * (100 if percent else 1)
        colour, step = LINES[i % len(LINES)], (chosen or {}).get((fold, seed))
        axes.plot(
            steps, values, color=colour, label=str(fold), linewidth=0.9 if several else 1.5,
            linestyle=DASHES[i // len(LINES) % len(DASHES)],
            marker="o" if len(values) < 25 else None, markersize=3.5,
        )  # fmt: skip
        before = np.flatnonzero(np.array(steps) <= step) if step is not None else ()
        if len(before):
            # What was logged last until then: training losses are means over some steps.
            axes.plot(steps[before[-1]], values[before[-1]], "o", ms=9, mfc="none", mec=colour)
    axes.set_title(title, fontsize=11)
    axes.set(xlabel="step", ylabel="%" if percent else "")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.25)
    _legend(axes, "outside right center", title="fold")
    return axes.figure


def embedding_map(points: np.ndarray, groups, names, title: str, colours: dict | None = None):
    """A map of utterances, each group with its colour and marker.

    Args:
      points: [n, 2].
      groups: n names.
      names: of the groups, in the legend's order.
      title: of the grouping.
      colours: of the groups, by name; None: any.
    """
    axes = _figure(NARROW, 4.5).add_subplot()
    groups = np.asarray(groups)
    size = 26 if len(points) < 400 else 12
    for i, name in enumerate(names):
        at = points[groups == name]
        colour = colours[name] if colours else LINES[i % len(LINES)]
        axes.scatter(at[:, 0], at[:, 1], size, colour, alpha=0.75,
                     marker=MARKERS[i % len(MARKERS)], linewidths=0, label=str(name))  # fmt: skip
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=11)
    _legend(axes, "outside lower center", ncols=min(len(names), 4), columnspacing=1.0,
            handletextpad=0.2)  # fmt: skip
    return axes.figure


def attention(wave: np.ndarray, weights: np.ndarray, tokens, frame: float):
    """Attention of tokens over time, below the waveform on the same axis.

    The colour is the weight in units of an even spread over all frames, so that it means the same
    for short and long utterances.

    Args:
      wave: [n], 16 kHz.
      weights: [s, t], rows that sum to 1.
      tokens: s texts.
      frame: seconds per frame.
    """
    count, frames = weights.shape
    height = 0.24 * max(count, 6)
    figure = _figure(5.4, 2.3 + height)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(1.2, height))
    upper.plot(np.arange(len(wave)) / SAMPLE_RATE, wave, color=COLOURS[0], linewidth=0.5)
    upper.set(ylim=_symmetric(wave), ylabel="waveform", yticks=[])
    upper.spines[["top", "right"]].set_visible(False)
    image = lower.imshow(
        weights * frames, cmap="viridis", vmin=0, aspect="auto", interpolation="nearest",
        extent=(0, frames * frame, count - 0.5, -0.5),
    )  # fmt: skip
    lower.set_yticks(range(count), [_short(t) for t in tokens], fontsize=9)
    lower.set(xlabel="time, s", xlim=(0, max(frames * frame, len(wave) / SAMPLE_RATE)))
    figure.colorbar(image, ax=[upper, lower], label="attention / even spread", aspect=30)
    return figure


def _symmetric(wave):
    peak = max(float(np.abs(wave).max(initial=0)), 1e-3)
    return -1.05 * peak, 1.05 * peak


def _short(token):
    text = token if len(token) <= 14 else token[:13] + "…"
    return text.replace("$", r"\$")  # a $ would begin a formula


def gate(openness: np.ndarray, label: np.ndarray, names):
    """Boxes of the gate's openness per class, with a dot for each utterance.

    Args:
      openness: [n], 0 closed, 1 open.
      label: int [n].
      names: c titles.
    """
    axes = _columns(names, "true emotion", each=0.7, margin=0.6)
    rng = np.random.default_rng(0)  # scatters the dots within their column
    for k, colour in enumerate(emotion_colours(names).values()):
        values = openness[np.asarray(label) == k]
        # Boxes of fewer would show quartiles that are not there.
        if len(values) >= 5:
            axes.boxplot(
                values, positions=[k], widths=0.55, showfliers=False, zorder=3, manage_ticks=False,
                medianprops={"color": "black", "linewidth": 1.6},
            )  # fmt: skip
        x = k + rng.uniform(-0.2, 0.2, len(values))
        axes.scatter(x, values, 9, colour, alpha=0.45, linewidths=0)
    axes.set(ylabel="mean of the gate")
    axes.grid(axis="y", alpha=0.25)
    axes.ticklabel_format(axis="y", useOffset=False)
    return axes.figure


def waveform(wave: np.ndarray, spans=(), names=()):
    """A recording's waveform, with the predicted class of each span as its background.

    Args:
      wave: float32 [n], 16 kHz, up to an hour.
      spans: (start, end, class name) in seconds, side by side; none for one colour.
      names: of all classes.
    """
    colours = emotion_colours(names)
    axes = _axes(NARROW, 2.3 if spans else 1.8)
    size = -(-len(wave) // _COLUMNS)
    starts = np.arange(0, len(wave), size)
    low, high = np.minimum.reduceat(wave, starts), np.maximum.reduceat(wave, starts)
    colour = "0.15" if spans else LINES[0]
    axes.fill_between((starts + size / 2) / SAMPLE_RATE, low, high, color=colour, linewidth=0.4)
    axes.set(ylim=_symmetric(wave), xlim=(0, len(wave) / SAMPLE_RATE), yticks=[], xlabel="time, s")
    if len(wave) > 60 * SAMPLE_RATE:
        axes.xaxis.set_major_formatter(lambda x, _: f"{int(x) // 60}:{int(x) % 60:02d}")
        axes.set_xlabel("time, min:s")
    axes.spines["left"].set_visible(False)
    for start, end, name in spans:
        axes.axvspan(start, end, color=colours[name], alpha=0.25, linewidth=0, zorder=0)
        axes.axvspan(start, end, 0, 0.12, color=colours[name], linewidth=0, label=name)
    _legend(axes, "outside upper center", ncols=4, handlelength=1.2)
    return axes.figure
