"""Train steps on a GPU against PyTorch, in bfloat16: `python -m benchmarks.accelerator`.

A step is that of a run: both views, all losses, dropout, gradients, clipping, AdamW; convolutions
and text encoder frozen, random weights. PyTorch has autocast to bfloat16, fused attention (SDPA),
fused AdamW and `torch.compile`; JAX has `config.model.dtype="bfloat16"`. Batches lie on the device
already, and both sides take turns in one process. `--tiny` shows that it runs, on CPUs too.

A case is ENCODERS-SECONDS-BATCH, with `mix` for seconds IEMOCAP's lengths: JAX in length buckets,
PyTorch in random batches padded to their longest. Names of what JAX does otherwise may follow:

  loop     the layers one after the other in the program, not a loop over them
  plain    attention without cuDNN
  dropout  attention weights are dropped too, on both sides
"""

import contextlib
import os
import sys
import time
from concurrent import futures

import jax
import numpy as np

from benchmarks import common
from mmer_jax import configuration, ops
from mmer_jax.data import bucketing
from mmer_jax.training import sharding

CASES = "base-5-32,large-10-16,large-10-16-loop,large-10-16-plain,large-10-16-dropout,base-mix-32"
ENCODERS = {"base": common.base_encoders, "large": common.large_encoders}
UTTERANCES, EPOCHS, FOLDS = 5531, 100, 5  # IEMOCAP's four classes; the paper's training
PEAK = {"H100": 989e12, "H200": 989e12, "A100": 312e12}  # FLOP/s in bfloat16 by the datasheets
MATMUL = 8192


class JaxSide:
    """The step of a case, compiled.

    Attributes:
      compiling: seconds until the first step of every shape was done; JAX compiles in threads.
    """

    def __init__(self, trainer, params, batches, forms):
        self.batches = [sharding.place(b, trainer.mesh) for b in batches]
        self._state = trainer.initial_state(total_steps=10_000, params=params)
        context = ops.portable() if "plain" in forms else contextlib.nullcontext()
        begun, shapes = time.perf_counter(), {b["audio"].shape: b for b in self.batches}
        with context:
            lowered = [trainer.train_step.lower(trainer.shapes, b) for b in shapes.values()]
        with futures.ThreadPoolExecutor() as pool:
            compiled = list(pool.map(lambda x: x.compile(), lowered))
        self._programs = dict(zip(shapes, compiled))
        self.steps(shapes.values())
        self.compiling = time.perf_counter() - begun

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
    """The same in PyTorch; attributes as `JaxSide`'s."""

    def __init__(self, trainer, params, batches, compiled: bool):
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
        self._model = torch.compile(model, dynamic=dynamic or None) if compiled else model
        self.batches = [
            {k: x.to(self._device) for k, x in torch_mmer.tensors(b).items()} for b in batches
        ]
        begun = time.perf_counter()
        self.steps(self.batches if dynamic else self.batches[:1])
        self.compiling = time.perf_counter() - begun

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


def measure(case: str, flags) -> dict:
    """What a case's sides take; of one with names of forms JAX alone, its twin has the other."""
    size, seconds, rows, *forms = case.split("-")
    if {*forms} - {"loop", "plain", "dropout"}:
        raise SystemExit(f"{case}: no such form; see --help")
    encoders = common.tiny_encoders() if flags.tiny else ENCODERS[size]()
    config = configuration.default()
    config.model.dtype = "bfloat16"
    config.model.scan_layers = "no" if "loop" in forms else "yes"
    if "dropout" not in forms:
        encoders[0].attention_dropout = 0.0
    trainer, rows = common.make_trainer(encoders, config), int(rows)
    params = common.drawn_params(trainer.model, seed=0)
    vocabulary, rng = encoders[1].vocab_size, np.random.default_rng(0)
    ours, theirs, utterances = _batches(seconds, rows, flags, vocabulary, rng)
    sides = {"JAX": lambda: JaxSide(trainer, params, ours, forms)}
    if not {"loop", "plain"} & {*forms}:
        sides["PyTorch"] = lambda: TorchSide(trainer, params, theirs, not flags.eager)
    found, made = {}, {}
    for name, make in sides.items():
        made[name] = make()
        found[name] = {"compiling_s": made[name].compiling, "rounds_s": []}
        print(f"{case} {name}: compiled in {made[name].compiling:.1f} s", flush=True)
    for k in range(flags.rounds):
        for name in list(made) if k % 2 == 0 else reversed(list(made)):
            side = made[name]
            batches = side.batches * (1 if seconds == "mix" else flags.steps)
            took, loss = common.timed(side.steps, batches)
            if not np.isfinite(loss):
                raise ValueError(f"the loss of {name} is {loss}")
            found[name]["rounds_s"].append(took / len(batches))
            found[name]["loss"] = loss
    for name, side in made.items():
        step = float(np.median(found[name]["rounds_s"]))
        found[name] |= {"s_per_step": step, "peak_gib": side.peak()}
        found[name]["utterances_per_s"] = utterances / len(side.batches) / step
        hours = UTTERANCES * (FOLDS - 1) * EPOCHS / found[name]["utterances_per_s"] / 3600
        found[name]["hours"] = hours
    if seconds != "mix":
        found["flop"] = _flops(encoders, ours[0])
    return found


def _batches(seconds, rows, flags, vocabulary, rng):
    """Batches of each side, and how many utterances they have."""
    if seconds != "mix":
        batch = common.make_batch([float(seconds)] * rows, [float(seconds)] * rows, vocabulary, rng)
        return [batch], [batch], rows
    count = flags.utterances // rows * rows
    lengths = common.draw_lengths(count, rng)
    samples, tokens, symbols = common.counts(np.maximum(*lengths))
    longest = int(common.LONGEST * common.SAMPLE_RATE)
    edges = bucketing.edges_by_count(samples, flags.buckets, longest)[-1]
    buckets = bucketing.make_buckets(edges, samples, tokens, symbols)
    plan = [(buckets[k], at) for k, at in bucketing.plan(samples, edges, rows, rng)]
    plans = plan, [(None, at) for at in rng.permutation(count).reshape(-1, rows)]
    make = lambda bucket, at: common.make_batch(  # noqa: E731
        lengths[0][at], lengths[1][at], vocabulary, rng, bucket
    )
    return *([make(*one) for one in each] for each in plans), count


def _flops(encoders, batch):
    """FLOPs of a step by XLA's count, which knows neither loops nor cuDNN's attention."""
    config = configuration.default()
    config.model.dtype, config.model.scan_layers = "bfloat16", "no"
    with ops.portable():
        trainer = common.make_trainer(encoders, config)
        return common.flops(trainer.train_step, trainer.shapes, batch)


def table(found: dict, rate: float) -> str:
    """A row per case and side."""
    peak = next((x for name, x in PEAK.items() if name in jax.devices()[0].device_kind), None)
    rows = []
    for case, sides in found.items():
        flop = sides.get("flop")
        for name in ("JAX", "PyTorch"):
            if name in sides:
                x = sides[name]
                used = flop / x["s_per_step"] if flop else 0
                share = f"{used / rate:.0%}" if flop else ""
                mfu = f"{used / peak:.0%}" if flop and peak else ""
                memory = "" if x["peak_gib"] is None else x["peak_gib"]
                rows.append([case, name, 1000 * x["s_per_step"], x["utterances_per_s"], share,
                             mfu, memory, x["compiling_s"], x["hours"]])  # fmt: skip
    header = ["case", "side", "ms / step", "utterances / s", "of the matmul rate", "MFU",
              "peak GiB so far", "compiling, s", "hours of 5 x 100 epochs"]  # fmt: skip
    return common.table(header, rows)


def main(argv=None) -> None:
    """Prints the table and writes accelerator.json, after every case anew."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch needs its share
    parser = common.parser(__doc__)
    parser.add_argument("--cases", default=CASES, help=f"default: {CASES}")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each side")
    parser.add_argument("--steps", type=int, default=10, help="timed steps of a turn")
    parser.add_argument("--utterances", type=int, default=1024, help="of the mix")
    parser.add_argument("--buckets", type=int, default=6, help="of the mix, JAX")
    parser.add_argument("--eager", action="store_true", help="PyTorch without torch.compile")
    flags = parser.parse_args(argv)
    rate = common.matmul_rate(256 if flags.tiny else MATMUL, dtype="bfloat16")
    found = {}
    for case in flags.cases.split(","):
        try:
            found[case] = measure(case, flags)
        except Exception as error:  # one case that fails costs no other's time on a lent device
            print(f"{case} failed: {type(error).__name__}: {error}"[:2000], file=sys.stderr)
            found[case] = {"failed": str(error)}
        text = f"{table(found, rate)}\n\nMatrix products in bfloat16: {rate / 1e12:.0f} TFLOP/s."
        common.report(flags, "accelerator", {"matmul": rate, "cases": found}, text)


if __name__ == "__main__":
    main()
