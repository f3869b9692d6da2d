"""A progress bar on a terminal, a few plain lines anywhere else."""

import sys

from tqdm import tqdm


def progress_bar(items, total, name, show=True):
    """Yields the items and shows on stderr how far they are.

    Args:
        items: iterable.
        total: how many it yields.
        name: of the work.
        show: False for silence.
    """
    if show and sys.stderr.isatty():
        yield from tqdm(items, total=total, desc=name)
        return
    for done, item in enumerate(items, 1):
        if show and done * 4 // total > (done - 1) * 4 // total:
            print(f"{name}: {done} of {total}", file=sys.stderr, flush=True)
        yield item
