"""Every plot from made-up data, the empty and the crowded cases among it."""

import numpy as np
import pytest

from mmer_jax.reporting import analysis, plots

NAMES = ["neu", "hap", "sad", "ang"]
RNG = np.random.default_rng(0)


def check(png, width=400):
    found = plots.png_size(png)
    assert found[0] >= width and found[1] >= width / 2
    assert png[-8:-4] == b"IEND"


@pytest.mark.parametrize("seeds, folds", [(1, 1), (3, 10)])
def test_bars(seeds, folds):
    metrics = {k: RNG.uniform(0, 1, (seeds, folds)) for k in ("WA", "UA")}
    metrics["UA"][0, 0] = np.nan  # a fold that isn't finished
    check(plots.fold_bars_png(metrics, range(1, folds + 1)))
    check(plots.recall_bars_png(RNG.uniform(0, 1, (seeds, 4)), NAMES, 0.25))


def test_bars_show_the_mean_of_the_seeds(monkeypatch):
    written = []
    monkeypatch.setattr(plots, "png", lambda figure: written.append(figure) or b"")
    plots.fold_bars_png({"WA": np.array([[0.5, 0.2], [0.7, np.nan]])}, [1, 2])
    axes = written[0].axes[0]
    assert [bar.get_height() for bar in axes.patches] == pytest.approx([60, 20])
    assert [t.get_text() for t in axes.texts] == ["60", "20"]


@pytest.mark.parametrize("folds, seeds, points", [(1, 1, 1), (10, 2, 60)])
def test_curves(folds, seeds, points):
    found = [
        (k, s, list(range(points)), list(RNG.uniform(size=points)))
        for k in range(folds) for s in range(seeds)
    ]  # fmt: skip
    check(plots.curves_png("loss", found))
    check(plots.curves_png("UA", found, percent=True))


def test_folds_differ_in_colour_or_dashes(monkeypatch):
    written = []
    monkeypatch.setattr(plots, "png", lambda figure: written.append(figure) or b"")
    plots.curves_png("loss", [(k, 0, [1, 2], [1.0, 2.0]) for k in range(10)])
    lines = written[0].axes[0].get_lines()
    assert len({(x.get_color(), x.get_linestyle()) for x in lines}) == 10


@pytest.mark.parametrize("n", [1, 300])
def test_map(n):
    check(plots.map_png(RNG.normal(size=(n, 2)), RNG.choice(NAMES, n), NAMES, "by emotion"))


@pytest.mark.parametrize("tokens, frames", [(1, 1), (60, 700)])
def test_attention(tokens, frames):
    weights = RNG.dirichlet(np.ones(frames), tokens)
    texts = [r"$x_{1}$ and a very long one" if i % 2 else "[CLS]" for i in range(tokens)]
    check(plots.attention_png(RNG.normal(size=320 * frames), weights, texts, 0.02))


@pytest.mark.parametrize("seconds, spans", [(1, ()), (600, ((0, 9, "hap"), (9, 20, "hap")))])
def test_waveform(seconds, spans):
    check(plots.waveform_png(np.sin(np.arange(16000 * seconds) / 9), spans, NAMES))


def test_gate_of_few_and_of_no_utterances_of_a_class():
    check(plots.gate_png(RNG.uniform(size=30), np.array([0] * 28 + [1] * 2), NAMES))


@pytest.mark.parametrize("n, how", [(1, "dimensions"), (5, "PCA"), (40, "t-SNE")])
def test_projection(n, how):
    fused = RNG.normal(size=(n, 6)).astype(np.float32)
    points, words = analysis.project(fused, seed=3)
    assert points.shape == (n, 2) and np.isfinite(points).all()
    assert how in words
    assert np.array_equal(points, analysis.project(fused, seed=3)[0])


def test_projection_of_embeddings_that_are_all_the_same():
    points, _ = analysis.project(np.ones((20, 6), np.float32), seed=0)
    assert points.shape == (20, 2) and np.isfinite(points).all()


def test_projection_separates_clusters():
    fused = RNG.normal(size=(60, 8)).astype(np.float32)
    fused[:30] += 20
    points, _ = analysis.project(fused, seed=0)
    centres = points[:30].mean(0), points[30:].mean(0)
    inner = np.linalg.norm(points[:30] - centres[0], axis=1).mean()
    assert np.linalg.norm(centres[0] - centres[1]) > 2 * inner
