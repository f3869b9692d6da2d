"""Options: the shipped configs, fingerprints and differences."""

import importlib.util
import json
import pathlib

import pytest

from mmer_jax import configuration
from mmer_jax.errors import UserError
from mmer_jax.losses import LOSSES

CONFIGS = pathlib.Path(__file__).resolve().parents[1] / "configs"
# Whole configs and their fingerprints, as a version before any option was renamed wrote them.
OLD = json.loads((pathlib.Path(__file__).parent / "golden" / "old_configs.json").read_text())


def load(name):
    spec = importlib.util.spec_from_file_location(name, CONFIGS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ALL = [(name, v) for name in ("iemocap", "demo", "corpus") for v in load(name).VARIANTS]


@pytest.mark.parametrize("name, variant", ALL)
def test_every_shipped_config_is_valid_and_documented(name, variant):
    module = load(name)
    configuration.validate(module.get_config(variant))
    assert variant == "default" or f"configs/{name}.py:{variant}" in module.__doc__


def test_variants_differ_in_name_and_fingerprint():
    configs = [load(name).get_config(v) for name, v in ALL]
    assert len({c.name for c in configs}) == len(configs)
    assert len({configuration.fingerprint(c) for c in configs}) == len(configs)


def test_the_fingerprint_ignores_where_files_lie_and_the_seed():
    a, b = configuration.default(), configuration.default()
    b.data.dir, b.name, b.folds, b.seeds, b.seed = "elsewhere", "other", (1,), (0, 1), 1
    assert configuration.fingerprint(a) == configuration.fingerprint(b)
    changed = configuration.differences(configuration.to_json(a), configuration.to_json(b))
    assert changed == [("seed", 0, 1)]  # not the same run all the same
    b.optimizer.b2 = 0.99
    assert configuration.fingerprint(a) != configuration.fingerprint(b)


@pytest.mark.parametrize(
    "path, value",
    [
        ("train.ctc_texts", 0.5),
        ("train.asr_texts", 0.5),
        ("data.asr_transcripts", "whisper-base.en"),
        ("model.precision", "float32"),
        ("optimizer.groups", ((".*", 0.1),)),
    ],
)
def test_a_later_option_counts_where_it_is_used(path, value):
    a, b = configuration.default(), configuration.default()
    b.update_from_flattened_dict({path: value})
    assert configuration.fingerprint(a) != configuration.fingerprint(b)
    # The fingerprint is of before the option came, see docs/results.md.
    old = OLD["demo:default"]
    assert configuration.fingerprint(configuration.from_json(old["config"])) == old["fingerprint"]


@pytest.mark.parametrize(
    "name, normalization", [("demo:default", "symbol"), ("iemocap:released", "sum")]
)
def test_an_old_config_with_a_renamed_option(name, normalization):
    old = OLD[name]["config"]
    assert old["losses"]["ctc"].keys() == {"weight", "form"}
    config = configuration.from_json(old)
    assert (config.losses.ctc.weight, config.losses.ctc.normalization) == (0.1, normalization)
    assert configuration.fingerprint(config) == OLD[name]["fingerprint"]
    selection = old["selection"].replace("published", "original")
    assert (config.selection, config.model.padding) == (
        selection, old["model"]["padding"].replace("published", "original"),
    )  # fmt: skip
    form = "standard" if selection == "heldout" else "original"
    assert config.losses.scl.form == config.losses.acl.form == form
    new = configuration.to_json(config)
    assert configuration.differences(old, new) == configuration.differences(new, old) == []
    config.losses.ctc.normalization = "utterance"
    assert configuration.fingerprint(config) != OLD[name]["fingerprint"]
    assert configuration.differences(old, configuration.to_json(config)) == [
        ("losses.ctc.normalization", normalization, "utterance")
    ]


def test_an_old_name_on_the_command_line():
    given = [
        "main",
        "--config=configs/demo.py",
        "--config.losses.ctc.form=released",
        "--config.seed=3",
    ]
    expected = [*given[:2], "--config.losses.ctc.normalization=sum", given[3]]
    apart = [*given[:2], *given[2].split("="), "--config.bootstrap=dialog", given[3]]
    for arguments, changes in ((given, 1), (apart, 2)):
        renamed, notices = configuration.rename_arguments(arguments)
        assert renamed == expected and len(notices) == changes


@pytest.mark.parametrize(
    "old, new",
    [
        ("--config.selection=published", "--config.selection=original"),
        ("--config.model.padding=published", "--config.model.padding=original"),
        ("--config.losses.scl.form=literature", "--config.losses.scl.form=standard"),
        ("--config.losses.acl.form=released", "--config.losses.acl.form=original"),
    ],
)
def test_an_old_value_on_the_command_line(old, new):
    assert configuration.rename_arguments([old])[0] == [new]
    assert len(configuration.rename_arguments([old])[1]) == 1
    assert configuration.rename_arguments([new]) == ([new], [])


def test_an_old_value_in_a_config_file():
    config = load("demo").get_config()
    config.selection = "published"
    assert configuration.validate(config).selection == "original"


def test_the_old_name_of_a_variant(capsys):
    old, new = map(load("iemocap").get_config, ("released", "original"))
    assert configuration.fingerprint(old) == configuration.fingerprint(new)
    assert old.name == "iemocap_released"  # its default workdir
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("path", ["losses.ctc.form", "train.epoch"])
def test_an_option_that_does_not_exist_is_refused_in_a_file_too(path):
    config = configuration.default()
    *groups, name = path.split(".")
    group = config
    for part in groups:
        group = group[part]
    group[name] = "released"
    with pytest.raises(UserError, match=f"no option config.{path}"):
        configuration.validate(config)


def test_the_new_name_of_an_option_wins():
    plain = configuration.to_json(configuration.default())
    plain["text"]["tokenizer"] = "roberta-base"
    plain["losses"]["ctc"] |= {"form": "released"}
    assert configuration.from_json(plain).losses.ctc.normalization == "utterance"


def test_differences_name_the_option():
    a, b = configuration.default(), configuration.default()
    b.losses.ctc.weight = 0.5
    found = configuration.differences(configuration.to_json(a), configuration.to_json(b))
    assert found == [("losses.ctc.weight", 0.1, 0.5)]


def test_a_run_of_a_version_with_fewer_options_can_be_continued():
    a, b = configuration.to_json(configuration.default()), configuration.default()
    del a["train"]["text_dropout"]
    assert configuration.differences(a, configuration.to_json(b)) == []
    b.train.text_dropout = 0.5
    found = configuration.differences(a, configuration.to_json(b))
    assert found == [("train.text_dropout", 0.0, 0.5)]


def test_an_old_dataset_is_named_in_one_option():
    new = load("demo").get_config()
    old = configuration.to_json(new)
    old["data"] |= {"dataset": "iemocap", "emotions": "emotions4"}
    config = configuration.from_json(old)
    assert config.data.dataset == "iemocap/emotions4"
    assert configuration.differences(old, configuration.to_json(config)) == []
    given = load("demo").get_config()
    given.data.dataset = "iemocap"
    configuration.validate(given)
    assert configuration.fingerprint(given) == configuration.fingerprint(new)
    arguments, notices = configuration.rename_arguments(["--config.data.emotions=emotions4"])
    assert arguments == [] and len(notices) == 1


def test_several_corpora_replace_the_dataset():
    a, b = load("demo").get_config(), load("demo").get_config()
    a.data.corpora = b.data.corpora = ("x/one", "x/two")
    b.data.dataset = "x/three"
    for config in (a, b):
        configuration.validate(config)
    assert configuration.datasets(b) == ("x/one", "x/two")
    assert configuration.fingerprint(a) == configuration.fingerprint(b)
    plain = configuration.to_json(b)
    assert configuration.datasets(configuration.from_json(plain)) == ("x/one", "x/two")
    del plain["data"]["corpora"]  # as a version before wrote it
    assert configuration.datasets(configuration.from_json(plain)) == ("x/one",)
    one, other = load("demo").get_config(), load("demo").get_config()
    one.data.corpora, other.data.dataset = ("x/one",), "x/one"
    found = [configuration.to_json(configuration.validate(c)) for c in (one, other)]
    assert found[0] == found[1] and found[0]["data"]["corpora"] == []


def test_a_label_map_has_the_users_own_keys():
    config = load("demo").get_config()
    plain = configuration.fingerprint(config)
    config.data.label_map = {"exc": "hap"}
    again = configuration.from_json(configuration.to_json(configuration.validate(config)))
    assert again.data.label_map.to_dict() == {"exc": "hap"}
    assert configuration.fingerprint(again) == configuration.fingerprint(config) != plain
    changed = configuration.differences({}, configuration.to_json(again))
    assert ("data.label_map", {}, {"exc": "hap"}) in changed


def test_an_option_that_is_gone_is_passed_over():
    old = configuration.to_json(load("demo").get_config()) | {"bootstrap": "dialog"}
    config = configuration.from_json(old)
    assert "bootstrap" not in config
    assert configuration.differences(old, configuration.to_json(config)) == []


@pytest.mark.parametrize(
    "option, value",
    [
        ("model.modalities", ("video",)),
        ("losses.ctc.weight", -1.0),
        ("folds", (0,)),
        ("folds", (1, 1)),
        ("data.labels", ("ang", "ang")),
        ("data.corpora", ("x/one", "x/one")),
        ("protocol", "corpus"),
        ("heldout", "room"),
        ("seeds", (0, 0)),
        ("seeds", (-1,)),
        ("heldout_fraction", 0.9),
        ("data.buckets", -1),
        ("optimizer.groups", (("a/.*",),)),
        ("optimizer.groups", ("audio_encoder/.*", 0.1)),
        ("optimizer.groups", (("a/.*", -1.0),)),
        ("optimizer.frozen", ("(",)),
    ],
)
def test_a_wrong_value_is_named(option, value):
    config = load("demo").get_config()
    config.unlock()
    config.update_from_flattened_dict({option: value})
    with pytest.raises(UserError, match=f"config.{option.split('.weight')[0]}"):
        configuration.validate(config)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"train.ctc_texts": 0.6, "train.text_dropout": 0.5}, "together they are above 1"),
        ({"train.asr_texts": 0.6, "train.ctc_texts": 0.5}, "together they are above 1"),
        ({"train.asr_texts": 0.5}, "python -m mmer_jax.transcribe"),
        ({"train.asr_texts": 0.5, "model.modalities": ("audio",)}, "text branch"),
        ({"train.ctc_texts": 0.5, "losses.ctc.weight": 0.0}, "Give it a weight"),
        ({"train.ctc_texts": 0.5, "model.modalities": ("audio",)}, "needs speech and text"),
    ],
)
def test_what_is_read_in_training_must_be_there(options, message):
    config = load("demo").get_config()
    config.unlock()
    config.update_from_flattened_dict(options)
    with pytest.raises(UserError, match=message):
        configuration.validate(config)


def test_nothing_to_train_on_is_an_error():
    config = load("demo").get_config()
    for name in LOSSES:
        config.losses[name].weight = 0.0
    with pytest.raises(UserError, match="nothing to train on"):
        configuration.validate(config)
