"""What the commands share: their environment, a parser, and how they end."""

import argparse
import os
import sys

from mmer_jax.errors import UserError

CACHE = "~/.cache/mmer_jax/xla"
MODEL = "a finished fold (runs/demo/fold5), a model folder, or a name on the Hugging Face hub"

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


def cache_compilations() -> None:
    """Compiled programs are kept where `main` keeps them, unless the environment says where."""
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        keep_compilations(CACHE)


def keep_compilations(folder: str) -> None:
    """Compiled programs are kept in `folder`, and read from there by the next run."""
    import jax

    jax.config.update("jax_compilation_cache_dir", os.path.expanduser(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)


def attempt(work, stopped: str) -> int:
    """Calls `work()`; what the user can mend is one message, and so is Ctrl-C.

    Args:
      work: prints what it has to say.
      stopped: what Ctrl-C leaves behind, in words.

    Returns:
      The exit code: 0, 1 for a mistake, 130 where it was stopped.
    """
    try:
        work()
    except UserError as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\nstopped; {stopped}.", file=sys.stderr)
        return 130
    return 0
