"""Which static shapes predictions are computed in: few, so that each is compiled once."""

import bisect

from mmer_jax.data.batching import FRAME, SHORTEST

TOKENS = 16  # padded texts are multiples of it


def lengths(longest: int) -> tuple[int, ...]:
    """Padded lengths in samples: from 0.5 s by a factor of sqrt(2) up to `longest` itself.

    An utterance is thus padded by 41 % at most, 19 % on average over lengths drawn evenly.
    """
    edges = []
    while not edges or edges[-1] < longest:
        exact = round(SHORTEST * 2 ** (len(edges) / 2))
        edges.append(-(-exact // FRAME) * FRAME)
    return (*edges[:-1], longest)


def holding(size: int, edges) -> int:
    """The smallest of rising `edges` that holds `size`."""
    return edges[bisect.bisect_left(edges, size)]


def tokens(size: int, most: int) -> int:
    """The padded length of a text: a multiple of 16, never more than the model's positions."""
    return min(-(-size // TOKENS) * TOKENS, most)


def batches(rows: int, sizes) -> list[int]:
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
