"""The command itself: end to end in small, and each mistake as one message."""

import csv
import json
import shutil

import pytest

from mmer_jax import configuration, main, runs
from mmer_jax.errors import UserError
from mmer_jax.inference import model_card
from mmer_jax.reporting import report
from mmer_jax.training import checkpoint_io
from tests import harness


def command(*arguments):
    done = harness.command("main", *arguments)
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    return done


def demo(folder, *arguments, variant="smoke"):
    return command(
        f"--config=configs/demo.py:{variant}", f"--config.data.dir={folder}/tfds",
        f"--config.text.tokenizer={folder}/corpus/tokenizer", *arguments,
    )  # fmt: skip


def small_wav2vec2(folder, *arguments):
    return demo(
        folder, "--config.audio.size.width=16", "--config.audio.size.layers=1",
        "--config.audio.size.ffn=16", "--config.audio.conv_channels=8", "--config.data.buckets=1",
        *arguments, variant="wav2vec2",
    )  # fmt: skip


def check_outputs(folder, n):
    results = json.loads((folder / "results.json").read_text())
    rows = list(csv.DictReader((folder / "predictions.csv").open()))
    assert len(rows) == n == sum(map(sum, results["pooled"]["confusion"]))
    right = sum(r["label"] == r["prediction"] for r in rows) / n
    assert results["pooled"]["wa"] == pytest.approx(right)
    for r in rows:
        p = {name: float(r[f"p_{name}"]) for name in results["label_names"]}
        assert sum(p.values()) == pytest.approx(1, abs=1e-5)
        assert max(p, key=p.get) == r["prediction"]
    assert {"seed", "fingerprint", "versions", "config", "mean"} <= results.keys()
    assert (folder / "confusion.png").read_bytes()[:4] == b"\x89PNG"
    lines = [json.loads(x) for x in (folder / "fold5" / "metrics.jsonl").read_text().splitlines()]
    assert any("train/loss" in x for x in lines) and any("select/ua" in x for x in lines)
    assert list((folder / "fold5" / "tensorboard").glob("events.out.tfevents*"))


def test_end_to_end(prepared, tmp_path):
    done = demo(prepared, f"--workdir={tmp_path}")
    assert done.returncode == 0, done.stderr
    check_outputs(tmp_path, 16)
    assert report.aligned((tmp_path / "results.md").read_text()) in done.stdout
    assert "held-out UA" in done.stdout


def test_a_corpus_of_three_sessions_has_three_folds(prepared, tiny_config, tmp_path):
    shutil.copytree(prepared / "tfds", tmp_path / "tfds")
    (info,) = (tmp_path / "tfds").glob("**/dataset_info.json")
    plain = json.loads(info.read_text())
    plain["splits"] = [
        s for s in plain["splits"] if s["name"] in ("session1", "session2", "session4")
    ]
    info.write_text(json.dumps(plain))
    config = tiny_config(prepared)
    config.data.dir, config.folds, config.train.epochs = str(tmp_path / "tfds"), (), 0
    main.run(config, str(tmp_path / "run"))
    found = runs.read(str(tmp_path / "run"))
    assert found.numbers == [1, 2, 4] and not found.missing
    assert all(f.result.counts["train"] for f in found.folds)
    config.folds = (5,)
    with pytest.raises(UserError, match="the folds 1, 2, 4"):
        main.run(config, str(tmp_path / "other"))


def test_a_table_of_ones_own_is_tested_by_groups_of_speakers(
    people, prepared, tiny_config, tmp_path, capsys
):
    config = tiny_config(prepared)
    configuration.audio_only(config)
    config.data.dir, config.data.dataset = str(people), "speech_emotion/people"
    config.data.labels, config.data.label_map = ("sad", "hap"), {"exc": "hap"}
    config.protocol, config.folds, config.train.epochs = "auto", (2,), 1
    config.losses.ce.class_weights = "balanced"
    table = main.run(config, str(tmp_path))
    assert "Left out, for their labels are no classes: neu 24." in capsys.readouterr().out
    (fold,) = runs.read(str(tmp_path)).folds
    result = fold.result
    assert (result.protocol, result.heldout) == ("speakers", "speaker")
    assert result.label_names == ["sad", "hap"] and result.shared_speakers == []
    tested = {p.speaker for p in result.predictions}
    assert result.name == f"speakers 2 ({', '.join(sorted(tested, key=int))})"
    assert result.counts["train"] + result.counts["select"] + result.counts["test"] == 72
    assert "| test speakers |" in table and "on held-out speakers of" in table
    assert result.name in table and "Their speakers train" not in table
    summary = json.loads((tmp_path / "results.json").read_text())
    assert (summary["protocol"], summary["heldout"]) == ("speakers", "speaker")
    card = model_card.markdown(checkpoint_io.read(str(tmp_path / "fold2")))
    assert "held-out speakers" in card and "a group of speakers left out" in card
    # What is finished is read without its dataset too.
    config.data.dir = str(tmp_path / "gone")
    assert main.run(config, str(tmp_path)) == table
    assert not runs.read(str(tmp_path)).missing


def test_several_corpora_are_left_out_one_by_one(people, prepared, tiny_config, tmp_path, capsys):
    config = tiny_config(prepared)
    configuration.audio_only(config)
    config.data.dir = str(people)
    config.data.corpora = ("speech_emotion/people", "speech_emotion/abroad")
    config.data.labels, config.data.label_map = ("hap", "sad"), {"froh": "hap", "exc": "hap"}
    config.protocol, config.folds, config.train.epochs = "corpus", (), 1
    table = main.run(config, str(tmp_path))
    said = capsys.readouterr().out
    assert "people: 72 utterances: hap 48, sad 24." in said
    assert "abroad: 35 utterances: hap 21, sad 14." in said
    found = runs.read(str(tmp_path))
    assert [f.result.name for f in found.folds] == ["corpus 1 (abroad)", "corpus 2 (people)"]
    assert [f.result.counts["test"] for f in found.folds] == [35, 72] and not found.missing
    assert [f.result.shared_speakers for f in found.folds] == [[], []]
    rows = list(csv.DictReader((tmp_path / "predictions.csv").open()))
    for row in rows:
        assert row["utterance"].startswith(row["corpus"]) and row["speaker"][:6] == row["corpus"]
    for fold, name in zip(found.folds, ("abroad", "people")):
        own = [r for r in rows if r["corpus"] == name]
        rates = found.summary.corpora[name]
        assert len(own) == rates["utterances"] == fold.result.counts["test"]
        assert rates["confusion"] == fold.result.confusion.tolist()
    assert "| corpus | WA | UA |" in table and "| abroad |" in table
    assert found.summary.dataset_versions == ["people 1.0.0, abroad 1.0.0"]
    assert "the speech of speech_emotion/people and speech_emotion/abroad" in model_card.markdown(
        checkpoint_io.read(str(tmp_path / "fold1"))
    )


def test_a_mistake_leaves_no_run_that_would_refuse_the_mended_one(
    people, prepared, tiny_config, tmp_path
):
    config = tiny_config(prepared)
    config.data.dir, config.data.dataset = str(people), "speech_emotion/people"
    config.protocol, config.train.epochs, config.seeds = "speaker", 0, (0, 1)
    for mistake in ({"data.labels": ("sad", "angry")}, {"protocol": "session"}, {"folds": (99,)}):
        wrong = config.copy_and_resolve_references()
        wrong.update_from_flattened_dict(mistake)
        with pytest.raises(UserError):
            main.run(wrong, str(tmp_path))
        assert not [p for p in tmp_path.rglob("*") if p.is_file()]
    config.folds = (1,)
    main.run(config, str(tmp_path))
    # Of a run that has begun everything stays.
    stored = (tmp_path / "config.json").read_text()
    config.folds = (99,)
    with pytest.raises(UserError):
        main.run(config, str(tmp_path))
    assert (tmp_path / "config.json").read_text() == stored
    assert len(runs.read(str(tmp_path)).folds) == 2


def test_an_awkward_tree_trains_the_same(prepared_awkward, tiny_config, tmp_path):
    main.run(tiny_config(prepared_awkward), str(tmp_path))
    check_outputs(tmp_path, 16)


def test_the_wav2vec2_variant_runs(prepared, tmp_path):
    done = small_wav2vec2(prepared, f"--workdir={tmp_path}", "--config.data.max_seconds=2.0")
    assert done.returncode == 0, done.stderr
    check_outputs(tmp_path, 16)


@pytest.mark.parametrize("modality, expected", [("audio", ["none"]), ("text", ["gold", "none"])])
def test_one_modality_runs(unimodal_run, modality, expected):
    check_outputs(unimodal_run(modality), 16)
    result = json.loads((unimodal_run(modality) / "fold5" / "result.json").read_text())
    assert list(result["text_sources"]) == expected


def test_selection_on_the_test_side_says_so_everywhere(prepared, tiny_config, tmp_path, capsys):
    config = tiny_config(prepared)
    config.selection, config.train.epochs = "original", 1
    assert "ON THE TEST SIDE" in main.run(config, str(tmp_path))
    assert "ON THE TEST SIDE" in (tmp_path / "results.md").read_text()
    assert "TEST (selection=original)" in capsys.readouterr().out
    assert json.loads((tmp_path / "results.json").read_text())["selection"] == "original"


def test_a_part_of_a_finished_run_leaves_the_tables_of_all_of_it(
    prepared, tiny_config, tmp_path, capsys
):
    def go(folds, seeds=()):
        config = tiny_config(prepared)
        configuration.text_only(config)
        config.folds, config.seeds, config.train.epochs = folds, seeds, 1
        main.run(config, str(tmp_path))
        return capsys.readouterr().out

    go((4, 5))
    tables = ("results.json", "results.md", "predictions.csv", "config.json")
    whole = {name: (tmp_path / name).read_bytes() for name in tables}
    said = go((5,))
    assert {name: (tmp_path / name).read_bytes() for name in tables} == whole
    assert "finished before: seed 0, fold 4\n" in said
    # Another fold adds to it; a seed more, of one fold, does not take the others away.
    go((3,))
    go((5,), (0, 1))
    results = json.loads((tmp_path / "results.json").read_text())
    there = {(f["seed"], f["fold"]) for f in results["folds"]}
    assert there == {(0, 3), (0, 4), (0, 5), (1, 5)}
    rows = list(csv.DictReader((tmp_path / "predictions.csv").open()))
    assert {(int(r["seed"]), int(r["fold"])) for r in rows} == there
    assert len(rows) == 4 * 16 == sum(map(sum, results["pooled"]["confusion"]))
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["folds"] == [3, 4, 5] == results["config"]["folds"]
    assert config["seeds"] == [0, 1] == results["config"]["seeds"]
    assert runs.read(str(tmp_path)).missing == ((1, 3), (1, 4))


def test_without_the_data_it_says_where_to_get_them(tmp_path):
    done = command(
        "--config=configs/iemocap.py",
        f"--config.data.dir={tmp_path}/none",
        f"--workdir={tmp_path}/w",
    )
    assert done.returncode == 1
    for word in ("https://sail.usc.edu/iemocap/", "tfds build", "make demo", "config.data.dir"):
        assert word in done.stderr


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--config=configs/nowhere.py"], "nowhere.py"),
        (["--config=configs/demo.py:fancy"], "the choices are: default, audio_only"),
        (["--config=configs/demo.py", "--config.train.epoch=3"], "epoch"),
        (["--config=configs/demo.py", "--config.train.epochs=soon"], "soon"),
        (["--config=configs/demo.py", "--config.train.epochs=-1"], "config.train.epochs is -1"),
        (["--config=configs/demo.py", "--config.folds=(0,)"], "config.folds is (0,)"),
        (["--config=configs/demo.py", "--config.selection=best"], "heldout, original"),
        (["--config=configs/demo.py", "--config.losses.scl.form=x"], "standard, original"),
        (["--config=configs/demo.py", "--config.losses.ctc.form=x"], "utterance, symbol, sum"),
        (["--config=configs/demo.py", "--config.model.heads=7"], "config.model.heads (7)"),
        (["--config=configs/demo.py", "--nonsense=1"], "nonsense"),
        ([], "--config"),
    ],
)
def test_a_wrong_option_is_one_message(arguments, message, tmp_path):
    done = command(*arguments, f"--workdir={tmp_path / 'w'}")
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 6
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    "option, message",
    [
        (
            "--config.text.tokenizer=no/such/folder",
            "No tokenizer could be loaded from 'no/such/folder'",
        ),
        (
            "--config.audio.pretrained=some/hub-name",
            "No config.json could be had for 'some/hub-name'",
        ),
        ("--config.data.dataset=other", "No prepared dataset other/emotions4"),
        ("--config.optimizer.frozen=('nothing/.*',)", "matches no parameter"),
    ],
)
def test_what_cannot_be_had_is_named(prepared, tmp_path, option, message):
    done = demo(prepared, f"--workdir={tmp_path}", option)
    assert done.returncode == 1
    assert message in done.stderr


def test_a_workdir_that_cannot_be_made_is_named(prepared, tmp_path):
    (tmp_path / "file").write_text("")
    done = demo(prepared, f"--workdir={tmp_path / 'file' / 'w'}")
    assert done.returncode == 1
    assert "can't be written" in done.stderr
