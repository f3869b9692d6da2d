"""Memory of a train step as XLA plans it: `python -m benchmarks.memory`.

The step is the one of a run: both views, all losses, gradients, clipping, AdamW, dropout on, the
state's memory given on. wav2vec2-base with frozen convolutions and a frozen RoBERTa-base, float32:
plain; with each layer computed again in the backward pass (`config.model.remat="layers"`); and in
chunks of 8 rows (`config.train.chunk_size=8`). A plan is arguments + results - what they share +
temporaries: it takes a compilation, no execution, and so covers what does not fit.
"""

import numpy as np

from benchmarks import common
from mmer_jax import configuration

CHUNK = 8
METHODS = {"plain": "plain", "remat": 'remat="layers"', "chunks": f"chunks of {CHUNK}"}


def planned(compiled) -> dict:
    """GiB that XLA plans for a compiled step, on each device."""
    memory = compiled.memory_analysis()
    parts = {
        name: getattr(memory, f"{name}_size_in_bytes") / common.GIB
        for name in ("argument", "output", "alias", "temp")
    }
    total = parts["argument"] + parts["output"] - parts["alias"] + parts["temp"]
    return parts | {"total": total}


def plan(method: str, rows: int, seconds: float, tiny: bool = False) -> dict:
    """The plan of a step on `rows` utterances of two views of `seconds` each."""
    config = configuration.default()
    config.model.remat = "layers" if method == "remat" else "none"
    config.train.chunk_size = CHUNK if method == "chunks" else 0
    encoders = common.tiny_encoders() if tiny else common.base_encoders()
    trainer, lengths = common.make_trainer(encoders, config), [seconds] * rows
    batch = common.make_batch(lengths, lengths, encoders[1].vocab_size, np.random.default_rng(0))
    return planned(trainer.train_step.function.lower(trainer.shapes, batch).compile())


def measure(batches, seconds: float, tiny: bool = False) -> dict:
    """Method -> effective batch -> plan."""
    found = {method: {} for method in METHODS}
    for method, plans in found.items():
        for rows in batches:
            common.progress(f"planning {METHODS[method]}, batch {rows}, {seconds:g} s")
            whole = method == "chunks" and rows <= CHUNK  # one chunk alone is the plain program
            plans[rows] = found["plain"][rows] if whole else plan(method, rows, seconds, tiny)
    common.progress("")
    return found


def table(found: dict) -> str:
    """A row per effective batch: GiB of each method, and how much more than its smallest batch."""
    batches = list(found["plain"])

    def cell(plans, rows):
        total = plans[rows]["total"]
        return f"{total:.3g} ({total / plans[batches[0]]['total'] - 1:+.1%})"

    rows = [[n, *(cell(plans, n) for plans in found.values())] for n in batches]
    return common.table(["effective batch", *METHODS.values()], rows)


def main(argv=None) -> None:
    """Prints the table and writes memory.json."""
    parser = common.parser(__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="of audio")
    parser.add_argument("--batches", default="8,32,256", help=f"multiples of {CHUNK}")
    flags = parser.parse_args(argv)
    batches = sorted({int(n) for n in flags.batches.split(",")})
    if any(n < 1 or n % CHUNK for n in batches):
        parser.error(f"--batches takes multiples of {CHUNK}")
    found = measure(batches, flags.seconds, flags.tiny)
    title = f"Planned by XLA, GiB, utterances of {flags.seconds:g} s, both views"
    common.report(flags, "memory", {"plans": found}, f"{title}\n\n{table(found)}")


if __name__ == "__main__":
    main()
