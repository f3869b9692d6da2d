"""Making a corpus is reproducible, atomic, and refuses what it cannot do."""

import csv
import hashlib
import json

import pytest
from transformers import AutoTokenizer

from mmer_jax.demo import corpus, plan, release, speech
from mmer_jax.errors import UserError
from tests import harness


def tree(root):
    files = (path for path in root.rglob("*") if path.is_file())
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def test_another_process_makes_the_same_bytes(awkward, tmp_path):
    done = harness.command(
        "demo.corpus", tmp_path / "again", "--seed", 7, "--per-speaker-class", 2, "--awkward"
    )
    assert done.returncode == 0, done.stderr
    assert tree(tmp_path / "again") == tree(awkward)
    assert "speaking:" in done.stderr
    assert str(tmp_path / "again") in done.stdout and "Session5" in done.stdout


def test_another_seed_makes_another_corpus(plain):
    texts = [{turn.text for turn in plan.turns(seed, 2, False)} for seed in (0, 1)]
    assert len(texts[0] - texts[1]) > 40


def test_manifest_says_what_was_made(plain):
    made = json.loads((plain / "corpus.json").read_text())
    assert made["options"] == {"seed": 0, "per_speaker_class": 2, "awkward": False}
    assert made["sha256"] == corpus.tree_hash(plain)
    assert made["files"] == len(tree(plain)) - 1
    assert made["counts"]["four_class"] == 80
    assert made["counts"]["labels"]["Session1"]["ang"] == 4
    assert made["espeak"]


def test_finished_corpus_is_found_again_untouched(plain, capsys):
    before = {path: path.stat().st_mtime_ns for path in plain.rglob("*")}
    assert corpus.main([str(plain), "--per-speaker-class", "2"]) == 0
    assert "already there" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in plain.rglob("*")} == before


def test_corpus_with_other_options_is_refused(plain, capsys):
    before = tree(plain)
    assert corpus.main([str(plain), "--per-speaker-class", "2", "--seed", "1"]) == 1
    assert "seed=0" in capsys.readouterr().err
    assert tree(plain) == before


def test_folder_of_somebody_else_is_refused(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("all I have")
    assert corpus.main([str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "is not a corpus" in error
    assert tree(tmp_path).keys() == {"thesis.txt"}


def test_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(UserError, match="not a corpus"):
        corpus.build(tmp_path / "out", per_speaker_class=1)


def test_corpus_that_lost_a_file_is_refused(tmp_path):
    corpus.build(tmp_path / "out", per_speaker_class=1)
    next((tmp_path / "out" / "augmented" / "wav").iterdir()).unlink()
    with pytest.raises(UserError, match="make the corpus again"):
        corpus.build(tmp_path / "out", per_speaker_class=1)


def test_empty_folder_is_filled(tmp_path):
    (tmp_path / "out").mkdir()
    made = corpus.build(tmp_path / "out", per_speaker_class=1)
    assert made["counts"]["four_class"] == 40
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_interrupted_run_leaves_nothing(tmp_path, monkeypatch):
    written = []

    def interrupt(path, rate, audio):
        written.append(path)
        path.write_bytes(b"")
        if len(written) == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(speech.wavfile, "write", interrupt)
    with pytest.raises(KeyboardInterrupt):
        corpus.build(tmp_path / "out", per_speaker_class=2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("options", [{"seed": -1}, {"per_speaker_class": 0}])
def test_options_out_of_range_are_refused(tmp_path, options):
    with pytest.raises(UserError, match="0"):
        corpus.build(tmp_path / "out", **options)
    assert list(tmp_path.iterdir()) == []


def test_folder_that_cannot_be_written_is_a_user_error(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert corpus.main([str(tmp_path / "file" / "out"), "--per-speaker-class", "1"]) == 1
    assert "can't be written" in capsys.readouterr().err


@pytest.fixture(params=["plain", "awkward"])
def made(request):
    root = request.getfixturevalue(request.param)
    options = (0, 2, False) if request.param == "plain" else (3, 3, True)
    return root, plan.turns(*options)


def test_no_text_of_the_corpus_has_an_unknown_token(made):
    root, turns = made
    loaded = AutoTokenizer.from_pretrained(root / "tokenizer", local_files_only=True)
    with (root / "augmented" / "augmented.csv").open(newline="", encoding="utf-8") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    texts += [release.joined(turn) for turn in turns]
    assert all(loaded.unk_token_id not in ids for ids in loaded(texts)["input_ids"])


def test_special_tokens_are_those_of_bert(plain):
    loaded = AutoTokenizer.from_pretrained(plain / "tokenizer", local_files_only=True)
    assert loaded.is_fast and loaded.pad_token_id == 0
    assert len(loaded) <= 600
    tokens = loaded.convert_ids_to_tokens(loaded("STATION, Tom.")["input_ids"])
    assert tokens == ["[CLS]", "station", ",", "tom", ".", "[SEP]"]


def test_vocabulary_is_cut_at_the_rarest_words():
    texts = ["bb bb aa aa cc", "dd"]
    full = corpus.vocabulary(texts)
    letters = [*"abcd", "##a", "##b", "##c", "##d"]
    assert full == [*corpus.SPECIAL_TOKENS, *letters, "aa", "bb", "cc", "dd"]
    assert corpus.vocabulary(texts, max_tokens=15) == full[:15]
