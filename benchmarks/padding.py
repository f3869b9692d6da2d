"""Padding of length buckets: `python -m benchmarks.padding`.

The share of the samples fed in a pass that are no utterance's, both views counted, fill rows too.
Beside it stands the authors' loader: random batches of the same size, each view padded to the
batch's longest. IEMOCAP's lengths are a log-normal law with its published mean and median (its 95th
percentile comes out at 11.2 s; measured are 11.06 s), and a second view of 90 to 110 % of the
first; of a prepared corpus the lengths are its own.
"""

import dataclasses
import sys

import numpy as np
from scipy import stats

from benchmarks import common
from mmer_jax.data import bucketing
from mmer_jax.data.corpus import Corpus
from mmer_jax.data.preprocessing import SAMPLE_RATE
from mmer_jax.errors import UserError

COUNTS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32)
LONGEST = 210_000  # samples, 13.125 s
MAX_PADDING = 0.10
UTTERANCES, MEAN, MEDIAN = 5531, 4.55, 3.58  # IEMOCAP's four classes, seconds
BATCH = 16  # of a prepared corpus
PASSES = 120  # over all utterances: 5 folds of 30 epochs, each of four fifths


def iemocap_lengths(count: int = UTTERANCES) -> np.ndarray:
    """Samples of both views of `count` utterances with IEMOCAP's lengths, int [count, 2]."""
    law = stats.lognorm(np.sqrt(2 * np.log(MEAN / MEDIAN)), scale=MEDIAN)
    first = law.ppf((np.arange(count) + 0.5) / count)
    ratio = np.random.default_rng(0).uniform(0.9, 1.1, count)
    views = np.stack([first, first * ratio], 1) * SAMPLE_RATE
    return np.minimum(views, LONGEST).astype(np.int64)


def corpus_lengths(data_dir: str) -> np.ndarray:
    """Those of a prepared corpus, the first augmented recording as the second view."""
    views = [
        (u.samples, u.augmented[0].samples if u.augmented else u.samples)
        for u in Corpus(data_dir).utterances
    ]
    return np.minimum(views, LONGEST)


def original_padding(lengths, batch_size: int, passes: int = 20) -> float:
    """Mean share of padding of random batches, each view padded to its longest: int [n, v]."""
    fed, rng = 0, np.random.default_rng(0)
    for _ in range(passes):
        order = rng.permutation(len(lengths))
        for start in range(0, len(order), batch_size):
            rows = lengths[order[start : start + batch_size]]
            fed += len(rows) * int(rows.max(0).sum())
    return 1 - passes * int(lengths.sum()) / fed


def padding(lengths, batch_size: int) -> dict:
    """Shares of padding by number of buckets, and what `data.max_padding` chooses.

    `accelerated` is chosen where compiling counts, as on accelerators, for `PASSES` passes.

    `floor` is what stays however many buckets there are: the shorter view of each utterance is
    padded to the longer one.
    """
    edges = bucketing.edges_by_count(lengths.max(1), bucketing.MOST, LONGEST)
    counts = [n for n in COUNTS if n <= len(edges)]

    def chosen(passes):
        choice = bucketing.choose(edges, [lengths], batch_size, MAX_PADDING, passes)
        return dataclasses.asdict(choice)

    return {
        "floor": bucketing.least_padding(lengths, LONGEST),
        "original": original_padding(lengths, batch_size),
        "shares": {n: bucketing.padding_share(lengths, edges[n - 1], batch_size) for n in counts},
        "chosen": chosen(0),
        "accelerated": chosen(PASSES),
    }


def table(found: dict) -> str:
    """Per cent by number of buckets, a column per corpus."""

    def cent(share):
        return "-" if share is None else f"{100 * share:.1f}"

    def chosen(edges, padding, reached, **_):
        return f"{len(edges)}: {cent(padding)}{'' if reached else ' (out of reach)'}"

    columns = found.values()
    rows = [[n, *(cent(x["shares"].get(n)) for x in columns)] for n in COUNTS]
    rows.append(["the authors' loader", *(cent(x["original"]) for x in columns)])
    rows.append(["no buckets help below", *(cent(x["floor"]) for x in columns)])
    aim = f"chosen for {100 * MAX_PADDING:.0f} %"
    rows.append([aim, *(chosen(**x["chosen"]) for x in columns)])
    rows.append([f"{aim}, on accelerators", *(chosen(**x["accelerated"]) for x in columns)])
    return common.table(["buckets", *found], rows)


def main(argv=None) -> int:
    """Prints the table and writes padding.json."""
    parser = common.parser(__doc__)
    parser.add_argument("--data_dir", default="build/demo/tfds", help="of a prepared corpus")
    flags = parser.parse_args(argv)
    lengths = iemocap_lengths(400 if flags.tiny else UTTERANCES)
    found = {f"IEMOCAP's lengths, batch {size}": padding(lengths, size) for size in (8, 32)}
    try:
        found[f"{flags.data_dir}, batch {BATCH}"] = padding(corpus_lengths(flags.data_dir), BATCH)
    except UserError as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    common.report(flags, "padding", {"padding": found}, table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
