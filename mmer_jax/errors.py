"""The errors that are shown to the user as one message: mistakes, and what the system refuses."""

from __future__ import annotations  # see `cli`

import errno
import os
import re

# How a full disk and the like read where a library has made a text of the system's error.
_REFUSALS = {
    code: os.strerror(code)
    for code in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG,
                 errno.EMFILE, errno.EIO)
}  # fmt: skip

_LONGEST = 6000  # characters of a message

# As XLA, C++, Python's threads and the loader of libraries say it.
_NO_MEMORY = re.compile(
    r"RESOURCE_EXHAUSTED: Out of memory|std::bad_alloc|can't start new thread|failed to map segment"
)
_LESS_MEMORY = (
    "End what else uses it, or ask for less: smaller batches (--batch-size, "
    "--config.train.chunk_size), shorter recordings (--config.data.max_seconds)."
)

# Extra of setup.py -> packages that come with it alone.
EXTRAS = {
    "train": ("tensorflow", "tensorflow_datasets", "tensorboard", "clu", "grain", "array_record",
              "sklearn", "matplotlib"),
    "tfds": ("apache_beam", "mlcroissant", "importlib_resources"),
    "demo": ("espeakng_loader",),
    "augment": ("sentencepiece",),
    "convert": ("torch",),
    "app": ("gradio", "starlette"),
}  # fmt: skip


def installing(package: str) -> str:
    """The command that installs a package that this one needs for some of what it does."""
    name = package.partition(".")[0]
    extras = [f"[{extra}]" for extra, packages in EXTRAS.items() if name in packages]
    return f'pip install "mmer_jax{"".join(extras)}"'


class UserError(Exception):
    """A mistake or a missing thing that the user can mend.

    The message says what was found, what was expected and what to do. Command lines print it and
    exit with 1; in a notebook it is an ordinary exception. Of one that is far too long, as what was
    found may be, the middle is left out.
    """

    def __init__(self, message=""):
        text = str(message)
        super().__init__(text if len(text) <= _LONGEST else f"{text[:3000]} [...] {text[-2000:]}")


class NotWritten(UserError):
    """Results that were computed and can't be written.

    Attributes:
      table: what they are, for who reads the command's output.
    """

    def __init__(self, message: str, table: str):
        super().__init__(message)
        self.table = table


def first_line(error: BaseException) -> str:
    """The first line of an error of a library, at most 200 characters, or else its type's name."""
    return (str(error).strip() or type(error).__name__).split("\n")[0][:200]


def refusal(error: BaseException, place: str = "") -> str | None:
    """What the system refused, in one sentence or two; None where the error is of another kind.

    Args:
      error: an OSError, a MemoryError, or what a library (orbax, tensorstore, grain, tensorflow)
        made of one.
      place: where the program writes, for errors that do not say it.
    """
    for e in _chain(error, contexts=False):
        if isinstance(e, ModuleNotFoundError) and not (e.name or "").startswith("mmer_jax"):
            return f"{e}, which this needs. Install it: {installing(e.name or '')}."
        if isinstance(e, OSError):
            place = place if e.filename is None else os.fsdecode(e.filename)
            return _sentences(place, e.strerror or str(e), e.errno)
        if isinstance(e, MemoryError) or _NO_MEMORY.search(str(e)):
            return f"There is too little memory: {first_line(e)}. {_LESS_MEMORY}"
    for e in _chain(error):  # also what a cleaning up failed after, if it is of these alone
        for code, text in _REFUSALS.items():
            if re.search(rf"(?i:{re.escape(text)})|\b{errno.errorcode[code]}\b", str(e)):
                path = re.search(r"(?<![\w:])/[^\s\"'\],:;]+", str(e))
                return _sentences(path[0] if path else place, text, code)
    return None


def _sentences(place, text, code):
    remedy = "See that it is there and can be used, and run the same command again."
    if code in (errno.ENOSPC, errno.EDQUOT):
        remedy = "Make space there, or name another place, and run the same command again."
    if code in (errno.EROFS, errno.EACCES, errno.EPERM):
        remedy = "Make it writable, or name another place."
    if code == errno.ENOMEM:
        remedy = _LESS_MEMORY
    return f"{place}{': ' if place else ''}{text}. {remedy}"


def _chain(error, contexts=True):
    """An error, what it was raised from or (`contexts`) while handling, and what it gathers."""
    seen, left = [], [error]
    while left:
        e = left.pop(0)
        if e is None or any(e is x for x in seen):
            continue
        seen.append(e)
        left += [*getattr(e, "exceptions", ()), e.__cause__]
        left += [e.__context__] if contexts and not e.__suppress_context__ else []
    return seen
