"""The old name of `mmer_jax.convert.original`, for commands and config files that have it."""

import sys

from mmer_jax.convert.original import LABELS, load, load_config, main, reorder

__all__ = ["LABELS", "load", "load_config", "main", "reorder"]

if __name__ == "__main__":
    print("mmer_jax.convert.released is mmer_jax.convert.original now.", file=sys.stderr)
    sys.exit(main())
