"""What the commands share: their environment, a parser, and how they end."""

from __future__ import annotations  # an older Python is to get as far as `check_packages`

import argparse
import codecs
import contextlib
import importlib.util
import logging
import os
import select
import sys
import threading

from mmer_jax.errors import NotWritten, UserError, refusal

CACHE = "~/.cache/mmer_jax/xla"
MODEL = "a finished fold (runs/demo/fold5), a model folder, or a name on the Hugging Face hub"
# What the package imports, beside the standard library; `convert`'s PyTorch is an extra.
PACKAGES = (
    "absl", "array_record", "chex", "clu", "etils", "flax", "grain", "huggingface_hub", "jax",
    "jinja2", "jiwer",
    "markdown_it", "markupsafe", "matplotlib", "ml_collections", "numpy", "optax", "orbax",
    "safetensors", "scipy", "sklearn", "soundfile", "soxr", "tensorflow", "tensorflow_datasets",
    "tokenizers", "tqdm", "transformers",
)  # fmt: skip
# Of a shell for a program that a signal ended: 128 and SIGINT, SIGPIPE.
STOPPED, PIPE_CLOSED = 130, 141
# tensorflow only writes TensorBoard files here; its chatter would hide the messages.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Its Flax classes would otherwise make transformers import tensorflow as well.
os.environ.setdefault("USE_TF", "0")


class Parser(argparse.ArgumentParser):
    """Says what is wrong in the way of the other commands: one message and exit code 1."""

    def error(self, message):
        """Ends the program."""
        print(f"error: {message}; see --help.", file=sys.stderr)
        sys.exit(1)


def check_packages() -> None:
    """Ends the program with one message where this Python can't run the package."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if sys.version_info >= (3, 10) and not missing:
        return
    some = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if missing[5:] else "")
    old = sys.version_info < (3, 10)
    lacks = "is too old; 3.10 or newer is needed" if old else f"lacks {some}"
    here = ".venv/bin/python"
    hint = f"Run it by the environment's: {here} -m mmer_jax...." if os.path.exists(here) else (
        f"Install the package into {'a newer one' if old else 'it'}: pip install -c "
        "constraints.txt -e ."
    )  # fmt: skip
    version = ".".join(map(str, sys.version_info[:2]))
    print(f"error: {sys.executable} (Python {version}) {lacks}. {hint}", file=sys.stderr)
    sys.exit(1)


def cache_compilations() -> None:
    """Compiled programs are kept where `main` keeps them, unless the environment says where."""
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        keep_compilations(CACHE)


def keep_compilations(folder: str) -> None:
    """Compiled programs are kept in `folder`, and read from there by the next run."""
    import jax

    jax.config.update("jax_compilation_cache_dir", os.path.expanduser(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)


def attempt(work, stopped: str, place: str = "") -> int:
    """Calls `work()`; what the user or the system is to blame for is one message, as is Ctrl-C.

    Whatever the output can't encode is written in another way. A reader that has gone, as `head`
    does, ends the program without a word. Anything else is a bug, and raised.

    Args:
      work: prints what it has to say; may return an exit code.
      stopped: what an interruption leaves behind, in words.
      place: the folder or file that `work` writes, if it does.

    Returns:
      The exit code: that of `work`, 0, 1 for a mistake or a system that refuses, 130 where it was
      stopped, 141 where nobody reads the output any more.
    """
    _encode_everything()
    try:
        with _one_voice(place) as refused:
            code = work() or 0
            _flush()
        return _end(f"error: {refused[0]}") if refused else code
    except KeyboardInterrupt:
        return _end(f"\nstopped; {stopped}.", STOPPED)
    except NotWritten as e:
        with contextlib.suppress(OSError):
            print(f"\n{e.table}", flush=True)
        return _end(f"error: {e}")
    except UserError as e:
        return _end(f"error: {e}")
    except Exception as e:
        broken = any(isinstance(x, BrokenPipeError) for x in (e, e.__cause__))
        if broken and _nobody_reads():
            return _end("", PIPE_CLOSED)
        said = refusal(e, place)
        if said is None:
            raise
        return _end(f"error: {said} {stopped[0].upper()}{stopped[1:]}.")


def _nobody_reads():
    """Whether the reader of our output has gone: a pipe to a worker may break as well."""
    try:
        _flush()
    except (OSError, ValueError):
        return True
    # Unbuffered, nothing is left to be flushed.
    with contextlib.suppress(OSError, ValueError, AttributeError):  # no descriptor, or no poll
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        return bool(poll.poll(0))
    return False


def _flush():
    if sys.stdout is not None:  # closed by who started the command
        sys.stdout.flush()


def _end(message, code=1):
    """Says it, if there still is somebody, and gives the code back."""
    try:
        if message:
            print(message, file=sys.stderr, flush=True)
        _flush()
    except (OSError, ValueError):
        # Python would complain at its end of what it can't write any more.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                os.dup2(nowhere, stream.fileno())
    return code


@contextlib.contextmanager
def _one_voice(place):
    """What the system refuses in a thread is said by who waits for it, and not on the way as well.

    orbax logs a full disk in four places, each with its traceback.

    Yields:
      A list of what was refused in threads that nobody waits for.
    """
    in_threads, unraisable, refused = threading.excepthook, sys.unraisablehook, []

    def hook(args):
        said = args.exc_value and refusal(args.exc_value, place)
        if said:
            refused.append(said)
        else:
            in_threads(args)

    def print_news(args):
        if not _is_told_anyway(args.exc_value):
            unraisable(args)

    # What tensorstore's callbacks raise ends in sys.unraisablehook.
    threading.excepthook, sys.unraisablehook = hook, print_news
    loggers = [logging.getLogger(name) for name in ("absl", "asyncio", "concurrent.futures")]
    for logger in loggers:
        logger.addFilter(_is_news)
    try:
        yield refused
    finally:
        threading.excepthook = in_threads
    # Not after an error: asyncio tells of a writer that nobody waited for when the program ends.
    sys.unraisablehook = unraisable
    for logger in loggers:
        logger.removeFilter(_is_news)


def _is_news(record):
    """Whether a log's record is no error that ends the command with a message anyway."""
    error = record.exc_info[1] if record.exc_info else None
    return record.levelno < logging.ERROR or error is None or not _is_told_anyway(error)


def _is_told_anyway(error):
    """Whether a thread's error is what the command ends with, or follows on it.

    A writer's thread may report to an event loop that has ended meanwhile.
    """
    follows = isinstance(error, RuntimeError) and str(error) == "Event loop is closed"
    return follows or refusal(error) is not None


_ASCII = {"±": "+-", "–": "-", "…": "...", "“": '"', "”": '"'}


def _encode_everything():
    """Whatever stdout and stderr can't encode is written in ASCII."""
    codecs.register_error("mmer_jax", _in_ascii)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="mmer_jax")


def _in_ascii(error):
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    escaped = (c.encode("ascii", "backslashreplace").decode() for c in text)
    return "".join(_ASCII.get(c, e) for c, e in zip(text, escaped)), error.end
