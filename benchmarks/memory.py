"""Peak memory of a train step: `python -m benchmarks.memory`.

The step is the one of a run: both views, all losses, gradients, clipping, AdamW, dropout on, the
state's memory given on. MMER with wav2vec2-base, its convolutions frozen, and a frozen
RoBERTa-base, float32, random weights. Plain; with each layer computed again in the backward pass
(`config.model.remat="layers"`); and in chunks of 8 rows (`config.train.chunk_size=8`).

Two measures. What XLA plans for the step: arguments + results - what they share + temporaries;
that takes a compilation, no execution, and so covers what does not fit. And what a process that
runs one step reaches: peak resident memory (Linux; all of it: interpreter, libraries, weights) or
the accelerator's own count. Each case has a process of its own, so that none inherits memory.
"""

import argparse
import ctypes
import dataclasses
import json
import math
import os
import pathlib
import signal
import subprocess
import sys
import tempfile

import jax
import numpy as np
from jax.sharding import AxisType

from benchmarks import machine
from mmer_jax import configuration
from mmer_jax.data.preprocessing import SAMPLE_RATE
from mmer_jax.losses import memory_bank
from mmer_jax.models import factory
from mmer_jax.training import sharding, state, step
from mmer_jax.training.optimizer import make_optimizer, split_frozen

GIB = 2**30
CHUNK, CLASSES, SYMBOLS = 8, 4, 32
# As configs/iemocap.py has it.
FROZEN = ("audio_encoder/feature_extractor/.*", "text_encoder/.*")
# Speech: about 3 tokens and 14 characters a second.
TOKENS_PER_SECOND, SYMBOLS_PER_SECOND = 3.2, 14
METHODS = ("plain", "remat", "chunks")
LABELS = {"plain": "plain", "remat": 'remat="layers"', "chunks": f"chunks of {CHUNK}"}
LIMIT, TARGET = 16.0, 0.15
STEPS = 10  # of the run that the step belongs to, for its schedule


@dataclasses.dataclass(frozen=True)
class Case:
    """One program to plan, and to run where that much memory may be taken.

    Attributes:
      method: one of `METHODS`.
      rows: effective batch, in utterances of two views each.
      seconds: length of both views.
      tiny: a model of one layer and width 32.
      run_limit: executes one step too if the plan is at most this many GiB.
    """

    method: str
    rows: int
    seconds: float
    tiny: bool = False
    run_limit: float = 0.0


class Step:
    """The train step of a config over a mesh, with the shapes of its state; no dataset.

    Attributes:
      jitted: (state, batch) -> (state, metrics), see `training/step.py`.
      shapes, shardings: of the state.
      mesh: of the devices.
    """

    def __init__(self, config, vocabulary: int, mesh):
        """Builds the step; computes nothing on a device."""
        self.mesh, self.vocabulary = mesh, vocabulary
        model = factory.build_model(config, CLASSES, SYMBOLS, vocabulary)
        optimizer = make_optimizer(config.optimizer)
        past = lambda: memory_bank.create(config.losses.memory.size, config.model.width)  # noqa: E731
        self._fresh = lambda trained, frozen: state.create(
            trained, frozen, optimizer, STEPS, past(), config.seed,
            (STEPS, STEPS) if config.train.accumulation > 1 else None,
        )  # fmt: skip
        self._parts = split_frozen(factory.param_shapes(model), tuple(config.optimizer.frozen))
        self.shapes = jax.eval_shape(self._fresh, *self._parts)
        self.shardings = sharding.state_shardings(self.shapes, mesh)
        self.jitted = step.make_train_step(model, optimizer, config, mesh, self.shardings)

    def first_state(self, seed: int = 0) -> state.TrainState:
        """The state on the mesh, its weights noise: neither memory nor time depends on them."""
        rng = np.random.default_rng(seed)

        def weights(keys, leaf):
            if keys[-1].key in ("scale", "weight_g"):
                return np.ones(leaf.shape, leaf.dtype)
            return 0.02 * rng.standard_normal(leaf.shape, leaf.dtype)

        made = []
        for part, places in zip(self._parts, (self.shardings.params, self.shardings.frozen)):
            made.append(
                sharding.distribute(jax.tree_util.tree_map_with_path(weights, part), places)
            )
        return jax.jit(self._fresh, out_shardings=self.shardings)(*made)

    def first_batch(self, rows: int, seconds: float, seed: int = 0) -> dict:
        """A batch of noise on the mesh, see `batch_shapes`."""
        shapes = batch_shapes(rows, seconds)
        return sharding.place(make_batch(shapes, self.vocabulary, seed), self.mesh)


def mesh_of(devices, data: int = 1, fsdp: int = 1, model: int = 1) -> jax.sharding.Mesh:
    """A mesh as `sharding.make_mesh` has it, over these devices alone."""
    shape = (data, fsdp, model)
    types = (AxisType.Auto,) * len(shape)
    return jax.make_mesh(shape, sharding.AXES, axis_types=types, devices=devices)


def batch_shapes(rows: int, seconds: float) -> dict:
    """What a training batch holds: shapes and dtypes by name, both views of equal length."""
    samples = round(seconds * SAMPLE_RATE)
    tokens, symbols = 2 + int(seconds * TOKENS_PER_SECOND), 1 + int(seconds * SYMBOLS_PER_SECOND)
    shape = lambda dtype, *more: jax.ShapeDtypeStruct((rows, *more), dtype)  # noqa: E731
    flags = {name: shape(bool) for name in ("valid", "ctc_valid", "aug_valid")}
    whole = {name: shape(np.int32) for name in ("label", "index", "transcript_length")}
    batch = flags | whole | {"transcript": shape(np.int32, symbols)}
    for view in ("", "aug_"):
        batch |= {
            f"{view}audio": shape(np.float32, samples),
            f"{view}audio_length": shape(np.int32),
            f"{view}text_ids": shape(np.int32, tokens),
            f"{view}text_mask": shape(np.int32, tokens),
        }
    return batch


def make_batch(shapes: dict, vocabulary: int, seed: int = 0) -> dict:
    """Noise of these shapes: unpadded utterances, labels in pairs, every row valid."""
    rng = np.random.default_rng(seed)
    high = {"text_ids": vocabulary, "transcript": SYMBOLS}

    def fill(name, leaf):
        kind = name.removeprefix("aug_")
        if kind in high:
            return rng.integers(3, high[kind], leaf.shape, leaf.dtype)
        if kind == "audio":
            return rng.standard_normal(leaf.shape, leaf.dtype)
        return np.ones(leaf.shape, leaf.dtype)

    batch = {name: fill(name, leaf) for name, leaf in shapes.items()}
    rows = np.arange(len(batch["label"]), dtype=np.int32)
    lengths = {f"{v}audio_length": 0 * rows + batch["audio"].shape[1] for v in ("", "aug_")}
    symbols = 0 * rows + batch["transcript"].shape[1]
    labels = rows // 2 % CLASSES
    return batch | lengths | {"label": labels, "index": rows, "transcript_length": symbols}


def base_step(mesh, change=lambda config: None) -> Step:
    """wav2vec2-base and RoBERTa-base by Hugging Face's configs, without their weights.

    Args:
      mesh: of the devices.
      change: sets further options of the config.
    """
    # The published checkpoints' config.json, as far as it departs from the class's defaults.
    from transformers import RobertaConfig, Wav2Vec2Config

    config = configuration.default()
    config.optimizer.frozen = FROZEN
    with tempfile.TemporaryDirectory() as folder:
        config.audio.pretrained, config.text.pretrained = f"{folder}/audio", f"{folder}/text"
        Wav2Vec2Config(activation_dropout=0.0).save_pretrained(config.audio.pretrained)
        text = RobertaConfig(
            vocab_size=50265, max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5
        )
        text.save_pretrained(config.text.pretrained)
        change(config)
        return Step(config, text.vocab_size, mesh)


def tiny_step(mesh, change=lambda config: None) -> Step:
    """The same kinds of encoders of one layer and width 32."""
    config = configuration.default()
    config.optimizer.frozen = FROZEN
    for size in (config.audio.size, config.text.size):
        size.width, size.layers, size.heads, size.ffn = 32, 1, 2, 48
    config.audio.conv_channels = 16
    config.model.width, config.model.heads, config.model.ffn = 32, 2, 48
    change(config)
    return Step(config, 60, mesh)


def build(case: Case, mesh) -> Step:
    """The step of a case."""

    def change(config):
        if case.method == "remat":
            config.model.remat = "layers"
        if case.method == "chunks":
            config.train.chunk_size = CHUNK

    return (tiny_step if case.tiny else base_step)(mesh, change)


def planned(compiled) -> dict:
    """GiB that XLA plans for a compiled step, on each device."""
    plan = compiled.memory_analysis()
    parts = {
        name: getattr(plan, f"{name}_size_in_bytes") / GIB
        for name in ("argument", "output", "alias", "temp")
    }
    total = parts["argument"] + parts["output"] - parts["alias"] + parts["temp"]
    return parts | {"total": total}


def examine(case: Case) -> dict:
    """Compiles a case and, where it asks for it, runs one step: the work of a child process."""
    base = _resident("VmRSS")
    mesh = mesh_of(jax.devices()[:1])
    built = build(case, mesh)
    batch = batch_shapes(case.rows, case.seconds)
    compiled = built.jitted.lower(built.shapes, batch).compile()
    found = {"plan_gib": planned(compiled)}
    fits = found["plan_gib"]["total"] <= case.run_limit
    return found | ({"run": _run(case, built, compiled, base)} if fits else {})


def _run(case, built, compiled, base):
    now, batch = built.first_state(), built.first_batch(case.rows, case.seconds)
    jax.block_until_ready((now, batch))
    before = _resident("VmHWM")
    exact = _return_freed() and _forget_peak()
    placed = _resident("VmRSS")
    seconds, (_, metrics) = machine.timed(compiled, now, batch)
    loss = float(metrics["loss"])
    if not math.isfinite(loss):
        raise ValueError(f"the loss of {case} is {loss}")
    stats = jax.devices()[0].memory_stats() or {}
    device = stats.get("peak_bytes_in_use")
    return {
        "peak_gib": _resident("VmHWM") if device is None else device / GIB,
        "measure": "resident memory" if device is None else "the device's count",
        "base_gib": base,
        "before_gib": placed,
        "peak_before_gib": before,
        "of_the_step_alone": exact or device is not None,
        "seconds": seconds,
        "loss": loss,
    }


def _resident(name):
    """GiB of a line of the process's status, None where the system has no such file."""
    try:
        lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next(int(x.split()[1]) for x in lines if x.startswith(name)) * 1024 / GIB


def _return_freed():
    """Gives the system what compiling freed and the C library keeps; False where that's unknown.

    Kept, it would hide a part of what the step takes.
    """
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):  # not glibc
        return False
    return True


def _forget_peak():
    """Sets the peak of resident memory back to what is resident; False where that can't be done.

    Compiling and initialising may have taken more than the step will.
    """
    try:
        pathlib.Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def child(module: str, case: dict, flags: str = ""):
    """What `python -m module --child CASE` prints, as JSON, run in a process of its own.

    An interrupt kills it: `subprocess.run` does on every way out.

    Args:
      module: of the benchmark.
      case: JSON values.
      flags: added to XLA_FLAGS.

    Raises:
      RuntimeError: the process failed; holds the end of what it wrote.
    """
    environment = os.environ | {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()}
    command = [sys.executable, "-m", module, "--child", json.dumps(case)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(
            f"{module} {case} ended with {done.returncode} (-9: killed, out of memory as a rule):\n"
            f"{done.stderr[-2000:]}"
        )
    return json.loads(done.stdout.splitlines()[-1])


class Cases:
    """Examines cases, each once, with a progress line.

    Attributes:
      found: Case -> what `examine` returned.
      expected: how many cases there will be, as far as is known.
    """

    def __init__(self, expected: int):
        self.found, self.expected = {}, expected

    def together(self, cases) -> None:
        """Plans several in one process: a plan does not depend on what was planned before."""
        cases = list(dict.fromkeys(_program(case) for case in cases))
        machine.progress(f"planning {len(cases)} cases")
        work = {"cases": [dataclasses.asdict(case) for case in cases]}
        self.found |= zip(cases, child("benchmarks.memory", work))

    def __call__(self, case: Case) -> dict:
        """What `examine` says of a case, in its own process."""
        case = _program(case)
        if case not in self.found:
            doing = "running" if case.run_limit else "planning"
            machine.progress(
                f"{len(self.found) + 1} of about {self.expected}: {doing} {LABELS[case.method]}, "
                f"batch {case.rows}, {case.seconds:g} s"
            )
            work = {"cases": [dataclasses.asdict(case)]}
            (self.found[case],) = child("benchmarks.memory", work)
        return self.found[case]


def _program(case):
    """The case whose program this one runs: one chunk alone is the plain one."""
    whole = case.method == "chunks" and case.rows <= CHUNK
    return dataclasses.replace(case, method="plain") if whole else case


def largest(plan, points: dict, limit: float, unit: int, tries: int = 3) -> dict:
    """The largest batch whose plan fits, by regula falsi between planned batches.

    Memory grows almost linearly with the batch, so that a few plans suffice.

    Args:
      plan: rows -> GiB.
      points: rows -> GiB of batches planned before, two at least; gets those planned here.
      limit: GiB.
      unit: the result is a multiple of it.
      tries: most plans made here.

    Returns:
      rows (0 if not even `unit` fits) and gib; `exact` tells whether `rows + unit` is known not to
      fit, or only that no larger batch was tried.
    """
    for _ in range(tries):
        fit, over = _bracket(points, limit)
        if fit is not None and over is not None and over - fit <= unit:
            break
        guess = _between(points, limit, unit, fit, over)
        if guess in points or guess < unit:
            break
        points[guess] = plan(guess)
    fit, over = _bracket(points, limit)
    known = over is not None and over - (fit or 0) <= unit
    return {"rows": fit or 0, "gib": points.get(fit), "exact": known}


def _bracket(points, limit):
    fit = max((n for n, gib in points.items() if gib <= limit), default=None)
    return fit, min((n for n, gib in points.items() if gib > limit), default=None)


def _between(points, limit, unit, fit, over):
    """Where the straight line through the two nearest points meets the limit."""
    near = sorted(points, key=lambda n: abs(points[n] - limit))[:2]
    low, high = (fit, over) if None not in (fit, over) else sorted(near)
    slope = (points[high] - points[low]) / (high - low)
    guess = int(low + (limit - points[low]) / max(slope, 1e-9)) // unit * unit
    if fit is not None:
        guess = max(guess, fit + unit)
    return min(guess, over - unit) if over is not None else min(guess, 4 * high)


def measure(options) -> dict:
    """Every case that the flags ask for, as plain values by name."""
    runs = [(m, n) for m in METHODS for n in options.run_batches if m == "chunks" or n <= CHUNK]
    cases = Cases(len(options.batches) * len(METHODS) + len(runs) + 3 * len(METHODS))
    if options.tiny:  # starting a process is all that takes time
        cases.together(Case(m, n, options.seconds, True) for m in METHODS for n in options.batches)
    table = {
        m: {n: cases(Case(m, n, options.seconds, options.tiny)) for n in options.batches}
        for m in METHODS
    }
    plans = {m: {n: x["plan_gib"] for n, x in row.items()} for m, row in table.items()}
    fitting = {}
    for method in METHODS if options.limit else ():

        def plan(rows, method=method):
            found = cases(Case(method, rows, options.seconds, options.tiny))["plan_gib"]
            plans[method][rows] = found
            return found["total"]

        points = {n: p["total"] for n, p in plans[method].items()}
        unit = CHUNK if method == "chunks" else 1
        fitting[method] = largest(plan, points, options.limit, unit)
    ran = [_try(cases, m, n, options) for m, n in runs]
    machine.progress("")
    found = {"plans": plans, "largest": fitting, "runs": [r for r in ran if r]}
    return found | {"growth": {"plan": _growth(plans), "run": _run_growth(found["runs"])}}


def _try(cases, method, rows, options):
    """A case that is run, where its plan keeps to `--run_limit`; None for a plain one's double."""
    if method == "chunks" and rows <= CHUNK:
        return None  # the plain one
    found = cases(Case(method, rows, options.run_seconds, options.tiny, options.run_limit))
    entry = {"method": method, "rows": rows, "audio_s": options.run_seconds}
    entry["plan_gib"] = found["plan_gib"]["total"]
    return entry | found.get("run", {"skipped": f"plan above --run_limit={options.run_limit:g}"})


def _growth(plans):
    """Plan of the largest batch in chunks against the plain one of a chunk's size, less 1."""
    rows = max(plans["chunks"].keys() & set(_planned_by_flag(plans)))
    return {"rows": rows, "share": _ratio(plans["chunks"][rows], plans["plain"].get(CHUNK))}


def _planned_by_flag(plans):
    # The search for the largest batch that fits adds further ones, not of interest here.
    return [n for n in plans["chunks"] if n in plans["plain"]]


def _ratio(whole, one):
    return whole["total"] / one["total"] - 1 if one else None


def _run_growth(runs):
    peaks = {(r["method"], r["rows"]): r.get("peak_gib") for r in runs}
    one = peaks.get(("plain", CHUNK))
    rows = max((n for (m, n), peak in peaks.items() if m == "chunks" and peak), default=None)
    if not one or not rows:
        return None
    return {"rows": rows, "share": peaks["chunks", rows] / one - 1}


def report(found: dict, options) -> str:
    """The tables of what `measure` found."""
    plans = found["plans"]
    rows = [
        [n, *(plans[m][n]["total"] for m in METHODS), *(plans[m][n]["temp"] for m in METHODS)]
        for n in options.batches
    ]
    names = [LABELS[m] for m in METHODS]
    header = ["effective batch", *names, *(f"{name}: temporaries" for name in names)]
    parts = [
        f"Planned by XLA, GiB, utterances of {options.seconds:g} s, both views\n\n"
        + machine.table(header, rows)
    ]
    if found["largest"]:
        fits = [[LABELS[m], _fits(x), x["gib"] or "-"] for m, x in found["largest"].items()]
        title = f"Largest effective batch within {options.limit:g} GiB, by the plan"
        parts.append(f"{title}\n\n" + machine.table(["", "utterances", "GiB"], fits))
    if found["runs"]:
        parts.append(_run_table(found["runs"]))
    parts += [_verdict(name, growth) for name, growth in found["growth"].items() if growth]
    return "\n\n".join(parts)


def _fits(x):
    return f"{x['rows']}" if x["exact"] else f"{x['rows']} or more"


def _run_table(runs):
    rows = [
        [
            LABELS[r["method"]], r["rows"], f"{r['audio_s']:g}", r["plan_gib"],
            *(_or_dash(r.get(k)) for k in ("peak_gib", "base_gib", "before_gib", "seconds")),
        ]
        for r in runs
    ]  # fmt: skip
    header = ["method", "effective batch", "audio, s", "plan", "peak", "before compiling",
              "before the step", "step, s"]  # fmt: skip
    measures = sorted({r["measure"] for r in runs if "measure" in r}) or ["nothing fitted"]
    return f"Run, GiB ({', '.join(measures)})\n\n" + machine.table(header, rows)


def _or_dash(value):
    return "-" if value is None else value


def _verdict(name, growth):
    if growth["share"] is None:
        return f"By {name}: no plain batch of {CHUNK} to compare with."
    kept = "within" if growth["share"] <= TARGET else "MISSES"
    return (
        f"By {name}: an effective batch of {growth['rows']} in chunks of {CHUNK} takes "
        f"{growth['share']:+.1%} against a plain batch of {CHUNK}: {kept} the target of "
        f"{TARGET:.0%}."
    )


def figure(found: dict, options, path: pathlib.Path) -> None:
    """Planned memory against the effective batch, a line per method, as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    # Okabe and Ito's colours differ for every kind of colour vision; markers differ besides.
    looks = dict(zip(METHODS, (("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"))))
    fig, ax = plt.subplots(figsize=(7.5, 4.8), layout="constrained")
    for method, (colour, marker) in looks.items():
        batches = sorted(n for n in found["plans"][method] if n <= max(options.batches))
        gib = [found["plans"][method][n]["total"] for n in batches]
        ax.plot(batches, gib, color=colour, marker=marker, markersize=6, label=LABELS[method])
        ax.annotate(
            f"{gib[-1]:.3g}", (batches[-1], gib[-1]), xytext=(6, -3), textcoords="offset points",
            color=colour, fontsize=9,
        )  # fmt: skip
    if options.limit:
        ax.axhline(options.limit, color="black", linestyle="--", linewidth=1.2)
        ax.annotate(
            f"{options.limit:g} GiB", (max(options.batches), options.limit), xytext=(0, 4),
            textcoords="offset points", ha="right", fontsize=9,
        )  # fmt: skip
    ax.set_xscale("log", base=2)
    ax.set_yscale("log", base=2)
    ticks = sorted(set(options.batches))
    ax.set_xticks(ticks, [str(n) for n in ticks])
    ax.yaxis.set_major_formatter(lambda gib, _: f"{gib:.3g}")
    ax.set_xlabel("effective batch, utterances (two views each)")
    ax.set_ylabel("memory of a train step, GiB")
    model = "tiny model" if options.tiny else "wav2vec2-base + RoBERTa-base"
    ax.set_title(f"Planned by XLA for {model}, {options.seconds:g} s, float32")
    ax.legend(frameon=False)
    ax.grid(alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, dpi=150)
    plt.close(fig)


def _numbers(text):
    return sorted({int(n) for n in text.split(",") if n})


def _options(arguments):
    parser = machine.arguments(__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seconds", type=float, help="of audio, planned; default 5")
    parser.add_argument("--batches", type=_numbers, help="planned; default 8,16,...,256")
    parser.add_argument("--run_seconds", type=float, help="of audio, run; default 2")
    parser.add_argument("--run_batches", type=_numbers, help="run; default 8,32,256; '' for none")
    parser.add_argument("--run_limit", type=float, default=8.0, help="GiB of plan that may be run")
    parser.add_argument("--limit", type=float, help=f"GiB to fit in; default {LIMIT:g}; 0: none")
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    # Those of a tiny model fit no limit of gigabytes and take no time.
    usual = {"seconds": 5.0, "batches": [8, 16, 32, 64, 128, 256], "run_seconds": 2.0,
             "run_batches": [8, 32, 256], "limit": LIMIT}  # fmt: skip
    tiny = {"seconds": 1.0, "batches": [8, 32], "run_seconds": 0.5, "run_batches": [8, 16],
            "limit": 0.0}  # fmt: skip
    for name, value in (tiny if options.tiny else usual).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    bad = [n for n in (*options.batches, *options.run_batches) if n < 1 or n % CHUNK]
    if bad or not options.batches:
        parser.error(f"--batches and --run_batches take multiples of {CHUNK}")
    return options


def main(arguments=None) -> int:
    """The command: prints the tables, writes memory.json and memory.png."""
    options = _options(arguments)
    if options.child:
        print(json.dumps([examine(Case(**case)) for case in options.child["cases"]]))
        return 0
    try:
        found = measure(options)
    except KeyboardInterrupt:
        machine.progress("")
        return 130
    # The machine comes last: asking takes hold of an accelerator that the children need.
    print(machine.heading(machine.rates(options.tiny)))
    print(report(found, options))
    flags = {k: v for k, v in vars(options).items() if k != "child"}
    path = machine.write_json(options.out, "memory", {"flags": flags, "seed": 0} | found)
    figure(found, options, path.with_suffix(".png"))
    print(f"\nWritten: {path}, {path.with_suffix('.png')}")
    return 0


if __name__ == "__main__":
    os.environ.setdefault("USE_TF", "0")
    # A polite kill ends as Ctrl-C does: with the child.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
