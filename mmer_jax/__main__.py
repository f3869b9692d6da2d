"""The command `mmer`: each of its subcommands is `python -m mmer_jax.MODULE`."""

from __future__ import annotations  # see `cli`

import difflib
import importlib
import sys

import mmer_jax
from mmer_jax import cli

# Subcommand -> module and what it does.
COMMANDS = {
    "train": ("main", "train and cross-validate"),
    "data": ("prepare", "generate the demo corpus, prepare a corpus for training"),
    "predict": ("predict", "predict the emotion of recordings"),
    "evaluate": ("evaluate", "test a run without transcripts or on another corpus"),
    "analyze": ("analyze", "draw and explain a run"),
    "compare": ("compare", "put two runs side by side"),
    "baselines": ("baselines", "what simple classifiers reach on a run's folds"),
    "ablate": ("ablate", "what each part is worth"),
    "augment": ("augment", "make a corpus' augmented views"),
    "transcribe": ("transcribe", "write down what is said"),
    "export": ("export", "write a fold as a model folder"),
    "convert": ("convert.original", "convert a checkpoint of the authors' code"),
    "app": ("app", "a page in the browser that predicts"),
    "doctor": ("doctor", "versions, devices, disk and encoders in reach"),
}


def _usage():
    commands = "\n".join(f"  {name:<12}{about}" for name, (_, about) in COMMANDS.items())
    return (
        "usage: mmer COMMAND ..., with COMMAND one of\n\n"
        f"{commands}\n\nmmer COMMAND --help lists its options; mmer --version says the version."
    )


def main(argv: list[str] | None = None) -> int:
    """The command; what the subcommand returns."""
    cli.check_python()
    argv = sys.argv[1:] if argv is None else argv
    name, rest = (argv or ["--help"])[0], argv[1:]
    if name in ("-h", "--help"):
        print(_usage())
        return 0
    if name == "--version":
        print(f"mmer_jax {mmer_jax.__version__}")
        return 0
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, 1)
        meant = f" Is {near[0]} meant?" if near else ""
        choices = ", ".join(COMMANDS)
        print(f"error: There is no command {name}; they are: {choices}.{meant}", file=sys.stderr)
        return 1
    cli.PROGRAM = f"mmer {name}"
    return importlib.import_module(f"mmer_jax.{COMMANDS[name][0]}").main(rest)


if __name__ == "__main__":
    sys.exit(main())
