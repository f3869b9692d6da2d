"""Curves of a run that grow while it trains: for a cell of a notebook."""

import contextlib
import os
import threading

from mmer_jax import runs
from mmer_jax.reporting import plots

SHOWN = {"train/loss": ("loss of training steps", False), "select/ua": ("held-out UA", True)}


@contextlib.contextmanager
def curves(workdir: str, every: float = 5.0):
    """Shows in a notebook what the folds of `workdir` have logged, anew every so many seconds.

    The run itself goes on in the `with` block; a folder that is not there yet is waited for. What
    can't be drawn is left out: a picture never ends a training.
    """
    from IPython.display import HTML, Image, display

    shown = {key: display(HTML(""), display_id=True) for key in SHOWN}
    ended = threading.Event()

    def draw():
        with contextlib.suppress(OSError, ValueError):
            for key, figure in figures(workdir).items():
                shown[key].update(Image(plots.png(figure)))

    def watch():
        while not ended.wait(every):
            draw()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
        draw()


def figures(workdir: str) -> dict:
    """Key of `SHOWN` -> the figure of its curves, of those that are logged: one for each fold."""
    found = {}
    for folder, _, names in sorted(os.walk(workdir)):
        if runs.METRICS in names:
            found[os.path.relpath(folder, workdir)] = runs.metrics(folder)
    drawn = {}
    for key, (title, percent) in SHOWN.items():
        logged = {name: runs.series(lines, key) for name, lines in found.items()}
        curves = [(name, 0, *points) for name, points in logged.items() if points]
        if curves:
            drawn[key] = plots.curves(title, curves, percent=percent)
    return drawn
