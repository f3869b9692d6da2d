"""The speed benchmarks run, and count what they claim; no time is asserted."""

import json
import os

import jax
import numpy as np
import pytest

pytest.importorskip("torch")

from benchmarks import apart, machine, train_step


def test_both_parts_run_and_write_their_numbers(tmp_path, capsys):
    small = ["--tiny", "--out", str(tmp_path), "--seconds", "0.6", "--steps", "1", "--rounds", "2"]
    found = train_step.main(small)
    assert found["flax_s"] > 0 and found["torch_s"] > 0
    assert [len(rounds) for rounds in found["times"].values()] == [2, 2]
    assert json.loads((tmp_path / "train_step.json").read_text())["ratio"] == found["ratio"]
    found = train_step.main([*small, "--mix", "--utterances", "8", "--buckets", "1"])
    assert len(found["times"]["flax"]) == len(found["times"]["torch"]) == 2
    assert "utterances / s" in capsys.readouterr().out


def test_lengths_are_iemocaps():
    seconds, _ = train_step.draw_lengths(200_000, np.random.default_rng(0))
    assert abs(np.median(seconds) - 3.58) < 0.05
    assert abs(np.mean(seconds) - 4.55) < 0.15  # 0.1 below: the cut at 13.125 s
    assert abs(np.quantile(seconds, 0.95) - 11.06) < 0.2


def test_padding_counts_both_views():
    batch = {
        "audio": np.zeros((2, 10)), "audio_length": np.array([10, 5]),
        "aug_audio": np.zeros((2, 20)), "aug_audio_length": np.array([20, 10]),
    }  # fmt: skip
    assert train_step.padding([batch]) == pytest.approx(1 - 45 / 60)


def test_counted_flops_are_those_of_a_transformer():
    """XLA counts elementwise work too, little beside the products at this width."""
    config, _ = train_step.configs(train_step.Sizes(width=128, layers=1, heads=2, ffn=512))
    from mmer_jax.models.encoders.wav2vec2 import TransformerLayer

    layer, hidden = TransformerLayer(config, np.float32), np.zeros((1, 64, 128), np.float32)
    mask = np.ones((1, 64), bool)
    params = layer.init(jax.random.key(0), hidden, mask, True)
    counted = machine.flops(jax.jit(lambda p, h: layer.apply(p, h, mask, True)), params, hidden)
    by_hand = machine.transformer_flops(rows=64, width=128, ffn=512, layers=1)
    assert 1.0 < counted / by_hand < 1.15


def test_table():
    assert machine.table(("a", "b"), [("x", 1.23456)]) == "| a | b |\n|-|-|\n| x | 1.23 |"


@pytest.mark.parametrize("way", [[], ["--no-text"]])
def test_recordings_get_the_same_answers_on_both_sides(tmp_path, way):
    from benchmarks import recordings

    arguments = ["--tiny", "--out", str(tmp_path), "--recordings", "16", "--parts", "2", *way]
    found = recordings.main(arguments)
    assert found["difference"] < 1e-4 < found["largest_logit"]
    assert found["programs_after"] >= found["programs"] > 0
    assert found["flax_s"] > 0 and found["torch_s"] > 0


def test_a_process_that_dies_is_named():
    side = apart.Apart(os.path.join, "a")  # a str: has no method of that name
    with pytest.raises(RuntimeError, match="ended with exit code 1 in missing"):
        side.ask("missing")


def test_inference_runs(tmp_path):
    from benchmarks import inference

    arguments = ["--tiny", "--out", str(tmp_path), "--repeats", "1", "--utterances", "8"]
    found = inference.main([*arguments, "--buckets", "1"])
    assert len(found["seconds"]) == 3
    assert all(t > 0 for case in found["seconds"].values() for t in case.values())
