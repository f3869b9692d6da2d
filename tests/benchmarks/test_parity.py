"""The Flax model against an independent PyTorch one: values, losses, gradients, training."""

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from benchmarks import common, parity, torch_mmer


@pytest.mark.parametrize(
    "case, steps", [("wav2vec2-base, equal lengths", 0), ("hubert-large, padded", 20)]
)
def test_equals_the_independent_model(case, steps):
    rows = {name: value for _, name, value in parity.independent_rows(case, steps)}
    curve = rows.pop(f"losses of {steps} AdamW steps, worst", None)
    first_and_last = rows.pop("  (PyTorch's loss, first and last step)", None)
    assert rows.pop("gradients, worst entry") < 2e-5
    assert len(rows) == 9
    assert max(rows.values()) < 1e-4, rows
    if steps:
        assert curve < 1e-4
        assert first_and_last[1] < 0.9 * first_and_last[0]  # it did train


def test_an_accumulated_gradient_and_what_it_trains_equal_the_published_loops():
    rows = {name: value for _, name, value in parity.accumulation_rows()}
    first, last = rows.pop("  (PyTorch's loss, first and last epoch)")
    assert last < first  # it did train
    assert len(rows) == 3
    assert max(rows.values()) < 1e-5, rows


def test_ties_of_the_pooling_are_seen():
    model = torch_mmer.TorchMMER(None, None, 4, 8, width=4, heads=2, ffn=4)
    model.margin = np.inf
    mask = torch.tensor([[True, True, False], [True, False, False]])
    x = torch.tensor([[[4.0, 1.0], [3.0, 2.0], [3.9, 9.0]], [[5.0, 1.0], [5.0, 1.0], [0.0, 0.0]]])
    np.testing.assert_array_equal(model._masked_max(x, mask), [[4.0, 2.0], [5.0, 1.0]])
    assert model.margin == pytest.approx(1 / 5)  # 4 and 3, 2 and 1; alone in its row: no other
    x[0, 1, 0] = 4.0
    model._masked_max(x, mask)
    assert model.margin == 0.0


@pytest.fixture
def pair():
    """Parameters of ours, and the PyTorch model with them."""
    trainer = common.make_trainer(parity.LARGE)
    params = common.drawn_params(trainer.model, seed=0)
    return params, torch_mmer.TorchMMER.like(trainer.model, params).eval()


def test_batches_are_drawn_without_ties(pair, monkeypatch):
    drawn, margin = [], parity.margin
    monkeypatch.setattr(parity, "margin", lambda *args: drawn.append(margin(*args)) or drawn[-1])
    monkeypatch.setattr(parity, "MARGIN", 5e-4)
    for seed in range(4):
        parity.draw_batch(pair[1], [4_000, 3_100], seed)
        assert drawn[-1] >= 5e-4
    assert min(drawn) < 5e-4  # one or more were drawn again


def test_a_gradient_that_one_side_lacks_is_seen(pair):
    params, model = pair
    for p in model.parameters():
        p.grad = p.detach().clone()
    assert parity.worst_gradient(params, model) == 0
    weight = model.self_attention.attention.in_proj_weight
    for lost in (None, torch.zeros_like(weight)):
        weight.grad = lost
        assert parity.worst_gradient(params, model) == np.inf


def test_relative_difference_sees_a_difference():
    assert parity.relative([1.0, 2.0], [1.0, 2.0]) == 0
    assert parity.relative([1.0, 2.2], [1.0, 2.0]) == pytest.approx(0.1)
    with pytest.raises(ValueError, match="differ"):
        parity.relative([1.0], [1.0, 2.0])
