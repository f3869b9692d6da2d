"""The documentation: its commands parse and its pages build.

Started as a program it reads commands from stdin and says which of them can't be parsed: what
imports everything stays out of the tests' own process.
"""

import argparse
import contextlib
import importlib.util
import io
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
from html import unescape

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^ *```(\S*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
PROGRAMS = r"(?:\.venv/bin/)?(?:python|mmer|make|pip|tfds|hf|tensorboard|ffmpeg|sed|git) "

# Who runs a command: each documented one begins with one of these; the longest counts.
RUN = {
    "python -m mmer_jax.main": "tests/test_main.py::test_end_to_end",
    "python -m mmer_jax.main --config=configs/demo.py": "tests/test_main.py::test_end_to_end",
    "python -m mmer_jax.main --config=configs/demo.py:audio_only":
        "tests/test_main.py::test_one_modality_runs",
    "python -m mmer_jax.main --config=configs/demo.py:text_only":
        "tests/test_main.py::test_one_modality_runs",
    "python -m mmer_jax.main --config=configs/converted.py":
        "tests/convert/test_original.py::test_main_starts_from_the_folder",
    "python -m mmer_jax.main --config=configs/corpus.py":
        "tests/test_own_corpus.py::test_from_a_folder_of_wavs_to_a_table",
    "tfds build datasets/speech_emotion":
        "tests/test_own_corpus.py::test_from_a_folder_of_wavs_to_a_table",
    "python -m mmer_jax.ablate":
        "tests/test_ablate.py::test_the_tables_agree_with_the_runs",
    "python -m mmer_jax.evaluate":
        "tests/test_evaluate.py::test_the_command_writes_what_it_read_beside_the_figures",
    "python -m mmer_jax.baselines":
        "tests/test_baselines.py::test_every_floor_is_tested_on_the_runs_test_utterances",
    "python -m mmer_jax.analyze":
        "tests/test_analyze.py::test_every_picture_is_there_and_in_the_page",
    "python -m mmer_jax.compare":
        "tests/test_compare.py::test_the_command_compares_a_run_with_what_evaluate_wrote",
    "python -m mmer_jax.predict": "tests/test_predict.py::test_a_folder_as_a_table",
    "python -m mmer_jax.transcribe":
        "tests/test_transcribe.py::test_the_file_holds_every_utterance_and_what_it_was_made_with",
    "python -m mmer_jax.augment": "tests/test_augment.py::test_every_utterance_has_its_row",
    "python -m mmer_jax.export": "tests/test_export.py::test_it_is_loaded_by_its_name",
    "python -m mmer_jax.app": "tests/test_app.py::test_the_server_shuts_its_doors",
    "python -m mmer_jax.convert.original":
        "tests/convert/test_original.py::test_the_report_accounts_for_every_key",
    "mmer": "tests/test_commands.py::test_the_front_says_its_version_and_commands",
    "python -m mmer_jax.prepare":
        "tests/test_installed.py::test_it_prepares_trains_and_predicts_from_any_folder",
    "python -m mmer_jax.doctor": "tests/test_commands.py::test_the_doctor_says_what_is_there",
    "python -m mmer_jax.demo.corpus":
        "tests/demo/test_corpus.py::test_another_process_makes_the_same_bytes",
    "python -m benchmarks.parity":
        "tests/benchmarks/test_parity.py::test_equals_the_independent_model",
    "python -m benchmarks.encoders":
        "tests/benchmarks/test_encoders.py::test_equals_pytorch_utterance_by_utterance",
    "python -m benchmarks.speed train":
        "tests/benchmarks/test_speed.py::test_a_case_runs_and_writes_its_numbers",
    "python -m benchmarks.speed mix":
        "tests/benchmarks/test_speed.py::test_a_case_runs_and_writes_its_numbers",
    "python -m benchmarks.speed network":
        "tests/benchmarks/test_speed.py::test_a_case_runs_and_writes_its_numbers",
    "python -m benchmarks.speed cached":
        "tests/benchmarks/test_speed.py::test_frozen_encoders_with_and_without_a_cache",
    "python -m benchmarks.speed recordings":
        "tests/benchmarks/test_speed.py::test_recordings_get_the_same_logits_on_both_sides",
    "python -m benchmarks.speed command":
        "tests/benchmarks/test_speed.py::test_a_command_of_two_checkouts",
    "python -m benchmarks.padding":
        "tests/benchmarks/test_padding.py::test_the_command_writes_its_results",
    "python -m benchmarks.accelerator":
        "tests/benchmarks/test_accelerator.py::test_both_sides_train",
    "python -m benchmarks.load":
        "tests/benchmarks/test_load.py::test_callers_get_their_own_answers",
    "python -m benchmarks.opening":
        "tests/benchmarks/test_opening.py::test_the_command_writes_what_it_found",
    "python -m benchmarks.memory":
        "tests/benchmarks/test_memory.py::test_the_command_writes_what_it_found",
    "python -m benchmarks.intervals":
        "tests/metrics/test_jackknife.py::test_the_command_prints_a_row_per_setting",
    "python -m benchmarks.speech":
        "tests/inference/test_speech.py::test_the_benchmark_counts_what_is_taken_for_no_speech",
    "tfds build": "tests/conftest.py::tfds_build",
}  # fmt: skip
# What no test here can run, and why; one of this repository's is parsed all the same.
NEEDS = {
    "python -m mmer_jax.main --config=configs/iemocap.py": "IEMOCAP",
    "pip install": "a network",
    "pip wheel": "a copy: tests/test_installed.py builds it there",
    "hf": "a network and an account",
    "make": "a network: it installs; its commands are tested one by one",
    "tensorboard": "a browser",
    "ffmpeg": "another program",
}
# Misspelt commands, each with a word of the refusal: were one accepted, the checks check nothing.
WRONG = {
    "python -m mmer_jax.mian --config=configs/demo.py": "no module mmer_jax.mian",
    "python -m mmer_jax.main --config=configs/demo.py --worksdir=x": "worksdir",
    "python -m mmer_jax.main --config=configs/demo.py --config.train.epoch=3": "epoch",
    "python -m mmer_jax.main --config=configs/demo.py --config.folds='(0,)'": "is (0,)",
    "python -m mmer_jax.main --config=configs/demo.py:fancy": "no variant 'fancy'",
    "python -m mmer_jax.main --config=configs/nowhere.py": "nowhere.py",
    "python -m mmer_jax.main --config=configs/demo.py --variants=no_ctc": "variants",
    "python -m mmer_jax.ablate --config=configs/demo.py --variant=x": "variant",
    "python -m mmer_jax.analyze runs/demo --folds=5": "--folds",
    "python -m mmer_jax.analyze": "no arguments",
    "python -m mmer_jax.predict runs/demo/fold5 a.wav --texts=x": "--texts",
    "python -m benchmarks.speed train --step 5": "--step",
    "mmer trian --config=demo": "no command trian",
    "tfds build datasets/iemocap --manual=MANUAL": "--manual",
    "tfds build datasets/iemocup --data_dir=DATA": "no folder datasets/iemocup",
    "make demonstration": "demonstration",
    "make data DEMOS=x": "DEMOS",
    'pip install -e ".[demos]"': "no extra demos",
    "pip install -c constraint.txt -e .": "no file constraint.txt",
}


def commands_of(text):
    """The commands of a page: lines of fenced blocks without a language, and inline code."""
    found = []
    for language, block in FENCE.findall(text):
        if language in ("", "sh", "bash"):
            lines = re.sub(r"\\\n\s*", "", block).splitlines()
            found += [line.strip() for line in lines if line.strip()]
    prose = FENCE.sub("", text)
    inline = (code.replace("\n", " ") for code in re.findall(r"`([^`]+)`", prose))
    found += [code for code in inline if re.match(PROGRAMS, code)]
    found = [
        command for command in found if not command.startswith("|")
    ]  # a table as it is printed
    return [_as_module(re.sub(r"^\.venv/bin/", "", command)) for command in found]


def _as_module(command):
    """`mmer predict ...` as `python -m mmer_jax.predict ...`."""
    from mmer_jax.__main__ import COMMANDS

    program, _, rest = command.partition(" ")
    name, _, rest = rest.partition(" ")
    if program != "mmer" or name not in COMMANDS:
        return command
    return f"python -m mmer_jax.{COMMANDS[name][0]} {rest}".strip()


DOCUMENTED = sorted({c for page in PAGES for c in commands_of(page.read_text(encoding="utf-8"))})


def python_blocks():
    for page in PAGES:
        for language, block in FENCE.findall(page.read_text(encoding="utf-8")):
            if language == "python":
                yield pytest.param(block, id=page.name)


@pytest.fixture(scope="module")
def refused(tmp_path_factory):
    """Command -> why it can't be parsed; "" where it can."""
    converted = tmp_path_factory.mktemp("converted")
    from mmer_jax import configuration

    config = configuration.default()
    config.audio.pretrained = config.text.pretrained = "encoder"
    (converted / "config.json").write_text(json.dumps(configuration.to_json(config)))
    (converted / "labels.json").write_text("[]")
    done = subprocess.run(
        [sys.executable, __file__, str(converted)],
        input=json.dumps([*DOCUMENTED, *WRONG]), cwd=ROOT, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_commands_were_found():
    assert len(DOCUMENTED) > 30
    assert "python -m mmer_jax.main --config=configs/demo.py" in DOCUMENTED
    assert "make demo" in DOCUMENTED


def test_every_documented_command_parses(refused):
    bad = {command: refused[command] for command in DOCUMENTED if refused[command]}
    assert not bad, json.dumps(bad, indent=2)


@pytest.mark.parametrize("command, word", WRONG.items())
def test_a_misspelt_command_does_not(refused, command, word):
    assert word in refused[command]


@pytest.mark.parametrize("command", DOCUMENTED)
def test_a_command_is_run_by_a_test_or_says_what_it_needs(command):
    known = [x for x in (*RUN, *NEEDS) if re.match(re.escape(x) + r"(?![\w.])", command)]
    assert known, f"Add {command!r} to RUN or NEEDS in {__file__}."
    test = RUN.get(max(known, key=len))
    if test:
        file, _, name = test.partition("::")
        assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8"), test


@pytest.mark.parametrize("block", list(python_blocks()))
def test_python_in_the_pages_compiles(block):
    compile(block, "page", "exec")


def test_links_of_the_readme_lead_somewhere():
    links = re.findall(r"\]\(([^)#]+)", PAGES[0].read_text(encoding="utf-8"))
    assert links
    assert not [x for x in links if "://" not in x and not (ROOT / x).exists()]


def test_paths_in_the_pages_exist():
    pattern = r"`((?:benchmarks|configs|datasets|docs|mmer_jax|notebooks|tests)/[\w./]*)[`:]"
    named = [(p.name, path) for p in PAGES for path in re.findall(pattern, p.read_text("utf-8"))]
    assert len(named) > 50
    assert not [(page, path) for page, path in named if not (ROOT / path).exists()]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with the pages, as `make docs` builds them."""
    pytest.importorskip("sphinx")
    out = tmp_path_factory.mktemp("pages")
    sphinx = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html"]
    done = subprocess.run(
        [*sphinx, str(ROOT / "docs"), str(out)],
        cwd=ROOT, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr[-5000:]
    return out


def test_the_pages_build_without_a_warning(built):
    assert (built / "index.html").exists() and (built / "results.html").exists()


def test_every_option_is_in_the_built_page(built):
    from mmer_jax import configuration

    page = unescape(re.sub(r"<[^>]+>", "", (built / "configs.html").read_text()))
    options = configuration.flat(configuration.to_json(configuration.default()))
    assert len(options) > 70
    assert not [option for option in options if f"\n{option}\n" not in page]


def test_every_module_is_in_the_built_api(built):
    text = "".join(path.read_text() for path in (built / "api").glob("*.html"))
    for path in (ROOT / "mmer_jax").rglob("*.py"):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        if path.name != "__init__.py":
            assert f'id="module-{module}"' in text, module


def test_an_option_without_a_comment_ends_the_build(tmp_path, monkeypatch):
    from mmer_jax import options

    tables = load(ROOT / "docs" / "options.py").tables
    assert "names the default workdir" in tables()
    source = (ROOT / "mmer_jax" / "configuration.py").read_text()
    bare = re.sub(r"(train\.epochs = 30)\s*#.*", r"\1", source)
    assert bare != source
    (tmp_path / "bare.py").write_text(bare)
    monkeypatch.setattr(options, "configuration", load(tmp_path / "bare.py"))
    with pytest.raises(ValueError, match="No comment beside train.epochs in"):
        tables()


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# From here on: the program.


class Parsed(Exception):
    """The command line was accepted; what would follow is left out."""


def check(commands, converted):
    """Command -> why it can't be parsed, "" where it can."""
    words = {c: shlex.split(c.replace("OUT_DIR", converted)) for c in commands}
    return {c: _check([w for w in words[c] if w != "..."]) for c in commands}


def _check(words):
    checks = {"python": _python, "mmer": _mmer, "make": _make, "pip": _pip, "tfds": _tfds}
    return checks.get(words[0], lambda words: "")(words[1:])


def _python(words):
    if words[0] != "-m":
        return "expected -m"
    name, arguments = words[1], words[2:]
    try:
        if importlib.util.find_spec(name) is None:
            return f"no module {name}"
    except ModuleNotFoundError as e:
        return str(e)
    if not arguments:
        return "" if name in (*_CONFIGURED, *_WITHOUT_ARGUMENTS) else "no arguments"
    return _argparse(name, arguments)


def _mmer(words):
    """Of one whose command is none that there is, see `_as_module`."""
    return "" if words[0] in ("COMMAND", "--help", "--version") else f"no command {words[0]}"


_CONFIGURED = ("mmer_jax.main", "mmer_jax.ablate")
_WITHOUT_ARGUMENTS = (
    "benchmarks.parity", "benchmarks.padding", "benchmarks.memory",
    "benchmarks.intervals", "benchmarks.encoders", "benchmarks.accelerator",
    "benchmarks.speech", "mmer_jax.doctor",
)  # fmt: skip


def _argparse(name, arguments):
    """Calls the command's main with a parser that stops behind the parsing."""
    from mmer_jax import cli, config_file, configuration, errors

    module = importlib.import_module(name)
    owner, method = argparse.ArgumentParser, "parse_args"
    if name.startswith("mmer_jax."):
        owner = cli.Parser
    if name in _CONFIGURED:
        owner, method = config_file.Parser, "parse"
    parse = getattr(owner, method)

    def only_parse(parser, *args):
        found = parse(parser, *args)
        if name in _CONFIGURED:
            configuration.validate(found[1])
        raise Parsed

    setattr(owner, method, only_parse)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            module.main(arguments)
    except Parsed:
        return ""
    except SystemExit:
        return said.getvalue()
    except errors.UserError as e:
        return str(e)
    finally:
        setattr(owner, method, parse)
    return "main did not parse its arguments"


def _make(words):
    makefile = (ROOT / "Makefile").read_text()
    for word in words:
        variable, assigned, _ = word.partition("=")
        pattern = rf"^{variable}\s*\??:?=" if assigned else rf"^{word}:"
        if not re.search(pattern, makefile, re.MULTILINE):
            return f"the Makefile has no {word}"
    return ""


def _pip(words):
    setup = (ROOT / "setup.py").read_text()
    for extras in re.findall(r"^\.\[(.*)\]$|^mmer_jax\[(.*)\]$", "\n".join(words), re.MULTILINE):
        for extra in "".join(extras).split(","):
            if f'"{extra}": ' not in setup:
                return f"setup.py has no extra {extra}"
    files = [words[i + 1] for i, word in enumerate(words) if word == "-c"]
    missing = [name for name in files if not (ROOT / name).exists()]
    return f"no file {missing[0]}" if missing else ""


def _tfds(words):
    if words == ["build"]:
        return ""  # the command by its name, in prose
    code = (
        "import argparse, sys; from tensorflow_datasets.scripts.cli import main;"
        "argparse.ArgumentParser.allow_abbrev = property(lambda p: False, lambda p, x: None);"
        "main._parse_flags(['tfds', *sys.argv[1:]])"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    if done.returncode:
        return done.stderr
    folder = next((word for word in words[1:] if not word.startswith("-")), ".")
    return "" if (ROOT / folder).exists() else f"no folder {folder}"


if __name__ == "__main__":
    # `--step` for `--steps` is accepted by argparse, and a mistake in a page all the same.
    argparse.ArgumentParser.allow_abbrev = property(lambda parser: False, lambda parser, x: None)
    print("\n" + json.dumps(check(json.load(sys.stdin), sys.argv[1])))
