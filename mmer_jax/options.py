"""Every option of a run explained, by the comments of mmer_jax/configuration.py."""

import ast
import inspect
import io
import textwrap
import tokenize

from mmer_jax import configuration
from mmer_jax.losses import LOSSES

# What the names inside of a group mean; the comment beside the group says of what.
PARTS = {
    "weight": "weight in the total loss; 0 switches it off",
    "class_weights": "`balanced` counts each utterance by n / (classes * utterances of its class), "
    "of the n that are trained on",
    "normalization": "of -log p(transcript): `utterance` averages it over utterances, `symbol` "
    "divides each by its symbols first, `sum` adds it up over the batch",
    "alphabet": "`english`, wav2vec2's 32 symbols, or `corpus`, the characters that the corpus' "
    "transcripts have, for other languages",
    "form": "`standard`, as the field has it, or `original`, as the authors' code does",
    "temperature": "divides the similarities",
    "width": "width of its states",
    "layers": "number of its blocks",
    "heads": "attention heads of a block; a divisor of the width",
    "ffn": "width inside a feed-forward block",
    "dropout": "dropout rate",
}
TYPES = {bool: "`True`, `False`", int: "whole number", float: "number", str: "text", tuple: "tuple",
         dict: "dictionary"}  # fmt: skip
TITLES = {
    "": "The run",
    "data": "Data",
    "audio": "Audio encoder",
    "text": "Text encoder",
    "model": "Model",
    "losses": "Losses",
    "optimizer": "Optimiser",
    "train": "Training",
    "mesh": "Devices",
}
_INDENT = {"initial_indent": " " * 8, "subsequent_indent": " " * 8}


def listing() -> str:
    """All options with their defaults, allowed values and comments, for a terminal."""
    said, allowed = explanations(), limits()
    lines = ["options of the run, --config.OPTION=VALUE; tuples and dictionaries in quotes:"]
    for title, options in grouped().items():
        lines += ["", f"{title}:"]
        for option, default in options.items():
            limit = allowed.get(option, TYPES[type(default)])
            text = f"{said[option]} [{limit}; default {default!r}]".replace("`", "")
            lines += [f"  --config.{option}", *textwrap.wrap(text, 78, **_INDENT)]
    return "\n".join(lines) + "\n"


def grouped() -> dict[str, dict[str, object]]:
    """Title of a group -> its options and their defaults, in the code's order."""
    found = {title: {} for title in TITLES.values()}
    for option, default in ordered().items():
        found[TITLES[option.split(".")[0] if "." in option else ""]][option] = default
    return found


def ordered() -> dict[str, object]:
    """Option -> default, of every option there is, in the code's order: a ConfigDict sorts them."""
    written = list(_written())
    found = configuration.flat(configuration.default())
    return dict(sorted(found.items(), key=lambda x: _place(x[0], written)))


def _place(option, written):
    parents = [i for i, w in enumerate(written) if option == w or option.startswith(w + ".")]
    part = option.split(".")[-1]
    return (parents or [len(written)])[0], list(PARTS).index(part) if part in PARTS else 0


def explanations() -> dict[str, str]:
    """Option -> what it does, in Markdown.

    Raises:
      ValueError: one has no comment.
    """
    written, said, missing = _written(), {}, []
    for option in ordered():
        group, _, part = option.rpartition(".")
        if option in written:
            said[option] = written[option]
        elif written.get(group) and part in PARTS:
            said[option] = f"{PARTS[part]} ({written[group]})"
        elif group.startswith("losses."):
            said[option] = f"see its function ({written[group]})"
        if not said.get(option):
            missing.append(option)
    if missing:
        raise ValueError(
            f"No comment beside {', '.join(missing)} in mmer_jax/configuration.py: write what it "
            "does behind it, or in the lines above."
        )
    return said


def _written():
    """Name as assigned in `default()` -> its comment, or ""."""
    source = inspect.getsource(configuration)
    comments = _comments(source)
    body = next(n for n in ast.parse(source).body if getattr(n, "name", "") == "default").body
    names, found = {"c": ""}, {}
    for statement in body:
        if not isinstance(statement, ast.Assign):
            continue
        path = [_path(t, names) for t in statement.targets if isinstance(t, ast.Attribute)]
        for target in statement.targets:
            if isinstance(target, ast.Name):
                names[target.id] = path[0] + "." if path else ""
        if path and not ast.unparse(statement.value).endswith("ConfigDict()"):
            found[path[0]] = _comment(statement, comments)
    return {f"losses.{name}": loss.title for name, loss in LOSSES.items()} | found


def _path(target, names):
    """`data.dir` of the target `data.dir`, `losses.ce` of `losses.ce`, `seed` of `c.seed`."""
    return names[target.value.id] + target.attr


def _comments(source):
    """Line -> (comment, whether it stands alone)."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {
        t.start[0]: (t.string.lstrip("# "), not t.line[: t.start[1]].strip())
        for t in tokens
        if t.type == tokenize.COMMENT
    }


def _comment(statement, comments):
    """What stands behind a statement, or in the lines right above it."""
    behind = [comments[i][0] for i in range(statement.lineno, statement.end_lineno + 1)
              if i in comments]  # fmt: skip
    if behind:
        return " ".join(behind)
    above, line = [], statement.lineno - 1
    while line in comments and comments[line][1]:
        above.insert(0, comments[line][0])
        line -= 1
    return " ".join(above)


def limits() -> dict[str, str]:
    """Option -> what `validate` allows, where that is a list of choices or a range."""
    choices = {o: ", ".join(f"`{x}`" for x in c) for o, c in configuration.CHOICES.items()}
    return choices | {o: f"{low} to {high}" for o, (low, high) in configuration.RANGES.items()}
