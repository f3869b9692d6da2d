"""The Flax model against an independent PyTorch one: values, losses, gradients, training."""

import pytest

pytest.importorskip("torch")

from benchmarks import parity


@pytest.mark.parametrize(
    "case, steps", [("wav2vec2-base, equal lengths", 0), ("hubert-large, padded", 20)]
)
def test_equals_the_independent_model(case, steps):
    rows = {name: value for _, name, value in parity.independent_rows(case, steps)}
    curve = rows.pop(f"losses of {steps} AdamW steps, worst", None)
    first_and_last = rows.pop("  (PyTorch's loss, first and last step)", None)
    assert rows.pop("gradients, worst parameter") < 1e-3
    assert len(rows) == 9
    assert max(rows.values()) < 1e-4, rows
    if steps:
        assert curve < 1e-2
        assert first_and_last[1] < 0.9 * first_and_last[0]  # it did train


def test_relative_difference_sees_a_difference():
    assert parity.relative([1.0, 2.0], [1.0, 2.0]) == 0
    assert parity.relative([1.0, 2.2], [1.0, 2.0]) == pytest.approx(0.1)
    with pytest.raises(ValueError, match="differ"):
        parity.relative([1.0], [1.0, 2.0])
