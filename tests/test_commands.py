"""What every command shares: help, names of configs, options of a run, and the front `mmer`."""

import importlib
import json
import os
import re
import subprocess
import sys

import pytest

import mmer_jax
from mmer_jax import __main__, cli, config_file, configuration, doctor, errors, main, prepare
from tests.harness import ROOT
from tests.inference import odd_recordings as odd

HEAVY = "jax", "flax", "transformers", "tensorflow", "torch", "sklearn", "scipy", "matplotlib"


def helped(name, capsys):
    """The help of a subcommand, in one line."""
    with pytest.raises(SystemExit) as end:
        __main__.main([name, "--help"])
    assert end.value.code == 0
    return " ".join(capsys.readouterr().out.split())


@pytest.fixture(autouse=True)
def _program(monkeypatch):
    monkeypatch.setattr(cli, "PROGRAM", "")


@pytest.mark.parametrize("name", __main__.COMMANDS)
def test_help_ends_well_and_says_how_to_call_it(name, capsys):
    assert helped(name, capsys).startswith(f"usage: mmer {name} ")


def test_help_imports_nothing_that_takes_long():
    modules = [module for module, _ in __main__.COMMANDS.values()]
    code = f"""
import contextlib, importlib, io, sys
for name in {modules!r}:
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
        importlib.import_module("mmer_jax." + name).main(["--help"])
print(*{HEAVY!r} & sys.modules.keys())
""".replace(f"{HEAVY!r}", f"{set(HEAVY)!r}")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


def test_help_of_training_explains_every_option(capsys):
    for name in ("train", "ablate"):
        text = helped(name, capsys)
        for option in configuration.flat(configuration.default()):
            assert f" --config.{option} " in text
        assert "--config.train.epochs 0: no training, only the test of what it starts" in text


def test_a_model_is_named_in_the_same_words_everywhere(capsys):
    named = {
        cli.MODEL: ("predict", "app"),
        cli.WHISPER: ("transcribe", "predict", "app", "augment"),
        cli.RUN: ("evaluate", "analyze", "baselines", "export"),
    }
    for words, commands in named.items():
        for name in commands:  # argparse breaks lines at hyphens too
            assert words.replace(" ", "") in helped(name, capsys).replace(" ", "")


def refused(arguments, capsys):
    """The one message of a command that ends with 1."""
    try:
        code = __main__.main(arguments)
    except SystemExit as end:
        code = end.code
    said = capsys.readouterr().err
    assert code == 1 and said.startswith("error: ") and said.count("\n") == 1, said
    return said


@pytest.mark.parametrize("arguments, words", [
    (["trian"], "Is train meant?"),
    (["train"], "--config is missing; name one of converted, corpus, demo, iemocap"),
    (["train", "--config=dmo"], "no config dmo; the names are converted, corpus, demo"),
    (["train", "--config=nowhere.py"], "no config nowhere.py"),
    (["train", "--config=demo:fancy"], "no variant 'fancy'; the choices are: default, audio"),
    (["train", "--config=converted"], "needs a folder behind a colon"),
    (["train", "--config=demo", "--worksdir=x"], "is --workdir meant?"),
    (["train", "--config=demo", "--config.train.epoch=3"], "Is config.train.epochs meant?"),
    (["train", "--config=demo", "--config.epochs=3"], "Is config.train.epochs meant?"),
    (["train", "--config=demo", "--config.trian.epochs=3"], "Is config.train.epochs meant?"),
    (["train", "--config=demo", "--config.xyzzy=3"], "no option config.xyzzy; see --help"),
    (["train", "--config=demo", "--config.train.epochs=soon"], "'soon'; expected a whole number"),
    (["train", "--config=demo", "--config.optimizer.b1=x"], "'x'; expected a number"),
    (["train", "--config=demo", "--config.refit=perhaps"], "expected True or False"),
    (["train", "--config=demo", "--config.folds=1, x"], "expected a tuple in quotes"),
    (["train", "--config=demo", "--config.data.label_map=exc"], "expected a dictionary in quotes"),
    (["train", "--config=demo", "--process_id=one"], "expected a whole number, found 'one'"),
    (["train", "--config=demo", "--distributed=maybe"], "expected true or false, found 'maybe'"),
    (["predict", "m", "a.wav", "--texts=x"], "is --text meant?"),
    (["predict", "m", "a.wav", "--batch-size=0"], "expected 1 to 4096, found 0"),
    (["app", "m", "--port=http"], "--port: expected a whole number, found 'http'"),
    (["app", "m", "--max-mb=0"], "--max-mb: expected 0.001 to 1000, found 0"),
    (["export", "r", "o", "--stablehlo", "--seconds=two"], "seconds with commas between"),
    (["data", "iemocup", "--manual_dir=x"], "expected demo, or one of iemocap, speech_emotion"),
    (["data", "iemocap"], "--manual_dir=MANUAL"),
])  # fmt: skip
def test_a_mistake_is_told_in_our_words(arguments, words, capsys):
    assert words in refused(arguments, capsys)


def config_of(*arguments):
    return main.parser("main", "").parse([*arguments])[1]


@pytest.mark.parametrize("arguments, option, value", [
    (["--config.seed=3"], "seed", 3),
    (["--config.seed", "3"], "seed", 3),
    (["--config.mesh.data=-1"], "mesh.data", -1),
    (["--config.optimizer.eps=1e-6"], "optimizer.eps", 1e-6),
    (["--config.optimizer.clip_norm=2"], "optimizer.clip_norm", 2.0),
    (["--config.data.dir=a b=c"], "data.dir", "a b=c"),
    (["--config.init_from="], "init_from", ""),
    (["--config.refit"], "refit", True),
    (["--config.refit=true"], "refit", True),
    (["--config.refit", "--noconfig.refit"], "refit", False),
    (["--config.folds=(5,)"], "folds", (5,)),
    (["--config.folds=1,2"], "folds", (1, 2)),
    (["--config.folds=[1, 2]"], "folds", (1, 2)),
    (["--config.folds=3"], "folds", (3,)),
    (["--config.folds=1", "--config.folds=2"], "folds", (1, 2)),
    (["--config.optimizer.frozen=text_encoder/.*"], "optimizer.frozen", ("text_encoder/.*",)),
    (["--config.optimizer.groups=(('a/.*', 0.1),)"], "optimizer.groups", (("a/.*", 0.1),)),
    (["--config.data.label_map={'exc': 'hap'}"], "data.label_map", {"exc": "hap"}),
    (["--config.selection=published"], "selection", "original"),
])  # fmt: skip
def test_an_option_has_the_value_that_is_written(arguments, option, value):
    config = configuration.validate(config_of("--config=demo", *arguments))
    found = configuration.flat(config)[option]
    assert found == value and type(found) is type(value)


def test_a_config_is_known_by_its_name_and_by_its_file(tmp_path):
    by_name, by_file = (config_of(f"--config={x}:audio_only") for x in ("demo", "configs/demo.py"))
    assert configuration.to_json(by_name) == configuration.to_json(by_file)
    assert by_name.name == "demo_audio_only" and config_of("--config=corpus:ravdess")
    assert config_file.names() == ["converted", "corpus", "demo", "iemocap"]
    own = tmp_path / "own.py"
    own.write_text("from mmer_jax import configuration as c\nget_config = lambda: c.default()\n")
    assert config_of(f"--config={own}").name == "mmer"
    for text in ("get_config = 1 +", "raise ValueError('no')", "", "def get_config(): return x[0]"):
        own.write_text(text)
        with pytest.raises((SystemExit, NameError)):
            config_of(f"--config={own}")


def test_the_front_says_its_version_and_commands(capsys):
    assert __main__.main(["--version"]) == 0
    assert capsys.readouterr().out == f"mmer_jax {mmer_jax.__version__}\n"
    assert __main__.main([]) == 0
    said = capsys.readouterr().out
    assert all(re.search(rf"^  {name} ", said, re.MULTILINE) for name in __main__.COMMANDS)
    assert f"version: {mmer_jax.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_the_doctor_says_what_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "PACKAGES", ("jax", "espeakng-nowhere", "tensorflow-datasets"))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "wavlm"}))
    said = doctor.run([str(tmp_path)])
    for words in (f"mmer_jax +{mmer_jax.__version__}", "jax +[0-9.]+", "not there: pip install",
                  "cores", "GiB of", "audio, wavlm, without weights"):  # fmt: skip
        assert re.search(words, said), said
    with pytest.raises(errors.UserError, match="model_type one of bert"):
        doctor.run([str(tmp_path / "none")])


def test_every_extra_that_a_message_names_is_there():
    setup = (ROOT / "setup.py").read_text()
    extras = set(re.findall(r'^        "(\w+)": ', setup, re.MULTILINE))
    sources = "".join(p.read_text() for p in (ROOT / "mmer_jax").rglob("*.py"))
    assert set(re.findall(r"mmer_jax\[(\w+)\]", sources)) | errors.EXTRAS.keys() <= extras
    assert errors.installing("tensorflow_datasets.core") == 'pip install "mmer_jax[train]"'
    assert errors.installing("jax") == 'pip install "mmer_jax"'


def test_a_light_installation_predicts(tiny_folder, tmp_path):
    """Without the packages of extras: None stands for one that is not installed."""
    (tmp_path / "a.wav").write_bytes(odd.encoded(odd.voice(0.4)))
    extras = errors.EXTRAS.keys() - {"convert"}  # scipy does not take None for PyTorch
    code = f"""
import sys
sys.modules.update(dict.fromkeys({[n for e in extras for n in errors.EXTRAS[e]]!r}))
from mmer_jax import __main__
sys.exit(__main__.main(sys.argv[1:]))
"""
    words = [sys.executable, "-c", code]
    env = os.environ | {"USE_TORCH": "0"}
    options = {"capture_output": True, "text": True, "cwd": ROOT, "env": env}
    done = subprocess.run([*words, "predict", tiny_folder, tmp_path / "a.wav"], **options)
    assert done.returncode == 0 and "1 predicted" in done.stderr, done.stderr
    done = subprocess.run([*words, "train", "--config=demo:smoke"], **options)
    assert done.returncode == 1 and 'pip install "mmer_jax[train]"' in done.stderr


def test_preparing_the_demo_keeps_its_log_and_says_why_it_failed(tmp_path, monkeypatch, capsys):
    corpus = importlib.import_module("mmer_jax.demo.corpus")
    monkeypatch.setattr(corpus, "main", lambda words: print("made", *words))
    build = "print('half way'); raise SystemExit(3)"
    real = subprocess.run
    said = []

    def fake(words, **options):
        said.extend(words)
        return real([sys.executable, "-c", build], **options)

    monkeypatch.setattr(prepare.subprocess, "run", fake)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(errors.UserError, match="could not be prepared"):
        prepare.run("demo")
    assert "half way" in capsys.readouterr().err
    assert "half way" in (tmp_path / "build" / "demo" / "tfds_build.log").read_text()
    assert said[4] == str(ROOT / "datasets" / "iemocap") and "--config=emotions4" in said
    assert f"--manual_dir={tmp_path}/build/demo/corpus" in said
    build = "pass"
    prepare.run("speech_emotion/table", "own", "data", overwrite=True)
    assert said[-4:] == ["--config=table", f"--manual_dir={tmp_path}/own",
                         f"--data_dir={tmp_path}/data", "--overwrite"]  # fmt: skip
