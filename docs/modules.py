"""The modules of a package from their docstrings, wherever a page says `<!-- modules NAME -->`."""

import importlib
import pkgutil
import re

MARK = re.compile(r"<!-- modules ([\w. ]+) -->")
_CODE = re.compile(r"(``.*?``|`[^`]*`)")


def _names(package):
    """The package, if it says something, and the modules right in it; a module for itself."""
    found = importlib.import_module(package)
    below = [package] if (found.__doc__ or "").strip() else []
    infos = pkgutil.iter_modules(getattr(found, "__path__", ()), package + ".")
    return below + [info.name for info in infos if not info.ispkg]


def _section(name):
    return (
        f"## {name}\n\n```{{eval-rst}}\n.. automodule:: {name}\n   :members:\n"
        "   :exclude-members: setup, parent, name, scope\n```\n"
    )


def _insert(app, docname, source):
    def sections(match):
        return "\n".join(_section(n) for package in match[1].split() for n in _names(package))

    source[0] = MARK.sub(sections, source[0])


def _as_rst(app, what, name, obj, options, lines):
    """Escapes what reStructuredText takes for markup in plain prose: `|x|`, `x_`, a plural `x`s."""
    for number, line in enumerate(lines):
        parts = _CODE.split(line)
        parts[::2] = [re.sub(r"(?<=\w)_(?!\w)|\|", r"\\\g<0>", p) for p in parts[::2]]
        for after in range(2, len(parts), 2):
            parts[after] = re.sub(r"^(?=\w)", r"\\ ", parts[after])
        lines[number] = "".join(parts)


def setup(app):
    """What Sphinx calls."""
    app.connect("source-read", _insert)
    app.connect("autodoc-process-docstring", _as_rst, priority=400)  # before napoleon's 500
    return {"parallel_read_safe": True}
