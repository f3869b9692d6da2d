"""Every option of a run as tables, from the code and the comments of mmer_jax/configuration.py.

As a Sphinx extension it replaces `<!-- options -->` in a page; `python docs/options.py` prints the
same. An option without a comment ends either with an error.
"""

import ast
import inspect
import io
import pathlib
import re
import sys
import tokenize

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from mmer_jax import configuration
from mmer_jax.losses import LOSSES

MARK = "<!-- options -->"
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


def tables() -> str:
    """Markdown: a heading and a table for each group of options.

    Raises:
      ValueError: an option without a comment.
    """
    defaults, said, allowed = ordered(), explanations(), limits()
    lines = []
    for group, title in TITLES.items():
        options = [o for o in defaults if (o.split(".")[0] if "." in o else "") == group]
        lines += [f"## {title}", "", "| option | default | allowed | what |", "|-|-|-|-|"]
        for option in options:
            default = defaults[option]
            limit = allowed.get(option, TYPES[type(default)])
            lines.append(f"| `{option}` | `{default!r}` | {limit} | {_plain(said[option])} |")
        lines.append("")
    return "\n".join(lines)


def _plain(comment):
    """A comment as Markdown: no HTML, no emphasis, outside of its code."""
    parts = re.split(r"(`[^`]*`)", comment)
    escaped = (re.sub(r"([<>*|\[\]\\])", r"\\\1", p) for p in parts[::2])
    return "".join(a + b for a, b in zip(escaped, [*parts[1::2], ""]))


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


def _insert(app, docname, source):
    if MARK in source[0]:
        app.env.note_dependency(configuration.__file__)
        source[0] = source[0].replace(MARK, tables())


def setup(app):
    """What Sphinx calls."""
    app.connect("source-read", _insert)
    return {"parallel_read_safe": True}


if __name__ == "__main__":
    try:
        print(tables())
    except ValueError as e:
        sys.exit(f"error: {e}")
