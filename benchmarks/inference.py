"""Inference speed against PyTorch: `python -m benchmarks.inference`.

The sizes and the PyTorch model of benchmarks/train_step.py, one view, no dropout, float32.
Throughput is over IEMOCAP's lengths: Flax in length buckets, PyTorch in random batches padded to
their own longest. Latency is one utterance alone. Calls alternate, compilation apart.
"""

import os

import jax
import numpy as np
import torch

from benchmarks import machine, train_step
from mmer_jax.data import bucketing

VIEW = ("audio", "audio_length", "text_ids", "text_mask")


def one_view(batch: dict) -> dict:
    """What a batch holds besides the augmented view and the losses' targets."""
    return {name: batch[name] for name in VIEW}


def make_pair(sizes, example: dict):
    """Both models as functions of a batch that wait for their logits."""
    model = train_step.flax_model(sizes)
    params = jax.jit(model.init)(jax.random.key(0), example)["params"]
    apply = jax.jit(lambda params, batch: model.apply({"params": params}, batch)[0])
    theirs = train_step.torch_model(sizes).eval()

    def run_torch(batch):
        tensors = train_step.to_torch(batch)
        with torch.inference_mode():
            return theirs.emotion(theirs.fuse(*(tensors[name] for name in VIEW))[-1])

    return {"flax": lambda batch: apply(params, batch), "torch": run_torch}


def latency(pair, sizes, seconds: float, repeats: int) -> dict:
    """Median seconds of both for one utterance."""
    batch = one_view(train_step.make_batch([seconds], [seconds], sizes, np.random.default_rng(0)))
    return _medians(pair, {"flax": [batch], "torch": [batch]}, repeats)


def throughput(pair, sizes, batch_size, utterances, buckets, repeats) -> dict:
    """Median seconds of both for one pass over the same utterances."""
    rng = np.random.default_rng(0)
    lengths, _ = train_step.draw_lengths(utterances, rng)
    samples, tokens, symbols = train_step.counts(lengths)
    edges = bucketing.choose_edges(samples, buckets, int(train_step.LONGEST * train_step.RATE))
    shapes = bucketing.make_buckets(edges, samples, tokens, symbols)
    make = lambda rows, shape: one_view(  # noqa: E731
        train_step.make_batch(lengths[rows], lengths[rows], sizes, rng, shape)
    )
    batches = {
        "flax": [make(rows, shapes[k]) for k, rows in bucketing.plan(samples, edges, batch_size)],
        "torch": [make(rows, None) for rows in rng.permutation(utterances).reshape(-1, batch_size)],
    }
    return _medians(pair, batches, repeats)


def _medians(pair, batches, repeats):
    """Seconds for all batches of each; the first pass compiles and is not counted."""
    times = {name: [] for name in pair}
    for i in range(repeats + 1):
        machine.progress(f"pass {i} of {repeats}")
        taken = dict.fromkeys(pair, 0.0)
        for each in zip(*batches.values()):  # batch by batch in turn
            for (name, run), batch in zip(pair.items(), each):
                taken[name] += machine.timed(run, batch)[0]
        for name in pair:
            times[name].append(taken[name])
    machine.progress("")
    return {name: float(np.median(values[1:])) for name, values in times.items()}


def main(argv=None) -> dict:
    """Prints the table and writes JSON; returns the results."""
    parser = machine.arguments(__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="timed passes of each")
    parser.add_argument("--batch", type=int, default=8, help="utterances per batch")
    parser.add_argument("--utterances", type=int, default=64)
    parser.add_argument("--buckets", type=int, default=4)
    flags = parser.parse_args(argv)
    if flags.utterances % flags.batch:
        parser.error("--utterances must be a multiple of --batch: both sides see whole batches")
    sizes = train_step.TINY if flags.tiny else train_step.BASE
    torch.set_num_threads(os.cpu_count())
    rates = machine.rates(flags.tiny)
    print(machine.heading(rates))
    example = one_view(train_step.make_batch([1.0], [1.0], sizes, np.random.default_rng(0)))
    pair = make_pair(sizes, example)
    results = {f"latency, 1 x {s:g} s": latency(pair, sizes, s, flags.repeats) for s in (3.0, 10.0)}
    name = f"{flags.utterances} utterances in batches of {flags.batch}"
    results[name] = throughput(
        pair, sizes, flags.batch, flags.utterances, flags.buckets, flags.repeats
    )
    rows = [
        (case, t["flax"], t["torch"], f"{t['torch'] / t['flax']:.2f}")
        for case, t in results.items()
    ]
    print(machine.table(("", "Flax, s", "PyTorch, s", "ratio"), rows))
    rate = {k: flags.utterances / t for k, t in results[name].items()}
    print(f"\nUtterances / s: Flax {rate['flax']:.2f}, PyTorch {rate['torch']:.2f}.")
    everything = {"flags": vars(flags), "matmul_flops_per_s": rates, "seconds": results}
    print(f"Written: {machine.write_json(flags.out, 'inference', everything)}")
    return everything


if __name__ == "__main__":
    main()
