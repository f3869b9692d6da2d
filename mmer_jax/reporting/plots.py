"""Pictures of results, as PNG bytes."""

import io

import numpy as np

# Okabe and Ito's colours: told apart with every kind of colour vision.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")


def new_figure(width: float, height: float):
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


def confusion_png(matrix: np.ndarray, names) -> bytes:
    """A confusion matrix [c, c]: colour is the share of the true class, with share and count."""
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    size = 1.9 + 0.9 * len(names)
    figure = new_figure(size, size * 0.86)
    axes = figure.add_subplot()
    image = axes.imshow(share, cmap="cividis", vmin=0, vmax=1)
    for i, j in np.ndindex(*matrix.shape):
        axes.text(
            j, i, f"{100 * share[i, j]:.0f}%\n{matrix[i, j]}", ha="center", va="center",
            fontsize=10, color="black" if share[i, j] > 0.55 else "white",
        )  # fmt: skip
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(f"{int(matrix.sum())} test utterances", fontsize=11)
    figure.colorbar(image, label="share of the true class", shrink=0.85)
    return png(figure)


def reliability_png(plain: dict, scaled: dict | None) -> bytes:
    """Accuracy against confidence, see `calibration.reliability`; below, how many utterances.

    Args:
      plain: as the model states it.
      scaled: with the temperature; None where none was fitted.
    """
    figure = new_figure(5.2, 5.6)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color="0.6", linestyle=":", label="as often right as stated")
    systems = [("as stated", plain, "o-"), ("with temperature", scaled, "s--")]
    for (title, found, style), colour in zip(systems, COLOURS):
        if found is None:
            continue
        full = [i for i, n in enumerate(found["count"]) if n]
        x, y = ([found[k][i] for i in full] for k in ("confidence", "accuracy"))
        upper.plot(x, y, style, color=colour, label=title)
        centres = (np.arange(len(found["count"])) + 0.5) / len(found["count"])
        lower.step(centres, found["count"], where="mid", color=colour, linestyle=style[1:])
    upper.set_ylabel("accuracy")
    upper.set_ylim(0, 1)
    upper.legend(loc="lower right", frameon=False)
    lower.set_xlabel("confidence")
    lower.set_ylabel("utterances")
    lower.set_xlim(0, 1)
    lower.set_ylim(0)
    return png(figure)


def comparison_png(systems: list[dict]) -> bytes:
    """Each system's UA, and its difference to the first with its 95 % intervals; in percent.

    Args:
      systems: from top to bottom: `title`, `values` (one per run), `mean`, `difference` (see
        `comparison.compare`; None where there is none) and `parts` (differences of single folds,
        speakers or seeds, drawn where there is no interval).
    """
    figure = new_figure(8.6, 1.5 + 0.36 * len(systems))
    left, right = figure.subplots(1, 2, sharey=True)
    places = range(len(systems))
    for y, s in zip(places, systems):
        left.plot(100 * np.array(s["values"]), [y] * len(s["values"]), "o", color="0.6", ms=4)
        left.plot([100 * s["mean"]], [y], "D", color=COLOURS[0], ms=6)
        right.plot(100 * np.array(s["parts"]), [y] * len(s["parts"]), "o", color="0.6", ms=4)
        if s["difference"] is not None:
            _difference(right, y, s["difference"])
    left.set_yticks(places, [s["title"] for s in systems])
    left.set_ylim(len(systems) - 0.5, -0.5)
    left.set_xlabel("UA, %: runs (grey) and their mean")
    right.axvline(0, color="0.35", linestyle=":")
    right.set_xlabel(_difference_label([s["difference"] for s in systems if s["difference"]]))
    for axes in (left, right):
        axes.grid(axis="x", color="0.9")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    return png(figure)


def _difference(axes, y, d):
    """One difference: thick its interval, thin Nadeau and Bengio's, hollow if exploratory."""
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
