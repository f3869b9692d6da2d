"""docs/extending.md in a copy of the package: one step with its loss and encoder, its metric."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"```python\n# (\S+)\n(.*?)```", re.DOTALL)
PROGRAM = """
import json, sys
import numpy as np
sys.path.insert(0, "docs")
import options
from mmer_jax import configuration
from mmer_jax.metrics import classification
from mmer_jax.models.encoders import pretrained
from mmer_jax.reporting import ablation, report
from mmer_jax.training.trainer import Trainer

old = json.load(open("old_configs.json"))["demo:default"]
c = configuration.default()
c.audio.family, c.losses.focal.weight, c.selection_metric = "frames", 1.0, "g_mean"
c.audio.size.width, c.audio.size.heads = 8, 2
c.model.width, c.model.heads, c.model.ffn = 8, 2, 8
configuration.audio_only(c)
trainer = Trainer(configuration.validate(c), ("a", "b"), 1)
batch = {
    "audio": np.random.default_rng(0).normal(size=(2, 3200)).astype(np.float32),
    "audio_length": np.array([3200, 1700], np.int32), "index": np.arange(2, dtype=np.int32),
    "transcript": np.ones((2, 2), np.int32), "transcript_length": np.array([2, 1], np.int32),
    "label": np.array([0, 1], np.int32), "valid": np.ones(2, bool), "ctc_valid": np.ones(2, bool),
}
state = trainer.initial_state(4)
before = np.asarray(state.params["audio_encoder"]["dense"]["kernel"])
state, metrics = trainer.train_step(state, batch)
moved = not np.array_equal(before, state.params["audio_encoder"]["dense"]["kernel"])
trainer.model.audio_encoder.config.save_pretrained("own")
print(json.dumps({
    "model_type": pretrained.load_config("own").model_type,
    "metrics": {k: float(v) for k, v in metrics.items()}, "moved": moved,
    "rates": classification.rates(np.array([[9, 1], [6, 4]])),
    "variants": list(ablation.CHANGES), "titles": list(report.TITLES.values()),
    "options": [o for o in ("losses.focal.gamma", "g_mean", "frames") if o in options.tables()],
    "fingerprints": [
        configuration.fingerprint(configuration.from_json(old["config"])), old["fingerprint"],
    ],
}))
"""


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """What the program prints in a copy of the package that has the page's blocks."""
    place = tmp_path_factory.mktemp("extended")
    shutil.copytree(ROOT / "mmer_jax", place / "mmer_jax")
    (place / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "options.py", place / "docs")
    shutil.copy(ROOT / "tests" / "golden" / "old_configs.json", place)
    blocks = BLOCK.findall((ROOT / "docs" / "extending.md").read_text(encoding="utf-8"))
    assert len(blocks) == 6
    for path, code in blocks:
        with open(place / path, "a", encoding="utf-8") as f:
            f.write(code)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=place, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(place), "JAX_PLATFORMS": "cpu"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_the_loss_and_the_encoder_are_trained(extended):
    metrics = extended["metrics"]
    assert 0 < metrics["focal"] < metrics["ce"] and extended["moved"]
    assert "no_focal" in extended["variants"]


def test_the_encoders_config_is_read_again(extended):
    assert extended["model_type"] == "frames"


def test_the_metric_is_in_the_tables(extended):
    assert extended["rates"]["g_mean"] == pytest.approx((0.9 * 0.4) ** 0.5)
    assert extended["titles"][-1] == "G-mean"


def test_the_options_are_documented(extended):
    assert extended["options"] == ["losses.focal.gamma", "g_mean", "frames"]


def test_configs_of_before_are_the_same_runs(extended):
    assert len(set(extended["fingerprints"])) == 1
