"""Prefix beam search: the most probable transcript of CTC's frames, not its best path.

Source: Graves, "Supervised Sequence Labelling with Recurrent Neural Networks" (2012), 7.5; Hannun
et al., "First-Pass Large Vocabulary Continuous Speech Recognition" (2014).
"""

import dataclasses
import os

import numpy as np

_EVERY = 64  # frames after which what all prefixes begin with is taken off them


@dataclasses.dataclass
class _Beams:
    """The w prefixes kept after a frame, most probable first.

    Attributes:
      prefix: each a tuple of symbols.
      blank, symbol: float64 [w], log-probabilities of the paths that collapse to the prefix and
        end with a blank, or with its last symbol.
    """

    prefix: list[tuple[int, ...]]
    blank: np.ndarray
    symbol: np.ndarray

    def total(self) -> np.ndarray:
        """Log-probability of each prefix: [w]."""
        return np.logaddexp(self.blank, self.symbol)


def search(
    log_probs: np.ndarray, width: int, blank: int = 0
) -> list[tuple[tuple[int, ...], float]]:
    """The most probable symbol sequences that frames [t, v] spell.

        log p(symbols) = log sum over paths that collapse to them of prod over frames of p

    Exact where `width` holds every prefix; else a lower bound of each.

    Args:
      log_probs: log-probabilities of the symbols [t, v] in every frame.
      width: prefixes that are kept from frame to frame.
      blank: the blank's number.

    Returns:
      Up to `width` of (symbols, log p), most probable first.
    """
    beams, begun = _Beams([()], np.zeros(1), np.full(1, -np.inf)), []
    for i, frame in enumerate(np.asarray(log_probs, np.float64), 1):
        beams = _step(beams, frame, width, blank)
        if i % _EVERY == 0:
            begun += _take_off_shared(beams)
    return [((*begun, *p), float(s)) for p, s in zip(beams.prefix, beams.total())]


def _take_off_shared(beams):
    """What all prefixes begin with but for its last symbol, which still tells doubled ones apart.

    An hour's transcript would otherwise be copied and compared with every frame.
    """
    shared = os.path.commonprefix(beams.prefix)[:-1]
    beams.prefix = [p[len(shared) :] for p in beams.prefix]
    return shared


def _step(beams, frame, width, blank):
    """The beams after one more frame [v]."""
    total, rows = beams.total(), np.arange(len(beams.prefix))
    last = np.array([p[-1] if p else blank for p in beams.prefix])
    longer = total[:, None] + frame[None]
    # The same symbol again is another one only behind a blank; otherwise the prefix stays.
    longer[rows, last] = beams.blank + frame[last]
    longer[:, blank] = -np.inf
    stays = np.where(last == blank, -np.inf, beams.symbol + frame[last])
    _merge(beams.prefix, longer, stays)
    kept = _Beams(beams.prefix, total + frame[blank], stays)
    return _best(kept, longer, width)


def _merge(prefixes, longer, stays):
    """A prefix made longer that is kept as such already: its paths count there alone."""
    at = {prefix: i for i, prefix in enumerate(prefixes)}
    for i, prefix in enumerate(prefixes):
        parent = at.get(prefix[:-1]) if prefix else None
        if parent is not None:
            stays[i] = np.logaddexp(stays[i], longer[parent, prefix[-1]])
            longer[parent, prefix[-1]] = -np.inf


def _best(kept, longer, width):
    """The `width` most probable of the prefixes as they are and made longer."""
    size, symbols = longer.shape
    scores = np.concatenate([kept.total(), longer.ravel()])
    order = np.argsort(-scores, kind="stable")[:width]
    order = order[scores[order] > -np.inf]
    prefix, ends = [], np.full((2, len(order)), -np.inf)
    for column, i in enumerate(order):
        if i < size:
            prefix.append(kept.prefix[i])
            ends[:, column] = kept.blank[i], kept.symbol[i]
        else:
            parent, symbol = divmod(int(i) - size, symbols)
            prefix.append((*kept.prefix[parent], symbol))
            ends[1, column] = scores[i]
    return _Beams(prefix, *ends)
