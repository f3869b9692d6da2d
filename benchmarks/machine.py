"""What a benchmark ran on and how it reports: machine, matmul rate, FLOPs, tables, progress."""

import argparse
import json
import os
import pathlib
import platform
import sys
import time
from importlib import metadata

import jax
import jax.numpy as jnp
import numpy as np

PACKAGES = ("jax", "jaxlib", "flax", "numpy", "torch", "transformers")
# Matrices of this width are far larger than any cache.
MATMUL_WIDTH = 2048


def arguments(doc: str) -> argparse.ArgumentParser:
    """A parser with the flags that every benchmark has."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--out", default="build/benchmarks", help="folder of the JSON file")
    parser.add_argument("--tiny", action="store_true", help="small sizes: does it run at all")
    return parser


def describe() -> dict:
    """Processor or GPU, cores, memory in GiB, and versions, by name."""
    device = jax.devices()[0]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    found = {
        "processor": _processor(), "cores": os.cpu_count(), "memory_gib": round(memory, 1),
        "backend": device.platform, "device": device.device_kind, "devices": jax.device_count(),
        "python": platform.python_version(),
    }  # fmt: skip
    return found | {name: _version(name) for name in PACKAGES}


def _processor():
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        return next(x.split(":", 1)[1].strip() for x in lines if x.startswith("model name"))
    except (OSError, StopIteration):  # not Linux, or a processor that names no model
        return platform.processor() or platform.machine()


def _version(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def matmul_rate(dtype="float32", width: int = MATMUL_WIDTH, repeats: int = 7) -> float:
    """FLOP/s of a square matrix product on the default device, median of `repeats`."""
    x = jnp.ones((width, width), dtype)
    product = jax.jit(jnp.matmul)
    jax.block_until_ready(product(x, x))
    return 2 * width**3 / np.median([timed(product, x, x)[0] for _ in range(repeats)])


def timed(function, *args):
    """(seconds, result) of one call whose result is waited for."""
    start = time.perf_counter()
    result = jax.block_until_ready(function(*args))
    return time.perf_counter() - start, result


def flops(jitted, *args) -> float:
    """FLOPs of one call as XLA counts them before it optimises; the body of a loop counts once."""
    return float(jitted.lower(*args).cost_analysis()["flops"])


def transformer_flops(rows: int, width: int, ffn: int, layers: int) -> float:
    """Matrix products of a forward pass, by hand: 2 per weight and position, and attention's two.

    Args:
      rows: positions t of one sequence, all of which attend to each other.
      width, ffn, layers: d, the feed-forward width, and how many layers.
    """
    return float(layers * rows * (2 * (4 * width**2 + 2 * width * ffn) + 4 * rows * width))


def progress(text: str) -> None:
    """Replaces the progress line on a terminal; silent elsewhere, so that logs stay readable."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="" if text else "", file=sys.stderr, flush=True)


def table(header, rows) -> str:
    """A Markdown table of strings and numbers."""
    line = lambda cells: "| " + " | ".join(map(_cell, cells)) + " |"  # noqa: E731
    return "\n".join([line(header), "|" + "-|" * len(header), *map(line, rows)])


def _cell(value):
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def heading(rates: dict) -> str:
    """The lines above a benchmark's table: machine, versions, matmul rates."""
    m = describe()
    versions = ", ".join(f"{name} {m[name]}" for name in ("python", *PACKAGES))
    measured = ", ".join(f"{name} {rate / 1e9:.0f} GFLOP/s" for name, rate in rates.items())
    return (
        f"Machine: {m['processor']}, {m['cores']} cores, {m['memory_gib']} GiB; "
        f"JAX on {m['devices']} x {m['device']} ({m['backend']})\n"
        f"Versions: {versions}\nMatrix product, measured: {measured}\n"
    )


def rates(tiny: bool = False) -> dict:
    """Matmul FLOP/s by number format: float32, and bfloat16 where the device has units for it."""
    names = ("float32", "bfloat16") if jax.default_backend() == "gpu" else ("float32",)
    return {name: matmul_rate(name, 256 if tiny else MATMUL_WIDTH) for name in names}


def write_json(folder, name: str, results: dict) -> pathlib.Path:
    """Writes `results` and the machine to `folder/name.json`; returns the path."""
    path = pathlib.Path(folder) / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": describe()} | results, indent=2) + "\n")
    return path
