"""What the commands share: their environment, a parser, and how they end."""

from __future__ import annotations  # an older Python is to get as far as `check_python`

import argparse
import contextlib
import difflib
import logging
import os
import re
import select
import sys
import threading

from mmer_jax.errors import NotWritten, UserError, installing, refusal

CACHE = "~/.cache/mmer_jax/xla"
MODEL = "a finished fold (runs/demo/fold5), a model folder, or a name on the Hugging Face hub"
WHISPER = "a Whisper model: a name on the Hugging Face hub (openai/whisper-base.en), or a folder"
RUN = "workdir of a finished run (runs/demo)"
PROGRAM = ""  # `mmer predict` where that is what was typed
# Of a shell for a program that a signal ended: 128 and SIGINT, SIGPIPE.
STOPPED, PIPE_CLOSED = 130, 141
_COLOURS = {"error": 31, "warning": 33, "note": 36}  # of a terminal: red, yellow, cyan
# tensorflow only writes TensorBoard files here; its chatter would hide the messages.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Its Flax classes would otherwise make transformers import tensorflow as well.
os.environ.setdefault("USE_TF", "0")


class Parser(argparse.ArgumentParser):
    """Says what is wrong in the way of the other commands: one message and exit code 1."""

    def __init__(self, **options):
        super().__init__(**options | ({"prog": PROGRAM} if PROGRAM else {}))
        self.register("type", int, _whole_number)
        self.register("type", float, _number)

    def parse_args(self, args=None, namespace=None):
        """As argparse's, which does not say what an unknown option was meant to be."""
        namespace, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.error(f"{unknown[0]} is unknown{self._meant(unknown[0])}")
        return namespace

    def _meant(self, argument):
        options = [o for o in self._option_string_actions if o.startswith("--")]
        near = difflib.get_close_matches(argument.partition("=")[0], options, 1)
        return f"; is {near[0]} meant?" if near else ""

    def error(self, message):
        """Ends the program."""
        message = re.sub(r"^argument ", "", str(message))
        end = "" if message.endswith((".", "?")) else "; see --help."
        print(coloured(f"error: {message}{end}"), file=sys.stderr)
        sys.exit(1)


def _whole_number(text):
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a whole number, found {text!r}") from None


def _number(text):
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, found {text!r}") from None


def between(low: float, high: float, kind: type = int):
    """The `type` of an option whose value is a number from `low` to `high`."""

    def number(text):
        value = {int: _whole_number, float: _number}[kind](text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"expected {low} to {high}, found {text}")
        return value

    return number


def add_transcriber(parser: argparse.ArgumentParser) -> None:
    """Adds the options that name a speech recogniser."""
    parser.add_argument(
        "--transcriber",
        default="",
        metavar="MODEL",
        help=f"writes the texts that are not given: {WHISPER}; default: the model's own CTC head",
    )
    parser.add_argument(
        "--language",
        default="",
        help="spoken language of a multilingual transcriber: de, german, ...",
    )


def add_batch_size(parser: argparse.ArgumentParser) -> None:
    """Adds the option that says how many recordings are computed at once."""
    parser.add_argument(
        "--batch-size", type=between(1, 4096), default=8, metavar="N",
        help="recordings computed at once (%(default)s)",
    )  # fmt: skip


def coloured(text: str) -> str:
    """A message for stderr; its `error:`, `warning:` or `note:` in colour where a terminal is.

    Not where NO_COLOR is set (https://no-color.org).
    """
    kind = re.match(r"\n?(\w+):", text)
    if not kind or kind[1] not in _COLOURS or os.environ.get("NO_COLOR"):
        return text
    if os.environ.get("TERM") == "dumb" or not (sys.stderr and sys.stderr.isatty()):
        return text
    begin, end = kind.span()
    return f"\033[{_COLOURS[kind[1]]}m{text[begin:end]}\033[0m{text[end:]}"


class _Logged(logging.Handler):
    """Warnings that are logged, in the way of the commands' own."""

    def emit(self, record):
        print(coloured(f"{record.levelname.lower()}: {record.getMessage()}"), file=sys.stderr)


def check_python() -> None:
    """Readies a command: where this Python can't run it, now or later, that is one message."""
    if sys.version_info < (3, 10):  # noqa: UP036 - it is here to be told
        _explain("is too old; 3.10 or newer is needed")
        sys.exit(1)
    sys.excepthook = _explain_missing
    # Transformers would import PyTorch wherever it is, for seconds and for nothing of ours.
    os.environ.setdefault("USE_TORCH", "0")


def _explain_missing(kind, error, trace):
    """Of a package that is missing, no traceback."""
    if not isinstance(error, ModuleNotFoundError) or (error.name or "").startswith("mmer_jax"):
        return sys.__excepthook__(kind, error, trace)
    return _explain(f"lacks {error.name}", error.name)


def _explain(lacks, package=""):
    hint = f"Install it: {installing(package)}"
    if os.path.exists(".venv/bin/python"):
        hint = "Run it by the environment's: .venv/bin/python -m mmer_jax...."
    version = ".".join(map(str, sys.version_info[:2]))
    print(f"error: {sys.executable} (Python {version}) {lacks}. {hint}", file=sys.stderr)


def cache_compilations(folder: str = "") -> None:
    """Keeps compiled programs in `folder` for the next run; by default where `main` keeps them.

    That is, unless the environment says where.
    """
    if not folder and os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return
    import jax

    jax.config.update("jax_compilation_cache_dir", os.path.expanduser(folder or CACHE))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)


def attempt(work, stopped: str, place: str = "") -> int:
    """Calls `work()`; what the user or the system is to blame for is one message, as is Ctrl-C.

    A reader that has gone, as `head` does, ends the program without a word. Anything else is a bug,
    and raised.

    Args:
      work: prints what it has to say; may return an exit code.
      stopped: what an interruption leaves behind, in words.
      place: the folder or file that `work` writes, if it does.

    Returns:
      The exit code: that of `work`, 0, 1 for a mistake or a system that refuses, 130 where it was
      stopped, 141 where nobody reads the output any more.
    """
    from absl import flags

    flags.FLAGS.mark_as_parsed()  # grain reads absl's flags, and there are none
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # whatever the terminal can't show
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
            print(coloured(message), file=sys.stderr, flush=True)
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

    # What tensorstore's callbacks raise ends in sys.unraisablehook.
    threading.excepthook = hook
    sys.unraisablehook = lambda args: _is_told(args.exc_value) or unraisable(args)
    # absl would add one that writes WARNING:absl: before each.
    if not logging.root.handlers:
        logging.root.addHandler(_Logged(logging.WARNING))
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
    return record.levelno < logging.ERROR or not _is_told((record.exc_info or (0, None))[1])


def _is_told(error):
    """Whether a thread's error is what the command ends with, or follows on it.

    A writer's thread may report to an event loop that has ended meanwhile.
    """
    follows = isinstance(error, RuntimeError) and str(error) == "Event loop is closed"
    return follows or (error is not None and refusal(error) is not None)
