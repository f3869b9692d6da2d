"""Damaged configs: files, options on the command line, config.json of runs."""

import contextlib
import copy
import io
import json
import pathlib

import ml_collections
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmer_jax import config_file, configuration, plain
from mmer_jax.errors import UserError
from tests.inputs import damage, guard
from tests.inputs.guard import KNOWN, REFUSED, Damaged

ROOT = pathlib.Path(__file__).resolve().parents[2]
OPTIONS = configuration.flat(configuration.default())
TEXTS = (
    "", " ", "0", "1", "-1", "1.5", "nan", "inf", "-inf", "1e308", "1e999", "9" * 400, "9" * 5000,
    "true", "maybe", "()", "(1,)", "(1, 1)", "('a', 'a')", "([1],)", "({},)", "{[]: 1}", "{1: 2}",
    "{'a': 'b'}", "{'a.b': 'c'}", "[", "(" * 300, "[" * 150 + "]" * 150, "-" * 100_000 + "1", "\0",
    "('a', (1e999,))", "(('(', 1.0),)", "(('a{9999999999}', 1.0),)", "((('a',),),)", "('(a+)+$',)",
    "__import__('os').abort()", "lambda: 1", "{1, 2}", "b'x'", "...", "None", "x" * 100_000,
    "../../canary", "/dev/zero", "é", "\udcff", "original", "audio", "('audio',)",
    "('text', 'text')",
)  # fmt: skip


def check(config):
    """Whatever was accepted can be written, read again and distinguished from others."""
    again = configuration.from_json(configuration.to_json(config))
    assert configuration.fingerprint(again) == configuration.fingerprint(config)
    json.dumps(configuration.to_json(config), allow_nan=False)
    for option, value in configuration.flat(config).items():
        kind = type(OPTIONS[option])
        assert isinstance(value, (list, tuple) if kind is tuple else (int, float)
                          if kind is float else kind), option  # fmt: skip


def parsed(arguments):
    """The config of a command line; UserError where the command would end with a message."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            _, config = config_file.Parser(prog="x").parse(arguments)
    except SystemExit as e:
        assert e.code == 1 and said.getvalue().count("error: ") == 1
        raise UserError(said.getvalue()) from e
    return configuration.validate(config)


@st.composite
def command_lines(draw):
    """An option, known or not, and a value of any kind, in any of argparse's spellings."""
    option = draw(st.one_of(
        st.sampled_from(sorted(OPTIONS)), st.sampled_from(sorted(OPTIONS)),
        st.sampled_from(("train.epoch", "data", "", ".", "a.b.c", "x" * 1000, "losses.ctc.form",
                         "__class__", "\0", "data.label_map.a")), st.text(max_size=20),
    ))  # fmt: skip
    text = draw(st.one_of(st.sampled_from(TEXTS), st.sampled_from(TEXTS), st.text(max_size=20)))
    way = draw(st.sampled_from(("=", "=", "=", " ", "twice", "no")))
    arguments = {
        "=": [f"--config.{option}={text}"], " ": [f"--config.{option}", text],
        "twice": [f"--config.{option}={text}"] * 2, "no": [f"--noconfig.{option}"],
    }[way]  # fmt: skip
    known = option in OPTIONS or option == "losses.ctc.form"
    return Damaged(["--config=demo", *arguments], repr(arguments)[:200], "" if known else REFUSED)


def test_options_on_the_command_line():
    expected = configuration.to_json(parsed(["--config=demo"]))

    @given(command_lines())
    def run(damaged):
        guard.judge("config: --config.OPTION", damaged, lambda: parsed(damaged.data),
                    lambda x: configuration.to_json(x) == expected, check)  # fmt: skip

    run()


def test_config_json():
    """As a run or a model folder has it, of this version and of one before."""
    old = json.loads((ROOT / "tests" / "golden" / "old_configs.json").read_text())
    good = [configuration.to_json(parsed(["--config=demo"])), old["demo:default"]["config"]]
    expected = [configuration.to_json(configuration.from_json(x)) for x in good]

    def read(data):
        try:
            return configuration.from_json(plain.parse(data.decode()))
        except ValueError as e:
            raise UserError(f"not JSON: {e}") from e  # as `plain.read` says

    strategy = st.one_of(
        *(damage.damaged_json(x) for x in good),
        *(damage.damaged_bytes(json.dumps(x).encode()) for x in good),
    )

    @given(strategy)
    def run(damaged):
        guard.judge("config: config.json", damaged, lambda: read(damaged.data),
                    lambda x: configuration.to_json(x) in expected, check)  # fmt: skip

    run()


OBJECTS = (
    None, 0, -1, 1.5, float("nan"), float("inf"), 10**400, "", "x", "\0", (), (1,), ("a",), [1], {},
    {"a": 1}, {1: 2}, {"a": "b"}, ml_collections.ConfigDict(), object(), len, b"x", {1}, ("a", "a"),
    ((),), ([],), True, 2**31, "x" * 100_000,
)  # fmt: skip


@st.composite
def configs(draw):
    """A config as a file's own code may make it: any object in any place, or a place gone."""
    config, how = config_file.load("demo"), []
    for _ in range(draw(st.integers(1, 2))):
        flat = configuration.flat(config)
        option = draw(st.sampled_from([*flat, "data", "losses", "audio", "audio.size", "new"]))
        *groups, last = option.split(".")
        group = config
        for name in groups:
            group = getattr(group, name, ml_collections.ConfigDict())
        if not isinstance(group, ml_collections.ConfigDict):
            continue
        if draw(st.integers(0, 4)) and last in group:
            value = draw(st.sampled_from(OBJECTS))
            with contextlib.suppress(OverflowError), group.ignore_type():
                group[last] = copy.copy(value)
            how.append(f"{option} = {value!r:.40}")
        elif last in group:
            del group[last]
            how.append(f"{option} gone")
        else:
            group[last] = 1
            how.append(f"{option} new")
    return Damaged(config, "; ".join(how), KNOWN if "gone" in how or "new" in how else "")


def test_configs_of_a_file():
    expected = configuration.to_json(parsed(["--config=demo"]))

    @given(configs())
    def run(damaged):
        guard.judge("config: of a file", damaged, lambda: configuration.validate(damaged.data),
                    lambda x: configuration.to_json(x) == expected, check)  # fmt: skip

    run()


FILES = {
    "a syntax error": "def get_config(:\n", "no function": "x = 1\n",
    "a name that is none": "def get_config():\n    return nowhere\n",
    "no config": "def get_config():\n    return 1\n", "raises": "def get_config():\n    1 / 0\n",
    "no module": "import no_such_module_at_all\n", "a class": "class get_config: pass\n",
    "needs two": "def get_config(a, b):\n    return 1\n",
    "endless": "def get_config():\n    return get_config()\n",
    "raises at once": "raise RuntimeError('multi\\nline')\n", "empty": "", "NUL": "\0",
    "an empty config": "import ml_collections\ndef get_config():\n    return "
                       "ml_collections.ConfigDict()\n",
}  # fmt: skip


@pytest.mark.parametrize("how", FILES)
def test_config_files(how, tmp_path):
    (tmp_path / "c.py").write_text(FILES[how])
    for name in (f"{tmp_path}/c.py", f"{tmp_path}/c.py:x"):
        guard.judge("config: files", Damaged(name, how, REFUSED),
                    lambda n=name: parsed([f"--config={n}"]), lambda x: False)  # fmt: skip


def test_config_files_of_any_bytes(tmp_path_factory):
    """Damaged Python is not run here: of what can be compiled, no more is asked than that."""
    path = tmp_path_factory.mktemp("config") / "c.py"

    def compiles(data):
        try:
            compile(data, "c.py", "exec")
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            return False
        return True

    source = (ROOT / "configs" / "demo.py").read_bytes()

    @given(damage.damaged_bytes(source).filter(lambda x: not compiles(x.data)))
    def run(damaged):
        path.write_bytes(damaged.data)
        must = Damaged(damaged.data, damaged.how, REFUSED)
        guard.judge("config: files", must, lambda: parsed([f"--config={path}"]),
                    lambda x: False)  # fmt: skip

    run()
