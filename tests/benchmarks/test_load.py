"""The benchmark of many callers: an answer of another recording is counted."""

import json
import os

import pytest

from benchmarks import load
from tests.inference import odd_recordings as odd
from tests.inference import tiny_models


class Mixed:
    """Answers for the recording that was asked for before."""

    def __init__(self):
        self._last, self.pid = 0.0, os.getpid()

    def ask(self, path):
        self._last, answer = float(path), self._last
        return [answer]


def test_what_is_mixed_up_is_counted():
    found = load.measure(Mixed(), ["0.5", "0.25"], callers=1, seconds=0.5)
    assert found["mixed"] and not found["errors"] and len(found["memory_mib"]) == 5


@pytest.mark.parametrize("side", ["predictor", pytest.param("page", marks=pytest.mark.slow)])
def test_callers_get_their_own_answers(side, tmp_path):
    if side == "page":
        pytest.importorskip("gradio", reason="Gradio isn't installed: pip install -e .[app]")
    for seconds in (0.5, 1.0):
        (tmp_path / f"{seconds}.wav").write_bytes(odd.encoded(odd.voice(seconds)))
    model = tiny_models.written(tmp_path)
    options = ["--callers=3", "--minutes=0.05", f"--side={side}", f"--out={tmp_path}"]
    load.main([model, str(tmp_path), *options])
    found = json.loads((tmp_path / "load.json").read_text())[side]
    assert found["answers"] > 3 and not found["mixed"] and not found["errors"]
