"""The command: views that the builder takes, and what is refused."""

import collections
import csv
import json
import pathlib
import re
import subprocess
import sys

import filelock
import pytest
import soundfile

from mmer_jax import augment
from mmer_jax.data.corpus import Corpus
from tests import harness
from tests.conftest import tfds_build

WORDS = "Well, {}"
TTS = """
import math, struct, sys, wave
text, reference, out, emotion = sys.argv[1:]
if emotion == "ang":
    sys.exit("no such voice")
if emotion == "hap":
    sys.exit(0)
rate, loud = (22050, 8000) if emotion == "neu" else (16000, 0)
with wave.open(out, "wb") as f:
    f.setparams((1, 2, rate, 0, "NONE", ""))
    sound = (int(loud * math.sin(i * (0.05 + 0.001 * len(text)))) for i in range(int(1.4 * rate)))
    f.writeframes(b"".join(struct.pack("<h", x) for x in sound))
"""


@pytest.fixture(scope="module")
def arguments(prepared, tmp_path_factory):
    """Other words from a table for all but two utterances, a recording in another voice for all."""
    table = tmp_path_factory.mktemp("texts") / "texts.csv"
    utterances = Corpus(str(prepared / "tfds")).utterances
    with open(table, "w", newline="") as f:
        writer = csv.writer(f)
        writer.writerow(["utterance", "text"])
        for i, u in enumerate(utterances):
            if i:
                same = u.transcript.upper()
                writer.writerow([u.id, same if i == 1 else WORDS.format(u.transcript)])
    return [
        "--data=iemocap", f"--data_dir={prepared / 'tfds'}", f"--texts={table}",
        "--speech=signal", "--views=1", "--seed=3",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def made(arguments, tmp_path_factory):
    """The folder of the views."""
    out = tmp_path_factory.mktemp("made") / "augmented"
    assert augment.main([*arguments, f"--out={out}"]) == 0
    return out


def read(folder):
    with open(folder / "augmented.csv", newline="", encoding="utf-8") as f:
        return list(csv.DictReader(f))


def test_every_utterance_has_its_row(made, prepared):
    utterances = {u.id: u for u in Corpus(str(prepared / "tfds")).utterances}
    rows = read(made)
    assert [row["utterance"] for row in rows] == list(utterances)
    for i, row in enumerate(rows):
        u = utterances[row["utterance"]]
        words = row["text"].split() if i > 1 else ["Well,", *row["text"].split()]
        assert words[0] == "Well," and row["voice"] == u.speaker
        wave, rate = soundfile.read(made / row["audio"])
        assert rate == 16_000 and len(wave) == pytest.approx(u.samples, rel=0.1)
    found = json.loads((made / "quality.json").read_text())
    assert found["texts"] == 78 and found["recordings"] == found["with_recording"] == 80
    assert found["texts_rejected"] == {"only the source's own words": 1, "no candidate": 1}
    assert found["left_in_folds"] == {"session": 1.0, "speaker": 1.0}
    assert found["own_words"] == 2 and set(found["by_label"].values()) == {1.0}


def test_the_page_plays_ten_pairs_and_fetches_nothing(made):
    page = (made / "quality.html").read_text()
    sources = re.findall(r'src="([^"]*)"', page)
    assert len(sources) == 20 and page.count("<article>") == 10
    assert all(s.startswith("data:audio/wav;base64,UklGR") for s in sources)
    assert "default-src 'none'" in page and "<td>utterances</td>" in page
    emotions = re.findall(r"<h3>\w+: (\w+)</h3>", page)
    assert sorted(collections.Counter(emotions).values()) == [2, 2, 3, 3]


def test_the_builder_takes_them_and_a_fold_trains_on_them(made, prepared, tmp_path):
    (tmp_path / "IEMOCAP_full_release").symlink_to(
        prepared / "corpus" / "IEMOCAP_full_release", target_is_directory=True
    )
    (tmp_path / "augmented").symlink_to(made, target_is_directory=True)
    tfds_build(tmp_path, tmp_path / "tfds")
    rows = {row["utterance"]: row for row in read(made)}
    corpus = Corpus(str(tmp_path / "tfds"))
    for u in corpus.utterances:
        assert u.aug_transcript == rows[u.id]["text"] and u.has_view(("audio", "text"))
        (view,) = corpus.recordings(u)[1]
        assert (view == soundfile.read(made / rows[u.id]["audio"], dtype="int16")[0]).all()
        assert [r.voice for r in u.augmented] == [u.speaker]


def test_one_process_at_a_time(arguments, tmp_path, capsys):
    (tmp_path / ".augment").mkdir()
    with filelock.FileLock(tmp_path / ".augment" / "lock"):
        command = [sys.executable, "-m", "mmer_jax.augment", *arguments, f"--out={tmp_path}"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=harness.ROOT)
    assert done.returncode == 1 and "Another process" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_of_other_options_or_files_is_refused(made, arguments, tmp_path, capsys):
    assert augment.main([*arguments, f"--out={made}", "--seed=4"]) == 1
    assert "seed 3 there, 4 now" in capsys.readouterr().err
    (tmp_path / "mine.wav").touch()
    assert augment.main([*arguments, f"--out={tmp_path}"]) == 1
    assert "mine.wav" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.wav"]


def test_a_command_that_fails_is_told_and_the_rest_goes_on(prepared, tmp_path, capsys):
    (tmp_path / "tts.py").write_text(TTS)
    out = tmp_path / "out"
    template = f"{sys.executable} -S {tmp_path / 'tts.py'} {{text}} {{wav}} {{out}} {{emotion}}"
    arguments = [
        "--data=iemocap", f"--data_dir={prepared / 'tfds'}", f"--out={out}", "--views=1",
        "--speech=command", f"--tts_command={template}", "--workers=2",
    ]  # fmt: skip
    assert augment.main(arguments) == 1
    said = capsys.readouterr().err
    for fault in (r"exit code 1 \(no such voice\)", "wrote no file", "silence"):
        assert len(re.findall(rf"error: \w+, view 1: .*{fault}", said)) in (19, 20), fault
    assert said.count("22050 Hz") == 1
    corpus = {u.id: u for u in Corpus(str(prepared / "tfds")).utterances}
    rows = read(out)
    assert len(rows) in (19, 20) and {corpus[r["utterance"]].label for r in rows} == {2}
    assert all(r["voice"] != corpus[r["utterance"]].speaker for r in rows)
    assert not list(out.glob("unfinished*"))


@pytest.mark.slow
def test_back_translation_is_the_same_after_a_kill(prepared, tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("sentencepiece")
    from tests import tiny_marian

    models = {n: tiny_marian.save(tmp_path / n, i) for i, n in enumerate(("forward", "backward"))}
    arguments = [
        "--data=iemocap", f"--data_dir={prepared / 'tfds'}", "--texts=marian", "--candidates=2",
        "--min_similarity=0", *(f"--{name}={path}" for name, path in models.items()),
    ]  # fmt: skip
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert augment.main([*arguments, f"--out={whole}"]) == 0
    kill = ("mmer_jax.files", "Journal.add", 3)
    done = harness.command("augment", *arguments, f"--out={killed}", kill=kill)
    assert done.returncode == -9, done.stderr
    assert augment.main([*arguments, f"--out={killed}"]) == 0
    texts = (whole / "augmented.csv").read_bytes()
    assert (killed / "augmented.csv").read_bytes() == texts
    rows = read(whole)
    assert len(rows) > 70 and all(r["text"] and not r["audio"] and not r["voice"] for r in rows)


def test_where_all_fails_it_ends_at_once(prepared, tmp_path, capsys):
    arguments = [
        "--data=iemocap", f"--data_dir={prepared / 'tfds'}", f"--out={tmp_path / 'out'}",
        "--speech=command", "--tts_command=false {text} {wav} {out}",
    ]  # fmt: skip
    assert augment.main(arguments) == 1
    said = capsys.readouterr().err
    assert said.count("exit code 1") == 10 and "first 10 recordings failed" in said


def test_what_a_recogniser_does_not_understand_is_rejected(prepared, tmp_path, capsys):
    pytest.importorskip("torch")
    from tests import tiny_whisper

    whisper = tiny_whisper.save(tmp_path / "whisper")
    arguments = [
        "--data=iemocap", f"--data_dir={prepared / 'tfds'}", "--speech=espeak", "--views=1",
        f"--recognizer={whisper}",
    ]  # fmt: skip
    kept = tmp_path / "kept"
    assert augment.main([*arguments, f"--out={kept}", "--max_wer=1.0"]) == 0
    found = json.loads((kept / "quality.json").read_text())
    assert found["wer"] > 0.8  # it is random
    rejected = found["recordings_rejected"].get("word errors", 0)
    spoken = [row["utterance"] for row in read(kept)]
    assert len(spoken) == found["recordings"] and found["recordings"] + rejected >= 79
    assert {p.name for p in (kept / "wav").iterdir()} == {f"1_{name}.wav" for name in spoken}
    assert len({row["voice"] for row in read(kept)}) > 5 and found["of_speakers"] == 0
    assert "the recogniser wrote" in (kept / "quality.html").read_text()
    assert augment.main([*arguments, f"--out={tmp_path / 'none'}", "--max_wer=0.0"]) == 1
    assert "No view is left" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ([], "Say what to make"),
        (["--texts=french"], "the choices: marian"),
        (["--speech=signal", "--views=0"], "1 or more"),
        (["--speech=signal", "--data=speech_emotion/none"], "No prepared dataset"),
    ],
)
def test_wrong_options_are_one_message(options, found, prepared, tmp_path, capsys):
    out = pathlib.Path(tmp_path / "out")
    data = ["--data=iemocap", f"--data_dir={prepared / 'tfds'}", f"--out={out}"]
    assert augment.main([*data, *options]) == 1
    assert found in capsys.readouterr().err and not out.exists()
