"""Every plot from made-up data, the empty and the crowded cases among it."""

import numpy as np
import pytest

from mmer_jax.reporting import analysis, plots
from tests.harness import png_size

NAMES = ["neu", "hap", "sad", "ang"]
RNG = np.random.default_rng(0)


def check(figure, width=400):
    png = plots.png(figure)
    found = png_size(png)
    assert found[0] >= width and found[1] >= width / 2
    assert png[-8:-4] == b"IEND"


@pytest.mark.parametrize("seeds, folds", [(1, 1), (3, 10)])
def test_bars(seeds, folds):
    metrics = {k: RNG.uniform(0, 1, (seeds, folds)) for k in ("WA", "UA")}
    metrics["UA"][0, 0] = np.nan  # a fold that isn't finished
    check(plots.fold_bars(metrics, range(1, folds + 1)))
    check(plots.recall_bars(RNG.uniform(0, 1, (seeds, 4)), [0.5] * 4, NAMES, 0.25))


def test_bars_show_the_numbers_of_the_table():
    axes = plots.fold_bars({"WA": np.array([[0.765, 0.2], [0.765, np.nan]])}, [1, 2]).axes[0]
    assert [bar.get_height() for bar in axes.patches] == pytest.approx([76.5, 20])
    assert [t.get_text() for t in axes.texts] == ["76.5", "20.0"]
    # Seeds of other folds: the mean of their recalls is not that over all utterances.
    recall = np.array([[0.2, np.nan], [0.6, np.nan]])
    axes = plots.recall_bars(recall, [0.5, np.nan], ["sad", "x"], 0.5).axes[0]
    assert [t.get_text() for t in axes.texts] == ["50.0"]


def test_a_class_has_its_colour_whatever_the_others_are():
    few, many = (plots.emotion_colours(n) for n in (["sad", "ang"], ["Anger", "x", "sad", "joy"]))
    assert few["sad"] == many["sad"] and few["ang"] == many["Anger"]
    assert len(set(many.values())) == 4
    assert len(plots.emotion_colours(map(str, range(30)))) == 30


def test_colours_stand_out_on_both_themes():
    def luminance(colour):
        c = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        c = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
        return c @ [0.2126, 0.7152, 0.0722]

    for colour in plots.EMOTIONS.values():
        for back in ("#ffffff", "#f5f7f9", "#1e2328", "#27272a"):
            low, high = sorted(map(luminance, (colour, back)))
            assert (high + 0.05) / (low + 0.05) >= 3, (colour, back)


def test_points_of_few_utterances_are_grey_and_on_no_line():
    bins = {"count": [9, 0, 10, 30], "confidence": [0.2, None, 0.6, 0.9],
            "accuracy": [1.0, None, 0.5, 0.8]}  # fmt: skip
    lines = plots.reliability(bins, None).axes[0].get_lines()[1:]
    assert [x.get_xdata().tolist() for x in lines] == [[0.6, 0.9], [0.2]]
    assert lines[1].get_linestyle() == "None"
    check(plots.reliability(bins, bins))


def test_confusions_of_folds_are_small():
    names = ["surprise", *NAMES]
    large, small = (plots.confusion(np.eye(5, dtype=int), names, t) for t in ("", "fold 1"))
    assert small.get_size_inches()[0] < large.get_size_inches()[0] / 2
    assert small.axes[0].get_title() == "fold 1" and len(small.axes) == 1
    assert [t.get_text() for t in small.axes[0].texts][:2] == ["100", "0"]


def test_a_figure_for_papers_is_the_same_each_time():
    drawn = [plots.pdf(plots.confusion(np.eye(2, dtype=int), ["a", "b"])) for _ in range(2)]
    assert drawn[0] == drawn[1] and drawn[0].startswith(b"%PDF") and b"/Type3" not in drawn[0]


@pytest.mark.parametrize("folds, seeds, points", [(1, 1, 1), (10, 2, 60)])
def test_curves(folds, seeds, points):
    found = [
        (k, s, list(range(points)), list(RNG.uniform(size=points)))
        for k in range(folds) for s in range(seeds)
    ]  # fmt: skip
    check(plots.curves("loss", found))
    check(plots.curves("UA", found, percent=True))


def test_folds_differ_in_colour_or_dashes():
    drawn = plots.curves("loss", [(k, 0, [1, 2], [1.0, 2.0]) for k in range(10)])
    lines = drawn.axes[0].get_lines()
    assert len({(x.get_color(), x.get_linestyle()) for x in lines}) == 10


def test_the_chosen_epoch_is_marked():
    drawn = plots.curves("UA", [(1, 0, [5, 10, 15], [0.1, 0.4, 0.2])], {(1, 0): 12}, True)
    line, ring = drawn.axes[0].get_lines()
    assert ring.get_xydata().tolist() == [[10, pytest.approx(40)]]
    early = plots.curves("UA", [(1, 0, [5], [0.1])], {(1, 0): 2})
    assert len(early.axes[0].get_lines()) == 1


@pytest.mark.parametrize("n", [1, 300])
def test_map(n):
    check(plots.embedding_map(RNG.normal(size=(n, 2)), RNG.choice(NAMES, n), NAMES, "by emotion"))


@pytest.mark.parametrize("tokens, frames", [(1, 1), (60, 700)])
def test_attention(tokens, frames):
    weights = RNG.dirichlet(np.ones(frames), tokens)
    texts = [r"$x_{1}$ and a very long one" if i % 2 else "[CLS]" for i in range(tokens)]
    check(plots.attention(RNG.normal(size=320 * frames), weights, texts, 0.02))


@pytest.mark.parametrize("seconds, spans", [(1, ()), (600, ((0, 9, "hap"), (9, 20, "hap")))])
def test_waveform(seconds, spans):
    check(plots.waveform(np.sin(np.arange(16000 * seconds) / 9), spans, NAMES))


def test_gate_of_few_and_of_no_utterances_of_a_class():
    check(plots.gate(RNG.uniform(size=30), np.array([0] * 28 + [1] * 2), NAMES))


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
