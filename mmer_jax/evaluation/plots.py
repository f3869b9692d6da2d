"""Pictures of results, as PNG bytes."""

import io

import numpy as np


def confusion_png(matrix: np.ndarray, names) -> bytes:
    """A confusion matrix [c, c]: colour is the share of the true class, with share and count."""
    # The object interface: pyplot would keep figures, and pick a screen.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    size = 1.9 + 0.9 * len(names)
    figure = Figure(figsize=(size, size * 0.86), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
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
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()
