"""Puts two finished runs side by side: `python -m mmer_jax.compare A B`.

A and B are workdirs of mmer_jax.main, or folders that mmer_jax.evaluate wrote below one, such as
runs/demo/text_none, tested on the same utterances.
"""

import os
import sys

from mmer_jax import cli, files
from mmer_jax.errors import UserError


def run(a: str, b: str, out: str = "") -> str:
    """Writes the comparison of B with A; what the command does, for notebooks.

    Args:
      a, b: workdirs of finished runs, or folders that `mmer_jax.evaluate` wrote.
      out: folder for the files; empty: `compare_<A's name>` in B.

    Returns:
      The text of compare.md.

    Raises:
      UserError: no finished run there, two that were not tested on the same utterances, or `out`
        can't be written.
    """
    # Imported late: a wrong option is reported at once, without seconds of imports.
    from mmer_jax import configuration, runs
    from mmer_jax.reporting import paired

    a, b = (name.rstrip("/") or "/" for name in (a, b))
    if files.resolve(a) == files.resolve(b):
        raise UserError(f"A and B are both {a}; expected two different runs.")
    (run_a, first), (run_b, second) = map(runs.read_results, (a, b))
    first, second = paired.pair(first, second)
    options = configuration.differences(*(configuration.to_json(r.config) for r in (run_a, run_b)))
    content = paired.render(paired.compare(first, second), a, b, options)
    out = out or os.path.join(b, f"compare_{os.path.basename(a)}")
    files.replace_results(files.resolve(out), content, content["compare.md"])
    return content["compare.md"]


def main(argv: list[str] | None = None) -> int:
    """The command; 1 and one message where something is wrong."""
    parser = cli.Parser(prog="python -m mmer_jax.compare", description=__doc__)
    parser.add_argument("a", metavar="A", help=f"{cli.RUN}, or a folder of evaluate in it")
    parser.add_argument("b", metavar="B", help="another one, tested on the same utterances")
    parser.add_argument("--out", default="", help="folder for the files; default: B/compare_A")
    args = parser.parse_args(argv)

    def work():
        print(run(**vars(args)))

    return cli.attempt(work, "nothing was written")


if __name__ == "__main__":
    sys.exit(main())
