"""How a train step's time grows: `python -m benchmarks.scaling`.

With devices: the same global batch on 1, 2, 4 and 8 of them, split as data, as fsdp, and as a mix
of data, fsdp and model. Where there is no accelerator the devices are forced ones: parts of the
same processor, which can show what partitioning costs and no speed-up at all. Each count of
devices has a process of its own, in which one device takes turns with the meshes: what else the
machine does weighs on both.

With the work: batch, effective batch in chunks of 8, length of the audio, size of the memory of
past embeddings. Repeated steps of the cases of a series alternate; medians are reported.

The model is the demo's with wav2vec2 (width 64, two layers); `--base` takes wav2vec2-base and
RoBERTa-base, both with `benchmarks/memory.py`'s frozen parts and its random weights.
"""

import argparse
import functools
import json
import os
import pathlib
import signal
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import machine
from benchmarks.memory import CHUNK, Step, base_step, batch_shapes, child, make_batch, mesh_of
from benchmarks.memory import tiny_step as smallest_step
from configs import demo
from mmer_jax import configuration
from mmer_jax.losses import memory_bank
from mmer_jax.losses import total as multitask

VOCABULARY = 60
# What each series changes, beside how its axis is called.
SERIES = {
    "rows": "batch, utterances",
    "chunked": f"effective batch, in chunks of {CHUNK}",
    "seconds": "length of the audio, s",
    "negatives": "past utterances in memory",
    "losses": "past utterances, losses alone",
}
WIDTH = 768  # of the embeddings in the series `losses`: the paper's, whatever the model


def meshes(count: int) -> dict:
    """Name -> axes of the ways to use `count` devices that are measured."""
    found = {"data": {"data": count}}
    if count > 1:
        found["fsdp"] = {"fsdp": count}
    if count >= 4:
        found["data x fsdp x model"] = {"data": count // 4, "fsdp": 2, "model": 2}
    return found


def build(size: str, mesh, change=lambda config: None) -> Step:
    """The train step of a model of `size`: `tiny`, `small` or `base`."""
    if size != "small":
        return {"tiny": smallest_step, "base": base_step}[size](mesh, change)
    config = demo.get_config("wav2vec2")
    change(config)
    return Step(config, VOCABULARY, mesh)


class Runner:
    """A step, its state and its batch: each call is one step."""

    def __init__(self, built: Step, rows: int, seconds: float):
        self.jitted = built.jitted
        self.state, self.batch = built.first_state(), built.first_batch(rows, seconds)
        self()  # compiles

    def __call__(self) -> tuple[float, float]:
        """One step; returns its seconds and the processor's, all cores added up.

        Raises:
          ValueError: the loss is not finite.
        """
        worked = time.process_time()
        seconds, (self.state, metrics) = machine.timed(self.jitted, self.state, self.batch)
        worked = time.process_time() - worked
        if not np.isfinite(metrics["loss"]):
            raise ValueError(f"the loss is {metrics['loss']}")
        return seconds, worked


class Losses:
    """The losses between rows, their gradient and the memory's renewal, without a network."""

    def __init__(self, rows: int, past: int):
        losses = configuration.default().losses
        shapes = batch_shapes(rows, 0.5)
        self.batch = make_batch(shapes, VOCABULARY)
        rng = np.random.default_rng(0)
        self.z = {
            name: jnp.asarray(rng.standard_normal((rows, WIDTH), np.float32))
            for name in multitask.EMBEDDINGS
        }

        def step(past, z, batch):
            def loss(z):
                return multitask.weighted(multitask.pair_losses(z, batch, losses, past), losses)

            value, gradient = jax.value_and_grad(loss)(z)
            return memory_bank.push(past, z, batch), (value, gradient)

        self.jitted = jax.jit(step, donate_argnums=0)
        self.past = memory_bank.create(past, WIDTH)
        self()

    def __call__(self) -> tuple[float, float]:
        """As `Runner`'s."""
        worked = time.process_time()
        seconds, (self.past, _) = machine.timed(self.jitted, self.past, self.z, self.batch)
        return seconds, time.process_time() - worked


def alternate(runners: dict, repeats: int) -> dict:
    """Medians of the seconds and processor seconds of each, one step of each in turn."""
    times = {name: [] for name in runners}
    for _ in range(repeats):
        for name, runner in runners.items():
            times[name].append(runner())
    return {
        name: {
            "seconds": float(np.median([x[0] for x in taken])),
            "cpu_seconds": float(np.median([x[1] for x in taken])),
            "times": [x[0] for x in taken],
        }
        for name, taken in times.items()
    }


def on_devices(case: dict) -> dict:
    """Step times of one device and of the meshes over `count` devices: a child's work.

    Args:
      case: `count`, `size`, `rows`, `seconds`, `repeats`.

    Returns:
      `forced`, whether they are parts of a processor; `taken`, see `alternate`, None where there
      are fewer devices.
    """
    devices = jax.devices()[: case["count"]]
    forced = devices[0].platform == "cpu"
    if len(devices) < case["count"]:
        return {"forced": forced, "taken": None}
    work = (case["rows"], case["seconds"])
    runners = {"one device": Runner(build(case["size"], mesh_of(devices[:1])), *work)}
    for name, axes in meshes(case["count"]).items() if case["count"] > 1 else ():
        runners[name] = Runner(build(case["size"], mesh_of(devices, **axes)), *work)
    return {"forced": forced, "taken": alternate(runners, case["repeats"])}


def growth(case: dict) -> dict:
    """Step times by series and value: a child's work.

    Args:
      case: `series` (name -> values), `size`, `rows`, `seconds`, `repeats`.
    """
    make = functools.cache(_member)  # series meet: batch 8 is in most of them
    found = {}
    for name, values in case["series"].items():
        members = {str(v): make(case["size"], *_program(case, name, v)) for v in values}
        found[name] = alternate(members, case["repeats"])
    return found


def _program(case, series, value):
    """Rows, seconds, chunk size and memory size of a member; seconds None: losses alone."""
    rows = value if series in ("rows", "chunked") else case["rows"]
    seconds = {"seconds": value, "losses": None}.get(series, case["seconds"])
    chunk = CHUNK if series == "chunked" and rows > CHUNK else 0
    return rows, seconds, chunk, value if series in ("negatives", "losses") else 0


def _member(size, rows, seconds, chunk, past):
    if seconds is None:
        return Losses(rows, past)

    def change(config):
        config.train.chunk_size = chunk
        config.losses.memory.size, config.losses.memory.start = past, 0.0

    return Runner(build(size, mesh_of(jax.devices()[:1]), change), rows, seconds)


def measure(options) -> dict:
    """Every case that the flags ask for, as plain values by name."""
    size = "tiny" if options.tiny else "base" if options.base else "small"
    common = {"size": size, "seconds": options.seconds, "repeats": options.repeats}
    series = {
        "rows": options.batches,
        "chunked": options.batches,
        "seconds": options.lengths,
        "negatives": options.negatives,
        "losses": options.negatives,
    }
    total = len(options.devices) + len(series)
    found = {"size": size, "seed": 0, "devices": {}, "growth": {}}
    for i, count in enumerate(options.devices):
        machine.progress(f"{i + 1} of {total}: {count} devices")
        # A flag of the CPU alone: accelerators come in the number that they are.
        flags = f"--xla_force_host_platform_device_count={count}"
        case = common | {"count": count, "rows": options.rows}
        measured = child("benchmarks.scaling", case, flags)
        found["forced"] = measured["forced"]
        if measured["taken"]:
            found["devices"][count] = measured["taken"]
    names = list(series)
    # With small sizes starting a process is all that takes time.
    for group in [names] if options.tiny else [[name] for name in names]:
        done = len(options.devices) + names.index(group[0])
        machine.progress(f"{done + 1} of {total}: {', '.join(SERIES[n] for n in group)}")
        case = common | {"series": {n: series[n] for n in group}, "rows": options.batches[0]}
        found["growth"] |= child("benchmarks.scaling", case)
    machine.progress("")
    return found


def shares(found: dict) -> list[tuple]:
    """(devices, mesh, seconds, processor seconds, seconds of one device, share of ideal).

    Ideal is the time of one device divided by their number; of forced devices, which share one
    processor, the time of one device itself.
    """
    rows = []
    for count, taken in found["devices"].items():
        one = taken["one device"]["seconds"]
        ideal = one if found["forced"] else one / int(count)
        for name, x in taken.items():
            if name != "one device" or int(count) == 1:
                rows.append((int(count), name, x["seconds"], x["cpu_seconds"], one,
                             ideal / x["seconds"]))  # fmt: skip
    return rows


def report(found: dict, options) -> str:
    """The tables of what `measure` found."""
    header = ["devices", "mesh", "s / step", "processor s / step", "one device, s / step",
              "share of ideal"]  # fmt: skip
    rows = [[*row[:5], f"{row[5]:.0%}"] for row in shares(found)]
    title = f"Global batch {options.rows} x {options.seconds:g} s, {found['size']} model"
    parts = [f"{title}\n\n{machine.table(header, rows)}"]
    if found["forced"]:
        parts.append(
            "These devices are forced ones, parts of one processor: ideal is the time of one "
            "device, and what is short of it is the cost of partitioning. Nothing here is a "
            "speed-up, nor a forecast of one."
        )
    for name, taken in found["growth"].items():
        least = next(iter(taken.values()))
        rows = [
            [v, x["seconds"], x["cpu_seconds"], x["seconds"] / least["seconds"]]
            for v, x in taken.items()
        ]
        header = [SERIES[name], "s / step", "processor s / step", "times the first"]
        parts.append(machine.table(header, rows))
    note = f"Medians of {options.repeats} alternating steps. Batch {options.batches[0]} and "
    return "\n\n".join([*parts, f"{note}{options.seconds:g} s where a row says nothing else."])


def figure(found: dict, options, path: pathlib.Path) -> None:
    """A panel per series and one for devices, as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    fig, axes = plt.subplots(2, 3, figsize=(11, 6.4), layout="constrained")
    _devices_panel(axes.flat[0], found)
    for ax, (name, taken) in zip(axes.flat[1:], found["growth"].items()):
        values, milliseconds = zip(*((float(v), 1e3 * x["seconds"]) for v, x in taken.items()))
        if name in ("negatives", "losses"):
            # 0 has no place on a logarithmic axis, and on a linear one the small sizes meet.
            places = range(len(values))
            ax.set_xticks(places, [f"{v / 1000:g}k" if v >= 1000 else f"{v:g}" for v in values])
        else:
            places = values
            ax.set_xticks(values, [f"{v:g}" for v in values])
            ax.set_xlim(0, 1.05 * max(values))
        ax.plot(places, milliseconds, color="#0072B2", marker="o", markersize=5)
        ax.set_xlabel(SERIES[name])
        ax.set_ylabel("ms / step")
        ax.set_ylim(0, 1.1 * max(milliseconds))
    for ax in axes.flat:
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(alpha=0.25)
    what = "forced CPU devices share one processor" if found["forced"] else "accelerators"
    fig.suptitle(f"Time of a train step, {found['size']} model; {what}", fontsize=12)
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, dpi=150)
    plt.close(fig)


def _devices_panel(ax, found):
    # Okabe and Ito's colours differ for every kind of colour vision; markers differ besides.
    looks = {"data": ("#0072B2", "o"), "fsdp": ("#D55E00", "s"),
             "data x fsdp x model": ("#009E73", "^")}  # fmt: skip
    rows = shares(found)
    first = [(n, share) for n, name, *_, share in rows if name == "one device"]
    for name, (colour, marker) in looks.items():
        points = [(n, share) for n, mesh, *_, share in rows if mesh == name]
        if points:
            if name != "data x fsdp x model":
                points = first + points
            counts, values = zip(*points)
            ax.plot(counts, [100 * v for v in values], color=colour, marker=marker, label=name)
    ax.axhline(100, color="black", linestyle="--", linewidth=1)
    counts = sorted({row[0] for row in rows})
    ax.set_xscale("log", base=2)
    ax.set_xticks(counts, [str(n) for n in counts])
    ax.set_xlabel("devices")
    ax.set_ylabel("share of ideal, %")
    ax.set_ylim(0, None)
    if ax.get_legend_handles_labels()[0]:
        ax.legend(frameon=False, fontsize=9)


def _numbers(kind):
    return lambda text: [kind(x) for x in text.split(",")]


def _options(arguments):
    parser = machine.arguments(__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--base", action="store_true", help="wav2vec2-base and RoBERTa-base")
    whole = _numbers(int)
    parser.add_argument("--devices", type=whole, help="counts; default 1,2,4,8")
    parser.add_argument("--rows", type=int, help="global batch on all of them; default 32")
    parser.add_argument("--seconds", type=float, help="of audio; default 2")
    parser.add_argument("--batches", type=whole, help="and effective batches; default 8,16,32,64")
    parser.add_argument("--lengths", type=_numbers(float), help="seconds; default 1,2,4,8")
    parser.add_argument("--negatives", type=whole, help="memory sizes; default 0,1k,16k,64k")
    parser.add_argument("--repeats", type=int, help="steps of each case; default 7")
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    usual = {"devices": [1, 2, 4, 8], "rows": 32, "seconds": 2.0, "batches": [8, 16, 32, 64],
             "lengths": [1.0, 2.0, 4.0, 8.0], "negatives": [0, 1024, 16384, 65536],
             "repeats": 7}  # fmt: skip
    tiny = {"devices": [1, 2], "rows": 4, "seconds": 0.5, "batches": [8, 16],
            "lengths": [0.5], "negatives": [0, 64], "repeats": 2}  # fmt: skip
    for name, value in (tiny if options.tiny else usual).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    if any(options.rows % n for n in options.devices):
        parser.error("--rows must be a multiple of every count in --devices")
    if any(n % CHUNK for n in options.batches):
        parser.error(f"--batches takes multiples of {CHUNK}")
    return options


def _work(case):
    """What a child prints."""
    return growth(case) if "series" in case else on_devices(case)


def main(arguments=None) -> int:
    """The command: prints the tables, writes scaling.json and scaling.png."""
    options = _options(arguments)
    if options.child:
        print(json.dumps(_work(options.child)))
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
    path = machine.write_json(options.out, "scaling", {"flags": flags} | found)
    figure(found, options, path.with_suffix(".png"))
    print(f"\nWritten: {path}, {path.with_suffix('.png')}")
    return 0


if __name__ == "__main__":
    os.environ.setdefault("USE_TF", "0")
    # A polite kill ends as Ctrl-C does: with the child.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
