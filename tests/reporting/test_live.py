"""Curves of a run that is going on."""

import json
import time

import pytest

from mmer_jax.reporting import live

pytest.importorskip("IPython")


class Handle:
    """What IPython's `display` returns."""

    def __init__(self):
        self.shown = []

    def update(self, figure):
        self.shown.append(figure)


@pytest.fixture
def handles(monkeypatch):
    """All that were displayed, in their order."""
    found = []

    def display(*_, display_id):
        assert display_id
        found.append(Handle())
        return found[-1]

    monkeypatch.setattr("IPython.display.display", display)
    monkeypatch.setattr("IPython.display.Image", lambda figure: figure)
    monkeypatch.setattr(live.plots, "png", lambda figure: figure)
    return found


def log(folder, steps, ua):
    folder.mkdir(parents=True, exist_ok=True)
    lines = [{"step": s, "train/loss": 1 / (1 + s)} for s in range(steps)]
    lines += [{"step": steps, "select/ua": ua}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines) + '{"st')


def test_curves_grow_while_it_trains(handles, tmp_path):
    with live.curves(str(tmp_path / "run"), every=0.01):
        log(tmp_path / "run" / "fold1", 3, 0.4)
        until = time.monotonic() + 60
        while not all(handle.shown for handle in handles) and time.monotonic() < until:
            time.sleep(0.01)
        early = [len(handle.shown) for handle in handles]
        log(tmp_path / "run" / "fold2", 5, 0.6)
    assert len(handles) == len(live.SHOWN) and all(early)
    loss, ua = (handle.shown[-1].axes[0].lines for handle in handles)
    assert [len(line.get_xdata()) for line in loss] == [3, 5]
    assert [line.get_ydata().tolist() for line in ua] == [[40.0], [60.0]]


def test_a_failed_training_is_told(handles, tmp_path):
    with pytest.raises(ValueError, match="diverged"):
        with live.curves(str(tmp_path / "nothing")):
            raise ValueError("diverged")
    assert not any(handle.shown for handle in handles)


def test_a_picture_never_ends_a_training(handles, tmp_path, monkeypatch):
    def broken(workdir):
        raise ValueError("no such glyph")

    monkeypatch.setattr(live, "figures", broken)
    with live.curves(str(tmp_path)):
        trained = True
    assert trained and not any(handle.shown for handle in handles)
