"""Every encoder equals Hugging Face's PyTorch, and padding changes nothing."""

import pytest

pytest.importorskip("torch")

from benchmarks import encoders


@pytest.mark.parametrize("case", encoders.CASES)
def test_equals_pytorch_utterance_by_utterance(case):
    pair = encoders.make_pair(case)
    found = encoders.compare(pair)
    assert found["states"] < 1e-4 and found["gradients"] < 1e-4, found
    assert encoders.padding(pair) < 1e-5
