"""Padding and speed of the input pipeline: `python -m benchmarks.input_pipeline`.

Padding is the share of the samples fed in a pass that are no utterance's, both views counted, fill
rows too. Beside it stands the published loader: random batches of the same size, each view padded
to the batch's longest. IEMOCAP's lengths are a log-normal law with its published mean and median
(its 95th percentile comes out at 11.2 s; measured are 11.06 s), and a second view of 90 to 110 % of
the first; the demo corpus' second view is what is prepared. Speed is measured on the demo corpus.
"""

import dataclasses
import math
import os
import pathlib
import sys
import time
from statistics import NormalDist

import jax
import numpy as np

from benchmarks import machine
from mmer_jax.data import bucketing, folds, loader
from mmer_jax.data.corpus import Corpus
from mmer_jax.data.preprocessing import SAMPLE_RATE, Preprocessor
from mmer_jax.errors import UserError
from mmer_jax.training import sharding

COUNTS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32)
LONGEST = 210_000  # samples, 13.125 s
MAX_PADDING = 0.10
UTTERANCES, MEAN, MEDIAN = 5531, 4.55, 3.58  # IEMOCAP's four classes, seconds
TRAINED = 0.7  # of a corpus: four sessions of five, less the held-out dialogs
HELDOUT = 0.12
BATCH = 16  # of the demo corpus
THREADS = (1, 2, 4, 8)
STEPS_MS = (2, 5, 10, 20, 50, 100)


@dataclasses.dataclass(frozen=True)
class Mix:
    """Lengths of both views, int [n, 2], of a corpus and of parts of it that are trained on.

    `edges` are the best for 1, 2, ... buckets, chosen on the corpus.
    """

    name: str
    batch_size: int
    lengths: np.ndarray
    parts: tuple[np.ndarray, ...]
    edges: list[tuple[int, ...]]


def iemocap_mix(batch_size: int, count: int = UTTERANCES) -> Mix:
    """`count` utterances of IEMOCAP's lengths, and a random share of them to train on."""
    rng = np.random.default_rng(0)
    sigma = math.sqrt(2 * math.log(MEAN / MEDIAN))
    normal = NormalDist(math.log(MEDIAN), sigma)
    first = np.exp([normal.inv_cdf((i + 0.5) / count) for i in range(count)])
    views = np.stack([first, first * rng.uniform(0.9, 1.1, count)], 1) * SAMPLE_RATE
    lengths = np.minimum(views, LONGEST).astype(np.int64)
    part = lengths[rng.permutation(count)[: round(TRAINED * count)]]
    edges = bucketing.edges_by_count(lengths.max(1), bucketing.MOST, LONGEST)
    return Mix(f"IEMOCAP's lengths, batch {batch_size}", batch_size, lengths, (part,), edges)


def demo_mix(collator, batch_size: int) -> Mix:
    """The prepared corpus, and each fold's own training part where there are five sessions."""
    utterances = collator.corpus.utterances
    parts = [folds.split(utterances, folds.Fold(k), "heldout", HELDOUT, 0) for k in range(1, 6)]

    views = collator.view_lengths
    trained = tuple(views(p.train) for p in parts)
    lengths, weights = collator.bucket_lengths()
    edges = bucketing.edges_by_count(lengths, bucketing.MOST, LONGEST, weights=weights)
    return Mix(f"demo corpus, batch {batch_size}", batch_size, views(utterances), trained, edges)


def published_padding(lengths, batch_size: int, passes: int = 20) -> float:
    """Mean share of padding of random batches, each view padded to its longest: int [n, v]."""
    fed, rng = 0, np.random.default_rng(0)
    for _ in range(passes):
        order = rng.permutation(len(lengths))
        for start in range(0, len(order), batch_size):
            rows = lengths[order[start : start + batch_size]]
            fed += len(rows) * int(rows.max(0).sum())
    return 1 - passes * int(lengths.sum()) / fed


def padding(mix: Mix, counts=COUNTS) -> dict:
    """Shares of padding by number of buckets, of the whole and of each part, and what is chosen.

    `floor` is what stays however many buckets there are: the shorter view of each utterance is
    padded to the longer one.
    """

    def shares(lengths):
        return {
            n: bucketing.padding_share(lengths, mix.edges[n - 1], mix.batch_size)
            for n in counts
            if n <= len(mix.edges)
        }

    choices = {
        name: bucketing.choose(mix.edges, parts, mix.batch_size, MAX_PADDING)
        for name, parts in (("corpus", [mix.lengths]), ("parts", mix.parts))
    }
    return {
        "name": mix.name,
        "floor": 1 - mix.lengths.sum() / (2 * mix.lengths.max(1).sum()),
        "published": published_padding(mix.lengths, mix.batch_size),
        "corpus": shares(mix.lengths),
        "parts": [shares(part) for part in mix.parts],
        "chosen": {
            name: {"buckets": len(c.edges), "padding": c.padding, "reached": c.reached}
            for name, c in choices.items()
        },
    }


def padding_table(results) -> str:
    """Per cent by number of buckets: of the corpus and, after the stroke, of the worst part."""
    header = ["buckets", *(r["name"] for r in results)]
    counts = [n for n in COUNTS if n in results[0]["corpus"]]
    rows = [
        [str(n), *(f"{_cent(r['corpus'].get(n))} / {_cent(_worst(r, n))}" for r in results)]
        for n in counts
    ]
    rows.append(["published loader", *(_cent(r["published"]) for r in results)])
    rows.append(["no buckets help below", *(_cent(r["floor"]) for r in results)])
    rows.append([f"chosen for {100 * MAX_PADDING:.0f} %", *(_chosen(r["chosen"]) for r in results)])
    return machine.table(header, rows)


def _worst(result, count):
    return max((part.get(count, math.nan) for part in result["parts"]), default=None)


def _cent(share):
    return "-" if share is None else f"{100 * share:.1f}"


def _chosen(choices):
    marks = {True: "", False: " (out of reach)"}
    return " / ".join(
        f"{c['buckets']}: {_cent(c['padding'])}{marks[c['reached']]}" for c in choices.values()
    )


def throughput(collator, batch_size: int, threads: int, prefetch: int, passes: int) -> dict:
    """Utterances and hours of audio (both views) that leave the loader in a second."""
    utterances = collator.corpus.utterances
    batches = loader.TrainBatches(collator, utterances, batch_size, passes, 0)
    hours = sum(sum(collator.lengths(u, (0, 0))) for u in utterances) / SAMPLE_RATE / 3600
    began = time.perf_counter()
    iterator = loader.background(batches, threads, prefetch)
    for _ in iterator:
        pass
    seconds = time.perf_counter() - began
    iterator.close()
    return {
        "threads": threads,
        "utterances_per_second": passes * len(utterances) / seconds,
        "audio_hours_per_second": passes * hours / seconds,
    }


def placing(collator, batch_size: int, mesh, repeats: int = 20) -> dict:
    """Median milliseconds to move a batch of each of the smallest and the largest bucket."""
    found = {}
    for name, bucket in (("smallest", collator.buckets[0]), ("largest", collator.buckets[-1])):
        fitting = [
            u
            for u in collator.corpus.utterances
            if max(collator.lengths(u, (0, 0))) <= bucket.samples
        ]
        batch = collator.batch((fitting * batch_size)[:batch_size], bucket, (0, 0), True)
        times = [machine.timed(sharding.place, batch, mesh)[0] for _ in range(repeats)]
        size = sum(value.nbytes for value in batch.values())
        found[name] = {"ms": 1000 * float(np.median(times)), "mib": size / 2**20}
    return found


def waiting(collator, batch_size, mesh, step_ms, threads, prefetch, steps) -> dict:
    """Share of a loop's time that it waits for batches, its step doing nothing for `step_ms`.

    From the second step on: the first waits for the loader to fill.
    """
    epochs = -(-steps // -(-len(collator.corpus.utterances) // batch_size))
    batches = loader.TrainBatches(collator, collator.corpus.utterances, batch_size, epochs, 0)
    place = lambda batch: sharding.place(batch, mesh)  # noqa: E731
    with loader.device_iterator(batches, place, threads, prefetch) as iterator:
        jax.block_until_ready(next(iterator))
        first, began = iterator.waited, time.perf_counter()
        for _ in range(steps - 1):
            time.sleep(step_ms / 1000)
            jax.block_until_ready(next(iterator))
        seconds = time.perf_counter() - began
    return {"step_ms": step_ms, "waiting": (iterator.waited - first) / seconds}


def figure(results, path: pathlib.Path) -> None:
    """Padding against the number of buckets, a line per corpus, as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    # Okabe and Ito's colours differ for every kind of colour vision; markers differ besides.
    looks = (("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"))
    fig, ax = plt.subplots(figsize=(7.5, 4.8), layout="constrained")
    for result, (colour, marker) in zip(results, looks):
        counts = sorted(result["corpus"])
        shares = [100 * result["corpus"][n] for n in counts]
        ax.plot(counts, shares, color=colour, marker=marker, markersize=5, label=result["name"])
        ax.axhline(100 * result["published"], color=colour, linestyle="--", linewidth=1.2)
        ax.annotate(
            f"published loader: {100 * result['published']:.0f} %",
            (counts[-1], 100 * result["published"]), xytext=(0, 3), textcoords="offset points",
            color=colour, ha="right", fontsize=9,
        )  # fmt: skip
    ax.axhline(100 * MAX_PADDING, color="black", linestyle=":", linewidth=1.2)
    ax.annotate(
        f"data.max_padding: {100 * MAX_PADDING:.0f} %", (1, 100 * MAX_PADDING), xytext=(0, -12),
        textcoords="offset points", fontsize=9,
    )  # fmt: skip
    ax.set_xlabel("number of buckets (each is one compilation)")
    ax.set_ylabel("padding, % of the samples fed")
    ax.set_ylim(0, None)
    ax.set_title("Padding of length buckets, both views counted")
    ax.legend(frameon=False, loc="upper right", bbox_to_anchor=(1, 0.78))
    ax.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, dpi=150)
    plt.close(fig)


def measure(data_dir: str, buckets: int, threads: int, prefetch: int, tiny: bool) -> dict:
    """Everything, as plain values by name."""
    corpus = Corpus(data_dir)
    collator = loader.Collator(corpus, Preprocessor(None, LONGEST, False), True, buckets, BATCH)
    mixes = [demo_mix(collator, BATCH)]
    mixes += [iemocap_mix(size, 400 if tiny else UTTERANCES) for size in (8, 32)]
    found = {"buckets": len(collator.edges), "padding": []}
    for mix in mixes:
        machine.progress(f"padding: {mix.name}")
        found["padding"].append(padding(mix))
    found["throughput"] = []
    for count in THREADS[:2] if tiny else THREADS:
        machine.progress(f"throughput: {count} threads")
        measured = throughput(collator, BATCH, count, prefetch, 1 if tiny else 5)
        found["throughput"].append(measured)
    machine.progress("placing")
    mesh = sharding.make_mesh()
    # A number of rows that the devices can share.
    rows = BATCH * jax.device_count()
    found["placing"] = placing(collator, rows, mesh, 2 if tiny else 20)
    found["waiting"] = []
    for step_ms in STEPS_MS[:2] if tiny else STEPS_MS:
        machine.progress(f"waiting: steps of {step_ms} ms")
        steps = 5 if tiny else 200
        measured = waiting(collator, rows, mesh, step_ms, threads, prefetch, steps)
        found["waiting"].append(measured)
    machine.progress("")
    return found


def report(found: dict) -> str:
    """The tables of what `measure` found."""
    speed = [
        [x["threads"], x["utterances_per_second"], x["audio_hours_per_second"]]
        for x in found["throughput"]
    ]
    moved = [[name, x["mib"], x["ms"]] for name, x in found["placing"].items()]
    waits = [[x["step_ms"], 100 * x["waiting"]] for x in found["waiting"]]
    tables = (
        ("Padding, % of the samples fed: whole corpus / worst training part",
         padding_table(found["padding"])),
        (f"Loader, demo corpus, batch {BATCH}, {found['buckets']} buckets, both views",
         machine.table(["threads", "utterances/s", "audio hours/s"], speed)),
        ("Moving a batch to the device",
         machine.table(["bucket", "MiB", "ms"], moved)),
        ("Waiting for batches, beside a step that leaves the processor free",
         machine.table(["step, ms", "waiting, % of the time"], waits)),
    )  # fmt: skip
    return "\n\n".join(f"{title}\n\n{table}" for title, table in tables)


def main(arguments=None) -> int:
    """The command: prints the tables, writes input_pipeline.json and input_pipeline.png."""
    parser = machine.arguments(__doc__)
    parser.add_argument("--data_dir", default="build/demo/tfds", help="made by `make data`")
    parser.add_argument("--buckets", type=int, default=6, help="of the speed measurements")
    parser.add_argument("--threads", type=int, default=4, help="of the measurement of waiting")
    parser.add_argument("--prefetch", type=int, default=8, help="batches loaded ahead")
    options = parser.parse_args(arguments)
    try:
        found = measure(
            options.data_dir, options.buckets, options.threads, options.prefetch, options.tiny
        )
    except UserError as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    print(report(found))
    path = machine.write_json(options.out, "input_pipeline", found)
    figure(found["padding"], path.with_suffix(".png"))
    print(f"\nWritten: {path}, {path.with_suffix('.png')}")
    return 0


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.exit(main())
