"""Arrows between the package's modules point one way; what they import is required by setup.py."""

import ast
import pathlib
import re
import sys
from importlib import metadata

import mmer_jax

ROOT = pathlib.Path(mmer_jax.__file__).parent
# Each knows itself and those before it. The registries are plain data: the configuration's options
# derive from them. A new module or folder takes its place here.
ORDER = (
    "errors", "files", "plain", "losses.__init__", "metrics.__init__", "models.encoders.__init__",
    "configuration", "options", "processes", "cli", "config_file", "data", "ops", "models",
    "losses", "metrics", "results", "runs", "demo", "convert", "augmentation", "training",
    "reporting", "inference", "__init__", "predict", "transcribe", "augment", "evaluate",
    "baselines", "analyze", "compare", "export", "app", "main", "ablate", "prepare", "doctor",
    "__main__",
)  # fmt: skip
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in ROOT.rglob("*.py")
}


def imported(path):
    """Modules of this package that a file imports, at its top or later."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mmer_jax"):
            names = [f"{node.module}.{a.name}" for a in node.names]
        elif isinstance(node, ast.Import):
            names = [a.name for a in node.names if a.name.startswith("mmer_jax")]
        for name in names:
            tail = name.split(".")[1:]
            whole, owner, package = (
                ".".join(tail),
                ".".join(tail[:-1]),
                ".".join([*tail, "__init__"]),
            )
            within = f"{owner}.__init__" if owner else "__init__"
            yield next(m for m in (whole, owner, package, within) if m in MODULES)


def rank(module):
    """Place in `ORDER`, of a module or else of its folder."""
    return ORDER.index(module if module in ORDER else module.split(".")[0])


def test_every_arrow_points_to_a_module_before():
    climbing = [
        f"{module} imports {other}"
        for module, path in sorted(MODULES.items())
        for other in imported(path)
        if rank(other) > rank(module)
    ]
    assert climbing == []


def test_no_module_imports_itself_by_way_of_others():
    left = {module: set(imported(path)) - {module} for module, path in MODULES.items()}
    while left:
        free = {module for module, needed in left.items() if not needed & left.keys()}
        assert free, f"a cycle is among {sorted(left)}"
        left = {module: needed for module, needed in left.items() if module not in free}


def third_party(paths):
    """Packages that files import."""
    tree = [node for path in paths for node in ast.walk(ast.parse(path.read_text()))]
    names = {n.module for n in tree if isinstance(n, ast.ImportFrom) and n.module and not n.level}
    names |= {a.name for n in tree if isinstance(n, ast.Import) for a in n.names}
    return {name.split(".")[0] for name in names} - sys.stdlib_module_names - {"mmer_jax"}


def test_what_is_imported_is_required():
    """Others' requirements bring it today, and another version of theirs may not."""
    builders = (ROOT.parent / "datasets").rglob("*.py")
    paths = [path for path in builders if not re.search(r"_test|conftest", path.stem)]
    packages = third_party([*MODULES.values(), *paths])
    listed = re.findall(r'"([\w.-]+)(?:\[\w+\])?[><=]', (ROOT.parent / "setup.py").read_text())
    required = {_normalized(name) for name in listed}
    owners = metadata.packages_distributions()
    lacking = {p for p in packages if not required & {*map(_normalized, owners.get(p, [p]))}}
    assert lacking == set()


def _normalized(name):
    return re.sub(r"[-_.]+", "-", name).lower()
