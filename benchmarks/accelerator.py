"""Train steps on a GPU against PyTorch, in bfloat16: `python -m benchmarks.accelerator`.

A step is that of a run: both views, all losses, dropout, gradients, clipping, AdamW; convolutions
and text encoder frozen, random weights, batches on the device already. JAX computes in bfloat16,
`config.model.dtype`; PyTorch has autocast, fused attention (SDPA), fused AdamW, `torch.compile`.
Each side has a process of its own. They compile at the same time, then take turns. `--tiny` shows
that it runs, on CPUs too.

A case is ENCODERS-SECONDS-BATCH, with `mix` for seconds IEMOCAP's lengths: JAX in length buckets,
PyTorch in random batches padded to their longest. Names of what is done otherwise may follow:

  loop     JAX alone, its layers one after the other in the program, not a loop over them
  plain    JAX alone, attention without cuDNN
  dropout  attention weights are dropped too, on both sides
  eager    PyTorch without `torch.compile`
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from concurrent import futures

import jax
import numpy as np

from benchmarks import common
from mmer_jax import configuration, ops
from mmer_jax.training import sharding

CASES = "base-5-32,large-10-16,base-5-32-loop,base-5-32-plain,base-5-32-dropout,base-mix-32"
FORMS = {"loop", "plain", "dropout", "eager"}
ENCODERS = {"base": common.base_encoders, "large": common.large_encoders}
UTTERANCES, EPOCHS, FOLDS = 5531, 100, 5  # IEMOCAP's four classes; the paper's training
PEAK = {"H100": 989e12, "H200": 989e12, "A100": 312e12}  # FLOP/s in bfloat16 by the datasheets
MATMUL = 8192


class JaxSide:
    """The step of a case; compiles all shapes in threads."""

    def __init__(self, trainer, params, batches, forms):
        self.batches = [sharding.place(b, trainer.mesh) for b in batches]
        self._state = trainer.initial_state(total_steps=10_000, params=params)
        shapes = {b["audio"].shape: b for b in self.batches}
        with ops.portable() if "plain" in forms else contextlib.nullcontext():
            lowered = [
                trainer.train_step.function.lower(trainer.shapes, b) for b in shapes.values()
            ]
        with futures.ThreadPoolExecutor() as pool:
            compiled = list(pool.map(lambda x: x.compile(), lowered))
        self._programs = dict(zip(shapes, compiled))
        self.steps(shapes.values())

    def steps(self, batches) -> float:
        """One step on each batch; returns the last loss."""
        for batch in batches:
            program = self._programs[batch["audio"].shape]
            self._state, metrics = program(self._state, batch)
        return float(metrics["loss"])

    def peak(self) -> float | None:
        """GiB that were in use at once; None on CPUs."""
        stats = jax.devices()[0].memory_stats()
        return stats and stats["peak_bytes_in_use"] / common.GIB


class TorchSide:
    """The same in PyTorch; methods as `JaxSide`'s."""

    def __init__(self, trainer, params, batches, forms):
        import torch

        from benchmarks import torch_mmer

        torch.manual_seed(0)
        self._torch, self._losses = torch, torch_mmer.losses
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        model = torch_mmer.TorchMMER.like(trainer.model, params).to(self._device).train()
        model.text_encoder.eval()
        options = trainer.config.optimizer
        self._optimizer = torch_mmer.adamw(model, options, fused=self._device == "cuda")
        self._clip_norm, self._parameters = options.clip_norm, list(model.parameters())
        dynamic = len({b["audio"].shape for b in batches}) > 1
        compiled = "eager" not in forms
        self._model = torch.compile(model, dynamic=dynamic or None) if compiled else model
        self.batches = [
            {k: x.to(self._device) for k, x in torch_mmer.tensors(b).items()} for b in batches
        ]
        self.steps(self.batches)

    def steps(self, batches) -> float:
        """One step on each batch; returns the last loss."""
        for batch in batches:
            self._optimizer.zero_grad()
            with self._torch.autocast(self._device, self._torch.bfloat16):
                loss = self._losses(self._model(batch), batch)["total"]
            loss.backward()
            self._torch.nn.utils.clip_grad_norm_(self._parameters, self._clip_norm)
            self._optimizer.step()
        return loss.item()

    def peak(self) -> float | None:
        """See `JaxSide`."""
        on_gpu = self._device == "cuda"
        return self._torch.cuda.max_memory_allocated() / common.GIB if on_gpu else None


SIDES = {"JAX": JaxSide, "PyTorch": TorchSide}


def serve(case: str, flags) -> None:
    """A side's process: writes a line when it has compiled, and one for each line that it reads."""
    size, seconds, rows, *forms = case.split("-")
    encoders = common.tiny_encoders() if flags.tiny else ENCODERS[size]()
    trainer = _trainer(encoders, forms)
    batches, utterances = _batches(seconds, int(rows), flags, encoders[1].vocab_size)
    begun = time.perf_counter()
    params = common.drawn_params(trainer.model, seed=0, most=2**20)
    side = SIDES[flags.side](trainer, params, batches, forms)
    mix = seconds == "mix"
    found = {"compiling_s": time.perf_counter() - begun, "peak_gib": side.peak()}
    if flags.side == "JAX" and not mix:
        with ops.portable():  # cuDNN's attention can't be looked into
            counted = _trainer(encoders, forms).train_step.function
            found["flop"] = common.product_flops(counted, trainer.shapes, batches[0])
    print(json.dumps(found), flush=True)
    for _ in sys.stdin:
        timed = side.batches * (1 if mix else flags.steps)
        seconds_taken, loss = common.timed(side.steps, timed)
        if not np.isfinite(loss):
            raise ValueError(f"the loss is {loss}")
        found = {"s_per_step": seconds_taken / len(timed), "loss": loss, "peak_gib": side.peak()}
        found["utterances_per_s"] = utterances / len(batches) / found["s_per_step"]
        print(json.dumps(found), flush=True)


def _trainer(encoders, forms):
    config = configuration.default()
    config.model.dtype = "bfloat16"
    config.model.scan_layers = "no" if "loop" in forms else "yes"
    config.audio.attention_dropout = -1.0 if "dropout" in forms else 0.0
    encoders[0].attention_dropout = 0.1 if "dropout" in forms else 0.0
    return common.make_trainer(encoders, config)


def _batches(seconds, rows, flags, vocabulary):
    """Batches of a side, and how many utterances they have."""
    if seconds != "mix":
        same, rng = [float(seconds)] * rows, np.random.default_rng(0)
        return [common.make_batch(same, same, vocabulary, rng)], rows
    count, buckets = flags.utterances // rows * rows, flags.buckets if flags.side == "JAX" else None
    return common.mix_batches(count, rows, vocabulary, buckets), count


class Process:
    """A side's process, as the parent sees it."""

    def __init__(self, case, side, argv):
        command = [sys.executable, "-m", "benchmarks.accelerator", *argv, "--cases", case]
        self._process = subprocess.Popen(
            [*command, "--side", side], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            cwd=common.ROOT,
        )  # fmt: skip

    def answer(self) -> dict:
        """What the process writes next.

        Raises:
          RuntimeError: it ended; what went wrong it has printed itself.
        """
        for line in self._process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise RuntimeError(f"it ended with {self._process.wait()}")

    def round(self) -> dict:
        """Asks for a turn."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self.answer()

    def close(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.wait()


def measure(case: str, flags, argv) -> dict:
    """What both sides of a case take, by side."""
    forms = {*case.split("-")[3:]}
    if forms - FORMS:
        raise SystemExit(f"{case}: there is no {', '.join(forms - FORMS)}; see --help")
    names = ["JAX"] if forms & {"loop", "plain"} else list(SIDES)
    sides, found = {name: Process(case, name, argv) for name in names}, {}
    try:
        for name, side in list(sides.items()):
            try:
                found[name] = side.answer()
            except RuntimeError as error:
                found[name] = {"failed": str(error)}
                del sides[name]
                side.close()
        turns = {name: [] for name in sides}
        for k in range(flags.rounds):
            for name in list(sides) if k % 2 == 0 else reversed(list(sides)):
                turns[name].append(sides[name].round())
    finally:
        for side in sides.values():
            side.close()
    for name, rounds in turns.items():
        found[name] |= rounds[-1] | {"rounds_s": [x["s_per_step"] for x in rounds]}
        for key in ("s_per_step", "utterances_per_s"):
            found[name][key] = float(np.median([x[key] for x in rounds]))
        trained = UTTERANCES * (FOLDS - 1) * EPOCHS
        found[name]["hours"] = trained / found[name]["utterances_per_s"] / 3600
    return found


def table(found: dict, rate: float, device: str) -> str:
    """A row per case and side."""
    peak = next((x for name, x in PEAK.items() if name in device), None)
    rows = []
    for case, sides in found.items():
        flop = sides.get("JAX", {}).get("flop")
        for name, x in sides.items():
            if "s_per_step" not in x:
                rows.append([case, name, "failed", *[""] * 7])
                continue
            used = flop / x["s_per_step"] if flop else 0
            by_round = ", ".join(f"{1000 * s:.4g}" for s in x["rounds_s"])
            rows.append([
                case, name, f"{1000 * x['s_per_step']:.4g}", by_round, x["utterances_per_s"],
                f"{used / rate:.0%}" if flop else "", f"{used / peak:.0%}" if flop and peak else "",
                "" if x["peak_gib"] is None else x["peak_gib"], x["compiling_s"], x["hours"],
            ])  # fmt: skip
    header = ["case", "side", "ms / step", "by round", "utterances / s", "of the matmul rate",
              "MFU", "peak GiB", "compiling, s", "hours of 5 x 100 epochs"]  # fmt: skip
    return common.table(header, rows)


def main(argv=None) -> None:
    """Prints the table and writes accelerator.json, after every case anew."""
    argv = sys.argv[1:] if argv is None else argv
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the sides share the memory
    parser = common.parser(__doc__)
    parser.add_argument("--cases", default=CASES, help=f"default: {CASES}")
    parser.add_argument("--rounds", type=int, default=4, help="turns of each side")
    parser.add_argument("--steps", type=int, default=10, help="timed steps of a turn")
    parser.add_argument("--utterances", type=int, default=1024, help="of the mix")
    parser.add_argument("--buckets", type=int, default=6, help="of the mix, JAX")
    parser.add_argument("--side", choices=SIDES, help="is this one's process")
    flags = parser.parse_args(argv)
    if flags.side:
        return serve(flags.cases, flags)
    rate = common.matmul_rate(256 if flags.tiny else MATMUL, dtype="bfloat16")
    found, device = {}, jax.devices()[0].device_kind
    for case in flags.cases.split(","):
        found[case] = measure(case, flags, argv)
        text = f"{table(found, rate, device)}\n\nMatrix products: {rate / 1e12:.0f} TFLOP/s."
        common.report(flags, "accelerator", {"matmul": rate, "cases": found}, text)


if __name__ == "__main__":
    main()
