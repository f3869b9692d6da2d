"""Exports a trained fold as a model folder: `python -m mmer_jax.export WORKDIR OUT`."""

import argparse
import os
import sys

from tqdm import tqdm

from mmer_jax import cli, files
from mmer_jax.errors import UserError


def run(source: str, out: str, fold: int | None = None, seed: int | None = None,
        stablehlo: bool = False, seconds=(), rows: int = 1) -> dict[str, int]:  # fmt: skip
    """Writes the folder; what the command does, for notebooks.

    Args:
      source: workdir of a run of `mmer_jax.main`, or the folder of one of its folds.
      out: a new folder.
      fold: number of the fold to take; None: the only one.
      seed: whose; None: the only one.
      stablehlo: whether to add programs that run without this package.
      seconds, rows: see `inference.stablehlo.buckets_of`.

    Returns:
      Path below `out` -> bytes, of every file.

    Raises:
      UserError: no such run or fold, several to choose from, or `out` is taken.
    """
    folder = fold_folder(source, fold, seed)
    _say(f"reading the model of {folder} ...")
    # Imported late: a wrong option is reported at once, without seconds of imports.
    from mmer_jax.inference import model_card
    from mmer_jax.inference import stablehlo as programs
    from mmer_jax.training import checkpoint_io

    with files.new_folder(out) as made:
        model = checkpoint_io.read_fold(folder)
        buckets = programs.buckets_of(model, seconds, rows) if stablehlo else ()
        checkpoint_io.write(model, made, model_card.markdown(model))
        if stablehlo:
            _say(f"exporting programs of {len(buckets)} shapes; this takes a while ...")
            programs.export(model, made, buckets)
    return _sizes(files.resolve(out))


def fold_folder(source: str, fold: int | None = None, seed: int | None = None) -> str:
    """The folder of the one finished fold that is meant.

    Raises:
      UserError: none is finished, or several are, with the choices.
    """
    from mmer_jax import runs

    source = files.resolve(source)
    if files.exists(os.path.join(source, "result.json")):
        if fold is not None or seed is not None:
            raise UserError(f"{source} is one fold already; leave out --fold and --seed.")
        return source
    folds = runs.read(source).folds
    meant = [f for f in folds if fold in (None, f.result.fold)]
    meant = [f for f in meant if seed in (None, f.result.seed)]
    if len(meant) != 1:
        asked = {"fold": fold, "seed": seed}
        asked = " and ".join(f"{k} {v}" for k, v in asked.items() if v is not None)
        several = f"{len(meant)} finished folds {f'of {asked} ' if asked else ''}are in"
        seeds, numbers = (sorted({f.result.key[i] for f in folds}) for i in (0, 1))
        choices = f"--fold={'|'.join(map(str, numbers))}"
        choices += f" and --seed={'|'.join(map(str, seeds))}" if len(seeds) > 1 else ""
        raise UserError(
            f"{several if meant else f'No finished fold is {asked} in'} {source}. Choose one: "
            f"{choices}"
        )
    return meant[0].folder


def _sizes(folder):
    paths = (os.path.join(at, name) for at, _, names in os.walk(folder) for name in names)
    return {os.path.relpath(p, folder): os.path.getsize(p) for p in sorted(paths)}


def _say(text):
    print(text, flush=True)


def _parser():
    parser = cli.Parser(prog="python -m mmer_jax.export", description=__doc__)
    parser.add_argument("source", metavar="WORKDIR", help=f"{cli.RUN}, or a fold's folder")
    parser.add_argument("out", metavar="OUT", help="a new folder")
    parser.add_argument("--fold", type=int, help="which fold, where several are finished")
    parser.add_argument("--seed", type=int, help="which seed, where several are finished")
    parser.add_argument(
        "--stablehlo", action="store_true", help="add programs that run without this package"
    )
    parser.add_argument(
        "--seconds", type=_numbers, metavar="S,S,...",
        help="lengths of audio of the programs; default: 2,4,8 and the longest trained on",
    )  # fmt: skip
    parser.add_argument("--batch", type=int, help="utterances per call of a program; default: 1")
    return parser


def _numbers(text):
    try:
        return tuple(float(x) for x in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected seconds with commas between, found {text!r}"
        ) from None


def main(argv: list[str] | None = None) -> int:
    """The command; 1 and one message where something is wrong."""
    parser = _parser()
    args = parser.parse_args(argv)
    if not args.stablehlo and not (args.seconds is None and args.batch is None):
        parser.error("--seconds and --batch are options of --stablehlo, which is missing")
    rows = 1 if args.batch is None else args.batch

    def work():
        where = args.source, args.out, args.fold, args.seed
        sizes = run(*where, args.stablehlo, args.seconds or (), rows)
        for path, size in sizes.items():
            _say(f"  {tqdm.format_sizeof(size, 'B'):>7}  {path}")
        _say(f"Written to {args.out}: {tqdm.format_sizeof(sum(sizes.values()), 'B')}")

    return cli.attempt(work, "nothing was written", args.out)


if __name__ == "__main__":
    sys.exit(main())
