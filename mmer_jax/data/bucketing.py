"""Length buckets: their static shapes, and which utterances make up which batch."""

import dataclasses

import numpy as np

FILL = -1  # an index that only fills a batch
SHORTEST = 8_000  # samples of the smallest bucket: enough frames for every encoder
FRAME = 320  # samples of edges' steps, 20 ms, an encoder's frame: finer edges save nothing
MOST = 32  # buckets that an automatic choice may make; each is a compilation
NEARLY = 0.01  # of padding share: what fewer compilations are worth where the aim is out of reach
# Samples that an accelerator trains on in the time that a bucket's programs take to compile. On an
# H100 in bfloat16 (docs/performance.md) a base-size model trains on 3800 s of speech in a second,
# and its first step is done after 67 s; a large one on 1700 s, after 78 s: 250 000 and 130 000 s.
# One number for all models and devices, so that the variants of a model have the same batches.
COMPILING = 200_000 * 16_000


@dataclasses.dataclass(frozen=True)
class Bucket:
    """Static shapes: `samples` of audio, `tokens` of text, `symbols` of CTC transcript.

    `frames` are the audio encoder's for the samples, of batches that have these in their place.
    """

    samples: int = 0
    tokens: int = 0
    symbols: int = 0
    frames: int = 0


@dataclasses.dataclass(frozen=True)
class Choice:
    """Edges, the worst `padding` share of the sets they were chosen for, and if it is `reached`.

    Not `reached`: no number of buckets up to `MOST` gets the padding down to the share asked for.
    `floor` is the padding that no bucket saves, see `least_padding`. `wanted` is the number of
    buckets that the share asks for, whatever they take to compile.
    """

    edges: tuple[int, ...]
    padding: float
    reached: bool
    floor: float
    wanted: int


def edges_by_count(lengths, most: int, longest: int, weights=None) -> list[tuple[int, ...]]:
    """The padded lengths that waste the fewest samples, for 1, 2, ... `most` buckets.

    The list ends where more could not help.

    Exact, by dynamic programming over the lengths rounded up to whole frames. Rows that `plan`
    moves up for want of a full batch are not counted: how many they are depends on the part of the
    corpus that is fed, and edges that are right to the row on the whole are worse on parts.

    Args:
      lengths: samples of each utterance; values over `longest` count as `longest`.
      most: how many edges at most.
      longest: the last edge at most.
      weights: how often each of `lengths` comes up; None: once.
    """
    clipped = np.clip(np.asarray(lengths), 1, longest)
    levels = np.minimum(np.maximum(-(-clipped // FRAME) * FRAME, SHORTEST), longest)
    levels, which = np.unique(levels, return_inverse=True)
    total = np.concatenate([[0.0], np.cumsum(np.bincount(which, weights))])
    n = len(levels)
    fed = (total[None, 1:] - total[:, None]) * levels[None, :]
    fed[np.arange(n + 1)[:, None] > np.arange(n)] = np.inf
    # cost[j]: fewest fed samples for the first j levels with the edges used so far; the real
    # lengths are a constant, so fewest fed is fewest wasted.
    cost = np.concatenate([[0.0], np.full(n, np.inf)])
    history, edges = [], []
    for _ in range(min(most, n)):
        options = cost[:, None] + fed
        history.append(options.argmin(0))
        cost = np.concatenate([[0.0], options.min(0)])
        edges.append(_walk_back(levels, history))
    return edges


def _walk_back(levels, history):
    edges, end = [], len(levels)
    for starts in reversed(history):
        if end == 0:
            break
        edges.append(int(levels[end - 1]))
        end = int(starts[end - 1])
    return tuple(reversed(edges))


def choose(candidates, sets, batch_size: int, max_padding: float, passes: int = 0) -> Choice:
    """The fewest buckets that keep the padding of every set at or below `max_padding`.

    Where none does, the fewest that come within `NEARLY` of the least padding reachable. With
    `passes`, of these and fewer ones those that take the least time,

        samples fed in all passes over all sets + COMPILING * buckets

    Nothing that is measured, only lengths: the same run has the same buckets again.

    Args:
      candidates: edges to choose from, by rising number, as `edges_by_count` gives them.
      sets: int arrays [n, v] of lengths (see `padding_share`), each what one pass may feed.
      batch_size: rows of every batch.
      max_padding: share of the fed samples.
      passes: over each set, in the whole run, where compiling takes the time of much training, as
        on accelerators; 0: compiling does not count.
    """
    table = [[padding_share(s, e, batch_size) for s in sets] for e in candidates]
    shares = [max(row) for row in table]
    reached = min(shares) <= max_padding
    limit = max_padding if reached else min(shares) + NEARLY
    chosen = first = next(i for i, share in enumerate(shares) if share <= limit)
    if passes:
        own = [int(np.minimum(s, candidates[-1][-1]).sum()) for s in sets]
        fed = [sum(n / (1 - share) for n, share in zip(own, row)) for row in table[: first + 1]]
        costs = [passes * n + COMPILING * len(e) for n, e in zip(fed, candidates)]
        chosen = costs.index(min(costs))
    floor = max(least_padding(s, candidates[chosen][-1]) for s in sets)
    return Choice(candidates[chosen], shares[chosen], reached, floor, len(candidates[first]))


def bucket_of(samples, edges):
    """The smallest bucket that holds `samples`, int [...]; the last one for what will be cut."""
    return np.minimum(np.searchsorted(edges, samples), len(edges) - 1)


def make_buckets(edges, samples, tokens, symbols) -> tuple[Bucket, ...]:
    """Static shapes per edge.

    A bucket must also hold what overflows from the smaller ones (see `plan`), so its text is as
    long as the longest of all utterances up to it; multiples of 8 keep the shapes few.

    Args:
      edges: padded audio lengths, rising.
      samples: per utterance, the fewest that a pass may feed of it.
      tokens, symbols: per utterance, its length in each.
    """
    which = bucket_of(samples, edges)
    tokens, symbols = np.asarray(tokens), np.asarray(symbols)

    def longest(values, k):
        return rounded(values[which <= k].max(initial=1))

    return tuple(
        Bucket(edge, longest(tokens, k), longest(symbols, k)) for k, edge in enumerate(edges)
    )


def prediction_edges(longest: int) -> tuple[int, ...]:
    """Padded lengths of prediction, which knows no corpus: from 0.5 s by a factor of sqrt(2).

    The last one is `longest` itself. An utterance is thus padded by 41 % at most, 19 % on average
    over lengths drawn evenly.
    """
    edges = []
    while not edges or edges[-1] < longest:
        exact = round(SHORTEST * 2 ** (len(edges) / 2))
        edges.append(-(-exact // FRAME) * FRAME)
    return (*edges[:-1], longest)


def prediction_batches(rows: int, sizes) -> list[int]:
    """Rows of the batches that hold `rows` rows: large ones first, the last at least half full.

    Args:
      rows: how many there are.
      sizes: rows that a batch may have; 1 is among them.

    Returns:
      Sizes whose sum is `rows` or, where rows are filled up in the last, more.
    """
    out = []
    while rows > 0:
        nearest = min((s for s in sizes if s >= rows), default=0)
        fits = max((s for s in sizes if s <= rows), default=1)
        out.append(nearest if nearest and 2 * rows >= nearest else fits)
        rows -= out[-1]
    return out


def rounded(count: int, multiple: int = 8) -> int:
    """Up to a multiple: texts are padded so, to have few shapes."""
    return int(-(-max(count, 1) // multiple) * multiple)


def plan(samples, edges, batch_size: int, rng=None) -> list[tuple[int, np.ndarray]]:
    """One pass over the utterances as (bucket, indices [batch_size]) pairs.

    What is left over in a bucket moves up to the next, so only one batch of a pass is short
    (filled with `FILL`), and a pass has ceil(n / batch_size) batches whatever the order. The short
    batch is one of the shortest utterances: there a fill row costs the least.

    Args:
      samples: length of each utterance.
      edges: the buckets' lengths.
      batch_size: rows of every batch.
      rng: shuffles utterances and batches; None keeps the order.
    """
    order = np.arange(len(samples)) if rng is None else rng.permutation(len(samples))
    which = bucket_of(samples, edges)[order]
    batches, left = [], np.full(-len(samples) % batch_size, FILL)
    for k in range(len(edges)):
        left = np.concatenate([left, order[which == k]])
        full = len(left) // batch_size * batch_size
        for rows in left[:full].reshape(-1, batch_size):
            batches.append((k, rows[np.argsort(rows == FILL, kind="stable")]))  # fill rows last
        left = left[full:]
    if rng is not None:
        batches = [batches[i] for i in rng.permutation(len(batches))]
    return batches


def padding_share(lengths, edges, batch_size: int) -> float:
    """Share of the samples fed in one pass that are no utterance's: padding and fill rows.

        1 - sum of all real lengths / sum over batches of views * batch_size * edge

    Args:
      lengths: int [n, v], samples of each of the v views; all views of a batch are padded to its
        bucket's length, so an utterance needs its longest one's. [n] is one view.
      edges: the buckets' lengths; what is longer than the last is cut.
      batch_size: rows of every batch.
    """
    lengths = np.minimum(np.asarray(lengths).reshape(len(lengths), -1), edges[-1])
    # As `plan` does it, without the plan: how many batches are full up to each bucket.
    ends = np.cumsum(np.bincount(bucket_of(lengths.max(1), edges), minlength=len(edges)))
    batches = np.diff((ends + -len(lengths) % batch_size) // batch_size, prepend=0)
    fed = lengths.shape[1] * batch_size * int(np.dot(batches, edges))
    return 1.0 - int(lengths.sum()) / fed


def least_padding(lengths, longest: int) -> float:
    """The padding share that is left if every utterance has a bucket of its own length.

    That is the difference in length between the views of an utterance.

    Args:
      lengths: int [n, v] or [n], as for `padding_share`.
      longest: what is longer is cut.
    """
    lengths = np.minimum(np.asarray(lengths).reshape(len(lengths), -1), longest)
    return float(1.0 - lengths.mean(1).sum() / lengths.max(1).sum())
