"""Windows of a recording that is longer than the model takes at once."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Span:
    """One window, in samples: its input is [start, end), and it answers for [own_start, own_end).

    The windows' own parts lie side by side and cover the recording once.
    """

    start: int
    end: int
    own_start: int
    own_end: int

    @property
    def weight(self) -> int:
        """Samples it answers for: the weight of its prediction."""
        return self.own_end - self.own_start

    def own_part(self, margin: int = 0) -> slice:
        """The samples that are its own part, and `margin` more on either side."""
        first = max(self.own_start - margin, self.start) - self.start
        return slice(first, min(self.own_end + margin, self.end) - self.start)

    def own_frames(self, frame: int) -> slice:
        """Those of its encoder frames, one every `frame` samples, that begin in its own part."""
        first = -(-(self.own_start - self.start) // frame)
        last = -(-(self.own_end - self.start) // frame)
        return slice(first, None if self.own_end == self.end else last)


def cut(samples: int, longest: int) -> list[Span]:
    """The windows of a recording.

    One, if it is no longer than `longest`. Otherwise windows of that length, each half of it
    after the one before, the last one aligned to the end. What two neighbours
    overlap in is divided at its middle: every moment belongs to the window with the most context.

    Args:
      samples: of the recording, at least 1.
      longest: of a window.
    """
    if samples <= longest:
        return [Span(0, samples, 0, samples)]
    hop = max(longest // 2, 1)
    starts = [*range(0, samples - longest, hop), samples - longest]
    middles = [(left + longest + right) // 2 for left, right in zip(starts, starts[1:])]
    own = [0, *middles, samples]
    return [Span(s, s + longest, a, b) for s, a, b in zip(starts, own, own[1:])]
