"""The analysis of tiny runs: every picture, the page, and what happens when things are gone."""

import base64
import dataclasses
import io
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
import soundfile

from mmer_jax import analyze, configuration, files, main, runs
from mmer_jax.data.corpus import Corpus
from mmer_jax.errors import UserError
from mmer_jax.metrics import METRICS
from mmer_jax.reporting import analysis, embeddings, report
from tests.harness import png_size
from tests.reporting.test_html import Tags

ALWAYS = {
    "confusion_pooled", "confusion_fold5", "folds", "recall", "reliability", "curve_train_loss",
    "curve_train_ce", "map_emotion", "map_speaker", *(f"curve_select_{name}" for name in METRICS),
}  # fmt: skip
BOTH = {"curve_train_ctc", "curve_train_scl", "curve_train_acl", "attention", "gate"}


@pytest.fixture(scope="module")
def finished_run(prepared, tiny_config, tmp_path_factory):
    """Workdir of a run of two modalities, two folds."""
    folder = tmp_path_factory.mktemp("run")
    config = tiny_config(prepared)
    config.folds = (4, 5)
    main.run(config, str(folder))
    return folder


@pytest.fixture(scope="module")
def analysed(finished_run, tmp_path_factory):
    """Its analysis: a folder."""
    out = tmp_path_factory.mktemp("analysis")
    analyze.run(str(finished_run), fold=5, out=str(out))
    return out


@pytest.fixture
def copy(finished_run, tmp_path):
    """A copy that a test may spoil."""
    return shutil.copytree(finished_run, tmp_path / "copy")


def page_of(folder):
    return (folder / "report.html").read_text(encoding="utf-8")


def pictures_of(folder):
    found = list(folder.glob("*.png"))
    for path in found:
        assert min(png_size(path.read_bytes())) > 200, path
    return {path.stem for path in found}


def check_closed(page):
    """Nothing in the page points out of it."""
    for tag, attributes in Tags(page).tags:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            value = attributes.get(name, "data:")
            assert value.startswith(("data:", "#")), (tag, value)
    assert not re.search(r"url\(|@import", page)
    tags = Tags(page).tags
    policy = [a["content"] for tag, a in tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy and policy[0].startswith("default-src 'none'")
    sections = [f"#{a['id']}" for tag, a in tags if tag == "section"]
    assert sections == [a["href"] for tag, a in tags if tag == "a"]


def test_every_picture_is_there_and_in_the_page(analysed):
    assert pictures_of(analysed) == ALWAYS | BOTH | {"confusion_fold4", "curve_select_loss"}
    page = Tags(page_of(analysed))
    check_closed(page_of(analysed))
    assert len([1 for tag, _ in page.tags if tag == "img"]) == len(list(analysed.glob("*.png")))
    for word in ("one session tested per fold; folds 4, 5", "seeds", "jax ", "WER", "t-SNE"):
        assert word in page.text
    assert {path.stem for path in analysed.glob("*.pdf")} == pictures_of(analysed)
    assert "synthetic" not in page.text  # its name isn't the demo's


def sounds_of(page):
    """Id -> samples of the players in a page."""
    found = [a for tag, a in Tags(page).tags if tag == "audio"]
    kind = "data:audio/flac;base64,"
    assert all(a["src"].startswith(kind) for a in found)
    sounds = [base64.b64decode(a["src"].removeprefix(kind)) for a in found]
    return {a["aria-label"]: soundfile.read(io.BytesIO(x), dtype="int16")[0]
            for a, x in zip(found, sounds)}  # fmt: skip


def test_the_surest_errors_can_be_listened_to(finished_run, analysed, tmp_path):
    run = runs.read(str(finished_run))
    corpus = Corpus.of(run.config)
    sounds = sounds_of(page_of(analysed))
    wrong = analysis.most_confident(run, 0)
    assert list(sounds) == [p.utterance for _, p in wrong][: analysis.PLAYED] and wrong
    for u in corpus.utterances:
        if u.id in sounds:
            wave = corpus.recordings(u)[0][: analysis.SECONDS * 16_000]
            np.testing.assert_array_equal(sounds[u.id], wave)
    page, _ = analysis.render(run, run.folds[0])
    assert not sounds_of(page)
    # Another corpus that happens to have such names is not listened to.
    people = [dataclasses.replace(p, speaker="x") for p in run.folds[0].result.predictions]
    fold = dataclasses.replace(
        run.folds[0], result=dataclasses.replace(run.folds[0].result, predictions=people)
    )
    assert not analysis.recordings(dataclasses.replace(run, folds=(fold,)))


def test_what_the_words_changed_is_said_once_it_was_tested(copy):
    run = runs.read(str(copy))
    without = [
        dataclasses.replace(f.result, predictions=[
            dataclasses.replace(p, prediction="sad", probabilities=[0.0, 0.0, 0.2, 0.8])
            for p in f.result.predictions
        ])
        for f in run.folds
    ]  # fmt: skip
    page = Tags(analysis.render(run, run.folds[0])[0]).text
    assert "was not tested" in page and "with transcripts" in page
    content = {"predictions.csv": report.predictions_csv(without)}
    files.replace_results(str(copy / "text_none"), content, "")
    page = Tags(analysis.render(run, run.folds[0])[0]).text
    assert "was not tested" not in page and "than without words (25.0 %; no interval" in page
    assert "sad 0.800" in page
    (copy / "text_none" / "predictions.csv").write_text("seed,fold\n0,5\n")
    with pytest.raises(UserError, match="is damaged"):
        analysis.render(run, run.folds[0])


def test_features_are_those_of_the_tested_checkpoint(finished_run):
    fold = runs.read(str(finished_run)).of(0, 5)
    rows = fold.result.predictions
    found = embeddings.extract(fold, rows[3].utterance)
    stored = np.array([p.logits for p in rows])
    np.testing.assert_allclose(found.logits, stored, atol=1e-4)
    assert found.fused.shape == (16, 32)
    assert ((found.gate > 0) & (found.gate < 1)).all() and found.gate.shape == (16,)
    a = found.attention
    assert a.weights.shape == (len(a.tokens), -(-(len(a.wave) // 160) // 2))
    np.testing.assert_allclose(a.weights.sum(1), 1, atol=1e-4)  # padding had no part in it
    assert a.tokens[0] == "[CLS]" and a.tokens[-1] == "[SEP]"


def test_a_named_utterance_is_drawn_and_its_fold_found(finished_run, tmp_path):
    fold = runs.read(str(finished_run)).of(0, 5)
    name = fold.result.predictions[7].utterance
    assert analyze.main([str(finished_run), f"--utterance={name}", f"--out={tmp_path}"]) == 0
    assert f"attention of {name}" in page_of(tmp_path)
    assert "fold 5 of seed 0" in page_of(tmp_path)


@pytest.mark.parametrize("modality", ["audio", "text"])
def test_one_modality_says_what_it_lacks(unimodal_run, tmp_path, modality):
    analyze.run(str(unimodal_run(modality)), out=str(tmp_path))
    found = pictures_of(tmp_path)
    assert found >= ALWAYS and not found & {"attention", "gate"}
    assert ("curve_train_ctc" in found) == (modality == "audio")
    page = Tags(page_of(tmp_path)).text
    assert f"This model has {modality} alone" in page
    assert ("no trained CTC head" in page) == (modality == "text")
    assert "The corpus is synthetic" in page


def test_seeds_are_pooled_and_refit_is_found(prepared, tiny_config, tmp_path):
    config = tiny_config(prepared)
    config.seeds, config.refit, config.train.epochs = (3, 4), True, 1
    main.run(config, str(tmp_path))
    analyze.run(str(tmp_path))
    page = Tags(page_of(tmp_path / "analysis")).text
    assert "differ from the stored" not in page  # the refit's state, not the first training's
    assert "fold 5 of seed 3" in page and "mean of the seeds" in page and "3, 4" in page
    assert "refit_train_loss" in pictures_of(tmp_path / "analysis")


def test_what_people_said_stays_text(copy):
    path = copy / "fold5" / "result.json"
    result = json.loads(path.read_text())
    for p in result["predictions"]:
        p["transcript"] = "<script>alert(1)</script><img src='http://x.test/a'> **no**"
        p["label"], p["prediction"] = "sad", "ang"
    path.write_text(json.dumps(result))
    analyze.run(str(copy), fold=5)
    page = page_of(copy / "analysis")
    assert "script" not in {tag for tag, _ in Tags(page).tags}
    check_closed(page)
    assert "<script>alert(1)</script>" in Tags(page).text and "**no**" in Tags(page).text


@pytest.mark.parametrize(
    "spoil, words",
    [
        (lambda f: shutil.rmtree(f / "shared"), ("there is no", "shared/tokenizer")),
        (lambda f: (f / "fold5" / "params.safetensors").unlink(), ("is not in", "result.json")),
        (lambda f: point_elsewhere(f), ("No prepared dataset", "--data_dir")),
    ],
)
def test_what_is_gone_is_named_and_the_rest_is_drawn(copy, spoil, words, capsys):
    spoil(copy)
    assert analyze.main([str(copy), "--fold=5"]) == 0
    found = pictures_of(copy / "analysis")
    assert {"confusion_fold5", "folds", "curve_train_loss"} <= found
    assert bool(sounds_of(page_of(copy / "analysis"))) == ("--data_dir" not in words)
    assert not found & {"map_emotion", "attention", "gate"}
    page = Tags(page_of(copy / "analysis")).text
    for word in words:
        assert word in page
    assert "left out" in capsys.readouterr().out
    check_closed(page_of(copy / "analysis"))


def point_elsewhere(folder):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["data"]["dir"] = str(folder / "nowhere")
    path.write_text(json.dumps(config))


def test_a_dataset_that_moved_is_named_by_data_dir(copy, prepared):
    point_elsewhere(copy)
    analyze.run(str(copy), data_dir=str(prepared / "tfds"))
    assert "map_emotion" in pictures_of(copy / "analysis")


def test_a_run_that_is_not_finished_is_drawn_as_far_as_it_is(copy):
    (copy / "fold5" / "result.json").unlink()
    (copy / "results.md").unlink()
    (copy / "fold4" / "metrics.jsonl").write_text('{"step": 1, "train/loss": 2.0}\n{"ste')
    analyze.run(str(copy))
    page = Tags(page_of(copy / "analysis")).text
    assert "Not finished yet" in page and "fold 5 of seed 0" in page
    assert "results.md is written when" in page


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda f: None, "There is no folder"),
        (lambda f: f.mkdir(), "No config.json"),
        (lambda f: begun(f, {}), "No fold in"),
        (lambda f: begun(f, {"color": 3}), "color=3"),
    ],
)
def test_a_wrong_folder_is_one_message(tmp_path, make, message, capsys):
    make(tmp_path / "w")
    assert analyze.main([str(tmp_path / "w")]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and message in said
    assert not (tmp_path / "w" / "analysis").exists()


def begun(folder, options):
    folder.mkdir()
    plain = configuration.to_json(configuration.default())
    plain["text"]["pretrained"] = "roberta-base"
    (folder / "config.json").write_text(json.dumps(plain | options))


@pytest.mark.parametrize(
    "arguments, message",
    [(["--fold=3"], "finished folds are: 4, 5"), (["--utterance=x"], "'x'"), (["--x=1"], "--x=1")],
)
def test_a_wrong_option_is_one_message(finished_run, arguments, message, capsys):
    try:
        code = analyze.main([str(finished_run), *arguments])
    except SystemExit as e:
        code = e.code
    assert code == 1
    said = capsys.readouterr().err
    assert message in said and len(said.strip().splitlines()) == 1


def test_a_config_comes_back_from_json(prepared, tiny_config):
    config = tiny_config(prepared)
    config.seeds = (1, 2)
    again = configuration.from_json(configuration.to_json(config))
    assert again == config and again.seeds == (1, 2) and isinstance(again.folds, tuple)
    assert configuration.from_json({"text": {"tokenizer": "x"}}).train.epochs == 30
    with pytest.raises(UserError, match="train.epoch="):
        configuration.from_json({"train": {"epoch": 3}})


CHECK = """<script>
const bad = [...document.images].filter(i => !i.naturalWidth).length;
const fetched = performance.getEntriesByType("resource").filter(e => !e.name.startsWith("data:"));
const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
document.body.dataset.found = `${document.images.length}/${bad}/${fetched.length}/${wide}`;
</script>"""


def browse(path, width):
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("chromium is not installed (Debian: apt-get install chromium)")
    return subprocess.run(
        [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
         "--disable-background-networking", f"--user-data-dir={path.parent / 'profile'}",
         f"--window-size={width},900", "--enable-logging=stderr", "--virtual-time-budget=10000",
         "--dump-dom", path.as_uri()],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize("width", [500, 1200])
def test_a_browser_shows_it_and_fetches_nothing(analysed, tmp_path, width):
    # As it is: its policy forbids scripts and fetching, and a browser logs what breaks it.
    (tmp_path / "plain.html").write_text(page_of(analysed))
    assert "CONSOLE" not in browse(tmp_path / "plain.html", width).stderr
    # Without the policy, and with a script that looks at the pictures.
    page = re.sub(r"<meta http-equiv.*?>", "", page_of(analysed))
    (tmp_path / "checked.html").write_text(page.replace("</body>", CHECK + "</body>"))
    dom = browse(tmp_path / "checked.html", width).stdout
    pictures = len(list(analysed.glob("*.png")))
    assert re.search(r'data-found="(.*?)"', dom)[1] == f"{pictures}/0/0/0"
