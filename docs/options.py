"""Every option of a run as tables, from the code and the comments of mmer_jax/configuration.py.

As a Sphinx extension it replaces `<!-- options -->` in a page; `python docs/options.py` prints the
same. An option without a comment ends either with an error.
"""

import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from mmer_jax import configuration
from mmer_jax.options import TYPES, explanations, grouped, limits

MARK = "<!-- options -->"


def tables() -> str:
    """Markdown: a heading and a table for each group of options.

    Raises:
      ValueError: an option without a comment.
    """
    said, allowed = explanations(), limits()
    lines = []
    for title, options in grouped().items():
        lines += [f"## {title}", "", "| option | default | allowed | what |", "|-|-|-|-|"]
        for option, default in options.items():
            limit = allowed.get(option, TYPES[type(default)])
            lines.append(f"| `{option}` | `{default!r}` | {limit} | {_plain(said[option])} |")
        lines.append("")
    return "\n".join(lines)


def _plain(comment):
    """A comment as Markdown: no HTML, no emphasis, outside of its code."""
    parts = re.split(r"(`[^`]*`)", comment)
    escaped = (re.sub(r"([<>*|\[\]\\])", r"\\\1", p) for p in parts[::2])
    return "".join(a + b for a, b in zip(escaped, [*parts[1::2], ""]))


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
