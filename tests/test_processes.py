"""A run in two processes of two devices each: the same results as in one, nobody counted twice."""

import csv
import json
import os
import pathlib
import re
import subprocess
import sys

import jax
import numpy as np
import pytest

from mmer_jax import processes
from mmer_jax.errors import UserError
from mmer_jax.inference.predictor import Predictor
from mmer_jax.training import checkpoint_io
from tests.harness import free_port

ROOT = pathlib.Path(__file__).resolve().parents[1]


# The command, killed before it writes a fold's parameters: its checkpoints stay.
KILLED = """
import sys
from mmer_jax import main
from mmer_jax.training import checkpoint
checkpoint.write_params = lambda *_: sys.exit("killed")
sys.exit(main.main())
"""


def command(prepared, workdir, *options, program=("-m", "mmer_jax.main")):
    return [
        *(sys.executable, *program, "--config=configs/demo.py:smoke"),
        *(f"--workdir={workdir}", f"--config.data.dir={prepared / 'tfds'}"),
        f"--config.text.tokenizer={prepared / 'corpus' / 'tokenizer'}",
        # 16 test utterances in batches of 12: the second one is short.
        *("--config.data.batch_size=8", "--config.data.eval_batch_size=12"),
        *("--config.heldout_fraction=0.2", "--config.model.dropout=0.0"),
        *("--config.audio.size.dropout=0.0", "--config.text.size.dropout=0.0"),
        *options,
    ]


def start(*args, devices, **options):
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
    env = os.environ | {"XLA_FLAGS": flags}
    return subprocess.Popen(
        command(*args, **options), cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip


# What jax's transport between CPUs writes to the terminal itself, from several threads at once: in
# pieces, with the ends of lines anywhere.
GLOO = re.compile(
    r"\[Gloo\] Rank|is connected to|peer ranks\.|Expected number of connected peer ranks is :"
    r"|\d+|\s"
)


def finish(program, message=""):
    out, errors = program.communicate(timeout=900)
    assert program.returncode == (1 if message else 0) and message in errors, errors[-3000:]
    return out


def in_two(prepared, workdir, *options, message="", **others):
    address = f"127.0.0.1:{free_port()}"
    flags = (f"--coordinator_address={address}", "--num_processes=2", *options)
    programs = [
        start(prepared, workdir, *flags, f"--process_id={i}", devices=2, **others) for i in range(2)
    ]
    return [finish(program, message) for program in programs]


def predictions(workdir):
    with open(workdir / "predictions.csv", encoding="utf-8") as f:
        return list(csv.DictReader(f))


@pytest.mark.slow
def test_two_processes_give_one_processes_results(prepared, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    finish(start(prepared, one, devices=1))
    killed = {"message": "killed", "program": ("-c", KILLED)}
    in_two(prepared, two, "--config.mesh.fsdp=2", **killed)
    assert (two / "fold5" / "checkpoints").exists() and not (two / "results.md").exists()
    # The checkpoint that two processes wrote is read by two others.
    said = in_two(prepared, two, "--config.mesh.fsdp=2")
    assert "goes on after epoch 1 of 1" in said[0]
    assert "| test session |" in said[0] and GLOO.sub("", said[1]) == ""
    expected, found = predictions(one), predictions(two)
    names = [row["utterance"] for row in found]
    assert len(names) == 16 == len(set(names)) and names == [row["utterance"] for row in expected]
    for a, b in zip(expected, found):
        for column in (c for c in a if c.startswith("p_")):
            assert float(b[column]) == pytest.approx(float(a[column]), abs=1e-4)
    histories = [json.loads((d / "fold5/result.json").read_text())["history"] for d in (one, two)]
    losses = [[entry["loss"] for entry in history] for history in histories]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)
    lines = [(d / "fold5/metrics.jsonl").read_text().count("\n") for d in (one, two)]
    assert lines[0] == lines[1] > 1

    # What lay in halves on four devices is whole in the fold's folder, and nothing else is there.
    assert not (two / "fold5" / "checkpoints").exists()
    models = [checkpoint_io.read_fold(str(d / "fold5")) for d in (one, two)]
    shapes = [jax.tree.map(np.shape, m.params) for m in models]
    assert shapes[0] == shapes[1]
    row = json.loads((two / "fold5" / "result.json").read_text())["predictions"][0]
    (path,) = (prepared / "corpus").glob(f"IEMOCAP*/**/{row['utterance']}.wav")
    answer = Predictor(models[1]).predict(path, text=row["transcript"])
    np.testing.assert_allclose(answer.logits, row["logits"], atol=1e-5)


def test_some_flags_of_a_run_in_processes_are_not_enough(monkeypatch):
    monkeypatch.delenv("JAX_PROCESS_ID", raising=False)
    monkeypatch.setenv("JAX_NUM_PROCESSES", "2")
    with pytest.raises(UserError, match="--process_id is missing"):
        processes.start("127.0.0.1:1", None, None, automatic=False)
    monkeypatch.setenv("JAX_PROCESS_ID", "one")
    with pytest.raises(UserError, match="JAX_PROCESS_ID is 'one'"):
        processes.start("127.0.0.1:1", None, None, automatic=False)


def test_without_flags_there_is_one_process(monkeypatch):
    for name in ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"):
        monkeypatch.delenv(name, raising=False)
    processes.start(None, None, None, automatic=False)
    assert processes.is_first() and processes.first_says(True) and not processes.first_says(False)
