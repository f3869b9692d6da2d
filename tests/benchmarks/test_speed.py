"""The speed benchmark compares what it says, on equal terms; no time is asserted."""

import json

import jax
import numpy as np
import pytest

pytest.importorskip("torch")

from benchmarks import cached, common, speed


def test_sides_take_turns_in_a_swapped_order():
    order = []
    sides = {name: lambda name=name: order.append(name) or {"s": 1.0} for name in "ab"}
    assert speed.alternate(sides, 3) == {"a": [{"s": 1.0}] * 3, "b": [{"s": 1.0}] * 3}
    assert "".join(order) == "abbaab"


def test_medians_and_ratios_by_hand():
    found = {"a": [{"s": x, "logits": [1]} for x in (1.0, 2.0, 9.0)], "b": [{"s": 3.0}] * 3}
    compared = speed.compare(found)
    assert compared["medians"] == {"a": {"s": 2.0}, "b": {"s": 3.0}}
    assert compared["ratios"] == {"s": 1.5}
    assert speed.comparison_table(compared).splitlines()[2:] == [
        "| a | 2 | 1, 2, 9 |", "| b | 3 | 3, 3, 3 |", "| ratio | 1.5 |  |",
    ]  # fmt: skip


@pytest.mark.parametrize("way", [[], ["--no-text"]])
def test_recordings_get_the_same_logits_on_both_sides(way):
    found = {}
    for side in ("Flax", "PyTorch"):
        flags = ["recordings", "--tiny", "--utterances=4", *way, f"--side={side}"]
        found[side] = speed.recordings(speed._flags(flags))
        assert found[side]["s_per_recording"] > 0
    np.testing.assert_allclose(found["Flax"]["logits"], found["PyTorch"]["logits"], atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["train", "mix", "network"])
def test_a_case_runs_and_writes_its_numbers(case, tmp_path, capsys):
    small = ["--tiny", "--seconds=0.6", "--steps=1", "--rounds=1", "--utterances=8", "--buckets=1"]
    speed.main([case, *small, f"--out={tmp_path}"])
    found = json.loads((tmp_path / f"speed_{case}.json").read_text())
    for side in ("Flax", "PyTorch"):
        assert all(value > 0 for value in found["medians"][side].values())
    assert "| ratio |" in capsys.readouterr().out


@pytest.mark.slow
def test_frozen_encoders_with_and_without_a_cache(tmp_path, capsys):
    speed.main(["--only=cached", "--tiny", "--utterances=40", f"--out={tmp_path}"])
    found = json.loads((tmp_path / "speed_cached.json").read_text())
    live, full, small = (found[side] for side in cached.SIDES)
    assert live["encode_s"] == live["stored_bytes"] == 0
    # Two views of some 4.5 s, 50 frames each and a few tokens, of width 16 in float16.
    assert 2 * 150 * 32 < full["stored_bytes"] < 2 * 330 * 32
    assert small["stored_bytes"] < 0.4 * full["stored_bytes"]
    assert live["gflop"] > full["gflop"] > small["gflop"] > 0
    assert capsys.readouterr().out.count("| cached") == 2


def test_a_whole_experiments_hours_by_hand():
    found = {
        "encode_s": 3600 / 5531, "train_s": 60 / 5531, "evaluate_s": 30 / 5531, "gflop": 1.0,
        "matmul_share": 0.5, "stored_bytes": 1e9 / 5531, "trained": 0.5, "validated": 0.2,
    }  # fmt: skip
    hours, minutes, _, share, size, _ = cached.scaled(found).values()
    assert (hours, share) == (pytest.approx(1), "50%")
    assert (minutes, size) == (pytest.approx(150 * (0.5 + 0.1)), pytest.approx(1))


def test_a_command_of_two_checkouts(tmp_path, capsys):
    (tmp_path / "told.py").write_text("import sys; print(sys.argv[1])")
    arguments = ["command", f"--checkout={tmp_path}", "--rounds=1", f"--out={tmp_path}"]
    with pytest.raises(RuntimeError, match="No module named told"):
        speed.main([*arguments, "--", "told", "WORKDIR"])  # this checkout has none
    speed.main([*arguments, "--", "platform"])
    found = json.loads((tmp_path / "speed_command.json").read_text())["medians"]
    assert found.keys() == {"here", str(tmp_path)}
    assert all(x["peak_gib"] > 0 and x["seconds"] > 0 for x in found.values())


def test_seconds_per_step_are_read_from_the_runs_files(tmp_path, monkeypatch):
    from mmer_jax.training import logging

    (tmp_path / "fold5").mkdir()
    writer = logging.MetricsWriter(str(tmp_path / "fold5"), 0)
    for step in (1, 2, 3):
        writer.write(step, {"train/loss": 1.0})
    writer.close()
    assert 0 < speed._step_seconds(tmp_path) < 5
    assert speed._step_seconds(tmp_path / "nothing") is None


@pytest.mark.parametrize("flags", [
    ["mix", "--utterances=6", "--batch=4"], ["command"], ["train", "--checkout=x"],
])  # fmt: skip
def test_flags_that_do_not_go_together(flags):
    with pytest.raises(SystemExit):
        speed.main(flags)


def test_lengths_are_iemocaps():
    seconds, _ = common.draw_lengths(200_000, np.random.default_rng(0))
    assert abs(np.median(seconds) - 3.58) < 0.05
    assert abs(np.mean(seconds) - 4.55) < 0.15  # 0.1 below: the cut at 13.125 s
    assert abs(np.quantile(seconds, 0.95) - 11.06) < 0.2


def test_counted_flops_are_those_of_a_transformer():
    """Its products alone, to the last one."""
    from transformers import Wav2Vec2Config

    from mmer_jax.models.encoders.wav2vec2 import TransformerLayer

    rows, width, ffn = 64, 128, 512
    config = Wav2Vec2Config(hidden_size=width, num_attention_heads=2, intermediate_size=ffn)
    layer, hidden = TransformerLayer(config, np.float32), np.zeros((1, rows, width), np.float32)
    mask = np.ones((1, rows), bool)
    params = layer.init(jax.random.key(0), hidden, mask, True)
    counted = common.product_flops(
        jax.jit(lambda p, h: layer.apply(p, h, mask, True)), params, hidden
    )
    # 2 per weight and position, and attention's two products.
    by_hand = rows * (2 * (4 * width**2 + 2 * width * ffn) + 4 * rows * width)
    assert counted == by_hand


def test_table():
    assert common.table(("a", "b"), [("x", 1.23456)]) == "| a | b |\n|-|-|\n| x | 1.23 |"
