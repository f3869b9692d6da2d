"""Which utterances make up which batch, and the static shapes of each length bucket."""

import bisect
import dataclasses

import numpy as np

FILL = -1  # an index that only fills a batch
SHORTEST = 8_000  # samples of the smallest bucket: enough frames for every encoder


@dataclasses.dataclass(frozen=True)
class Bucket:
    """Static shapes: `samples` of audio, `tokens` of text, `symbols` of CTC transcript."""

    samples: int
    tokens: int
    symbols: int


def choose_edges(lengths, count: int, longest: int, multiple: int = 1_600) -> tuple[int, ...]:
    """The `count` padded lengths that waste the fewest samples on these utterances.

    Exact, by dynamic programming over the lengths rounded up to `multiple` samples (0.1 s).

    Args:
      lengths: samples of each utterance; values over `longest` count as `longest`.
      count: how many edges at most.
      longest: the last edge at most.
    """
    clipped = np.clip(np.asarray(lengths), 1, longest)
    levels = np.minimum(np.maximum(-(-clipped // multiple) * multiple, SHORTEST), longest)
    levels, sizes = np.unique(levels, return_counts=True)
    total = np.concatenate([[0], np.cumsum(sizes)])
    # cost[j]: fewest fed samples for the first j levels with the edges used so far; the real
    # lengths are a constant, so fewest fed is fewest wasted.
    cost = np.concatenate([[0.0], np.full(len(levels), np.inf)])
    history = []
    for _ in range(min(count, len(levels))):
        options = cost[:, None] + (total[None, 1:] - total[:, None]) * levels[None, :]
        options = np.where(
            np.arange(len(levels) + 1)[:, None] <= np.arange(len(levels)), options, np.inf
        )
        history.append(options.argmin(0))
        cost = np.concatenate([[0.0], options.min(0)])
    edges, end = [], len(levels)
    for starts in reversed(history):
        if end == 0:
            break
        edges.append(int(levels[end - 1]))
        end = int(starts[end - 1])
    return tuple(reversed(edges))


def bucket_of(samples: int, edges) -> int:
    """The smallest bucket that holds `samples`; the last one for what will be cut."""
    return min(bisect.bisect_left(edges, samples), len(edges) - 1)


def make_buckets(edges, samples, tokens, symbols) -> tuple[Bucket, ...]:
    """Static shapes per edge.

    A bucket must also hold what overflows from the smaller ones (see `plan`), so its text is as
    long as the longest of all utterances up to it; multiples of 8 keep the shapes few.

    Args:
      edges: padded audio lengths, rising.
      samples, tokens, symbols: per utterance, its length in each.
    """
    which = np.array([bucket_of(n, edges) for n in samples])
    tokens, symbols = np.asarray(tokens), np.asarray(symbols)

    def longest(values, k):
        up_to = values[which <= k]
        return int(-(-max(up_to.max(initial=1), 1) // 8) * 8)

    return tuple(
        Bucket(edge, longest(tokens, k), longest(symbols, k)) for k, edge in enumerate(edges)
    )


def plan(samples, edges, batch_size: int, rng=None) -> list[tuple[int, np.ndarray]]:
    """One pass over the utterances as (bucket, indices [batch_size]) pairs.

    What is left over in a bucket moves up to the next, so only one batch of a pass is short
    (filled with `FILL`), and a pass has ceil(n / batch_size) batches whatever the order.

    Args:
      samples: length of each utterance.
      edges: the buckets' lengths.
      batch_size: rows of every batch.
      rng: shuffles utterances and batches; None keeps the order.
    """
    order = np.arange(len(samples)) if rng is None else rng.permutation(len(samples))
    which = np.array([bucket_of(samples[i], edges) for i in order])
    batches, left = [], np.array([], np.int64)
    for k in range(len(edges)):
        left = np.concatenate([left, order[which == k]])
        full = len(left) // batch_size * batch_size
        batches += [(k, rows) for rows in left[:full].reshape(-1, batch_size)]
        left = left[full:]
    if len(left):
        filler = np.full(batch_size - len(left), FILL)
        smallest = max(bucket_of(samples[i], edges) for i in left)
        batches.append((smallest, np.concatenate([left, filler])))
    if rng is not None:
        batches = [batches[i] for i in rng.permutation(len(batches))]
    return batches


def padding_share(samples, edges, batch_size: int) -> float:
    """Share of the fed samples that are padding, fill rows included, in one pass."""
    fed = sum(edges[k] * batch_size for k, _ in plan(samples, edges, batch_size))
    return 1.0 - float(np.minimum(samples, edges[-1]).sum()) / fed
