"""What every damaged input must keep to, and what became of each.

An input is read as it should be or refused in one message. Nothing else is raised, nothing is run,
written elsewhere or fetched, and time and memory have limits.
"""

import collections
import contextlib
import dataclasses
import logging
import os
import signal
import sys
import tempfile
import warnings

from mmer_jax.errors import UserError

SECONDS = 60  # a hang, not a slow machine
MEBIBYTES = 96  # beyond what the process had
LONGEST = 10_000  # characters of a message
CANARY = "canary"  # in the name of a file that no input may lead to

OUTCOMES = "the same", "with a warning", "as it now says", "refused", "failed"
SAME, WARNED, OTHER, REFUSED, FAILED = OUTCOMES
KNOWN = "known"  # of a damage: anything but another value without a word
tally = collections.defaultdict(collections.Counter)  # kind -> outcome -> count


@dataclasses.dataclass(frozen=True, repr=False)
class Damaged:
    """A damaged input.

    Attributes:
      data: what is read, mostly bytes.
      how: it was damaged, in words.
      must: what it must come to: `SAME` (a warning may come with it), `REFUSED` or `KNOWN`; "":
        the damage can't be told from what somebody may have meant.
    """

    data: object
    how: str
    must: str = ""

    def __repr__(self):
        data = f"{self.data!r:.1000}" if isinstance(self.data, (bytes, str, tuple, list)) else "..."
        return f"Damaged({self.how!r}, must={self.must!r}, data={data})"

    def _repr_pretty_(self, printer, cycle):
        """As hypothesis shows it: a recording would be pages."""
        printer.text(repr(self))


def judge(kind: str, damaged: Damaged, read, same, check=lambda value: None, refusals=UserError,
          mebibytes=MEBIBYTES):  # fmt: skip
    """Reads a damaged input, counts what became of it, and fails where it may not be so.

    Args:
      kind: under which it is counted.
      damaged: the input.
      read: () -> a value.
      same: value -> whether it is that of the undamaged input.
      check: value -> None; fails where no input can have it.
      refusals: the exceptions that are messages to the user.
      mebibytes: that reading it may take.
    """
    outcome = FAILED
    try:
        with _limits(mebibytes) as told:
            try:
                value = read()
            except refusals as e:
                value, refused = None, e
            else:
                refused = None
        if refused is not None:
            said = str(refused)
            assert said.strip() and len(said) <= LONGEST and "Traceback" not in said
            found = REFUSED
        else:
            check(value)
            is_same = bool(same(value))
            found = WARNED if told else SAME if is_same else OTHER
            assert is_same or damaged.must != SAME, f"{damaged.how}: another value"
        assert damaged.must != REFUSED or found == REFUSED, f"{damaged.how}: accepted"
        assert damaged.must != KNOWN or found != OTHER, f"{damaged.how}: without a word"
        assert damaged.must != SAME or found != REFUSED, f"{damaged.how}: {refused}"
        outcome = found
    finally:
        tally[kind][outcome] += 1


def table() -> list[str]:
    """The lines of a Markdown table of what became of all."""
    lines = ["| input | damaged | " + " | ".join(OUTCOMES) + " |", "|-" * (2 + len(OUTCOMES)) + "|"]
    for kind, counts in sorted(tally.items()):
        cells = [kind, sum(counts.values()), *(counts[outcome] for outcome in OUTCOMES)]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


def warn(message: str) -> None:
    """Of a warning that is given one level above what is read here."""
    logging.getLogger("mmer_jax").warning(message)


class Hung(BaseException):
    """Nothing of ours catches it."""


@contextlib.contextmanager
def _limits(mebibytes):
    """Fails where the block takes too long or too much, or does what no input may lead to.

    Yields:
      The warnings in it.
    """
    told, done, before = [], [], _memory("VmRSS")
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: told.append(record.getMessage())
    loggers = [logging.getLogger(name) for name in ("absl", "mmer_jax")]

    def stop(*_):
        raise Hung(f"more than {SECONDS} s")

    old = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    _reset_peak()
    for logger in loggers:
        logger.addHandler(handler)
    _watched.append(done)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            yield told
        told += [str(w.message) for w in caught if w.category is UserWarning]
    finally:
        _watched.pop()
        for logger in loggers:
            logger.removeHandler(handler)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert not done, done
    grown = (_memory("VmHWM") - before) / 1024
    assert grown < mebibytes, f"{grown:.0f} MiB"


_watched = []
_RUNS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty",
         "pickle.find_class", "socket.connect", "socket.getaddrinfo", "os.symlink", "os.link",
         "shutil.rmtree", "ctypes.dlopen")  # fmt: skip


def _hook(event, args):
    if not _watched:
        return
    if event in _RUNS or (event == "exec" and args[0].co_filename.startswith("<")):
        _watched[-1].append((event, repr(args)[:200]))
    elif event == "open" and isinstance(args[0], (str, bytes)):
        path, (mode, flags) = os.fsdecode(args[0]), args[1:3]
        writes = set(mode or "") & set("wax+") or flags & (os.O_WRONLY | os.O_RDWR)
        outside = not os.path.abspath(path).startswith((tempfile.gettempdir(), "/dev/null"))
        if CANARY in path or (writes and outside):
            _watched[-1].append((event, path, mode))


sys.addaudithook(_hook)


def _memory(name):
    """KiB of /proc/self/status; 0 where there is none: then memory is not measured."""
    with contextlib.suppress(OSError), open("/proc/self/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith(name))
    return 0


def _reset_peak():
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as f:
        f.write("5")
