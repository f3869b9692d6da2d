"""The config that a command line names and changes: --config=demo:audio_only --config.seed=1."""

import argparse
import ast
import functools
import importlib.util
import inspect
import os
import pathlib
import re
import sys
import traceback

import ml_collections

from mmer_jax import cli, configuration, files
from mmer_jax.errors import UserError, first_line

HELP = "a config by its name ({}) or a file, and a variant behind a colon: demo:audio_only"
_TRUTHS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}


class Parser(cli.Parser):
    """Of a command with --config and --config.OPTION, each of which its --help explains."""

    def __init__(self, **options):
        super().__init__(allow_abbrev=False, **options)
        about = HELP.format(", ".join(names()))
        self.add_argument("--config", metavar="NAME[:VARIANT]", help=about)

    def format_help(self):
        """Argparse's, and all options of a run."""
        from mmer_jax import options

        return f"{super().format_help()}\n{options.listing()}"

    def parse(self, argv: list[str] | None = None):
        """The arguments and the config, locked and not yet validated.

        Args:
          argv: without the program's name; None: the process's.

        Raises:
          SystemExit: a mistake, told, or --help.
        """
        try:
            argv, notices = configuration.rename_arguments(sys.argv[1:] if argv is None else argv)
            for notice in notices:
                print(notice, file=sys.stderr)
            rest, changes = _split(argv)
            args = self.parse_args(rest)
            if not args.config:
                self.error(f"--config is missing; name one of {', '.join(names())}, or a file.")
            config = load(args.config).lock()
            for option, texts in changes.items():
                _set(config, option, texts)
        except UserError as e:
            self.error(e)
        return args, config


def names() -> list[str]:
    """Of the configs that come with the package."""
    return sorted(path.stem for path in pathlib.Path(files.shipped("configs")).glob("*.py"))


def load(name: str) -> ml_collections.ConfigDict:
    """The config of a name or a file, and a variant behind a colon.

    Raises:
      UserError: no such config or variant, or the file can't be run.
    """
    name, colon, variant = name.partition(":")
    path = name
    if name in names() and not os.path.isfile(name):
        path = os.path.join(files.shipped("configs"), f"{name}.py")
    if not os.path.isfile(path):
        raise UserError(
            f"There is no config {name}; the names are {', '.join(names())}, and a file of one's "
            "own is named by its path."
        )
    spec = importlib.util.spec_from_file_location("config", path)
    if spec is None:
        raise UserError(f"The config {path} is no Python file; its name must end in .py.")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        takes = inspect.signature(module.get_config).parameters
        if needs := [p for p in takes.values() if p.default is p.empty and not colon]:
            raise UserError(f"The config {name} needs a {needs[0].name} behind a colon.")
        if colon and not takes:
            raise UserError(f"The config {name} has no variants; found {variant!r} behind a colon.")
        config = module.get_config(*[variant] * bool(colon))
        if not isinstance(config, ml_collections.ConfigDict):
            raise TypeError(f"get_config gives a {type(config).__name__}")
        return config
    except UserError:
        raise
    except Exception as e:  # of the user's code, whatever it is
        raise UserError(
            f"The config {path} can't be made ({type(e).__name__}: {first_line(e)}"
            f"{_line_of(e, path)}). Expected a function get_config that takes the variant, if "
            "there is one, and gives a config: that of configuration.default(), changed."
        ) from e


def _line_of(error, path):
    """Where in a file an error comes from, in words; "" where nobody knows."""
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == path]
    return f", line {lines[-1]}" if lines else ""


def _split(argv):
    """(Other arguments, option -> its values as texts) of a command line."""
    known = configuration.flat(configuration.default())
    rest, changes, left = [], {}, list(argv)
    while left:
        argument = left.pop(0)
        if not (found := re.match(r"--(no)?config\.([^=]+)(=(?s:(.*)))?$", argument)):
            rest.append(argument)
            continue
        no, option, given, value = found.groups()
        if option not in known:
            raise configuration.unknown(option)
        if not given:
            is_switch = isinstance(known[option], bool)
            value = str(not no) if is_switch else left.pop(0) if left else ""
        changes.setdefault(option, []).append(value)
    return rest, changes


def _set(config, option, texts):
    """Gives an option the last of its values, or a tuple all of them."""
    default = configuration.flat(configuration.default())[option]
    try:
        values = [_value(text, default) for text in texts]
    except (KeyError, SyntaxError, TypeError, ValueError, AttributeError, RecursionError,
            MemoryError):  # fmt: skip
        raise UserError(
            f"config.{option} is {texts[-1]!r:.200}; expected {_EXPECTED[type(default)]}."
        ) from None
    *groups, last = option.split(".")
    group = functools.reduce(getattr, groups, config)
    setattr(group, last, sum(values, ()) if isinstance(default, tuple) else values[-1])


_EXPECTED = {
    bool: "True or False", int: "a whole number", float: "a number",
    tuple: "a tuple in quotes, such as '(1, 2)' or '(\"a\", \"b\")'",
    dict: "a dictionary in quotes, such as '{\"exc\": \"hap\"}'",
}  # fmt: skip


def _value(text, default):
    """An option's value from its text, of the kind that its default is of."""
    if isinstance(default, str):
        return text
    if isinstance(default, bool):
        return _TRUTHS[text.lower()]
    if isinstance(default, int | float):
        return type(default)(text)
    if isinstance(default, dict):
        return ml_collections.ConfigDict(ast.literal_eval(text))
    try:
        value = ast.literal_eval(text)
    except (SyntaxError, ValueError):
        if re.search(r"[\s,]", text):
            raise
        value = text  # a word or a pattern as it is
    return tuple(value) if isinstance(value, tuple | list) else (value,)


def truth(text: str) -> bool:
    """The `type` of a switch that may also be said as --switch=false."""
    if text.lower() not in _TRUTHS:
        raise argparse.ArgumentTypeError(f"expected true or false, found {text!r}")
    return _TRUTHS[text.lower()]
