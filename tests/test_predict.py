"""The command that predicts: files, folders and tables in; a table, CSV or JSON Lines out."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from mmer_jax import predict
from mmer_jax.inference.predictor import Predictor
from mmer_jax.training import checkpoint_io
from tests.inference import odd_recordings as odd
from tests.inference.tiny_models import made

NAMES = ("a.wav", "b.flac", "c.wav", "sub/d.wav", "sub/e.ogg")


@pytest.fixture
def speech(tmp_path):
    """A folder of five recordings and what a folder holds besides."""
    folder = tmp_path / "speech"
    (folder / "sub").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    (folder / "empty").mkdir()
    for i, name in enumerate(NAMES):
        form = {"wav": ("WAV", "PCM_16"), "flac": ("FLAC", "PCM_16"), "ogg": ("OGG", "VORBIS")}
        data = odd.encoded(odd.voice(0.4, i), 16_000, *form[name.split(".")[1]])
        (folder / name).write_bytes(data)
    for name in ("notes.txt", ".a.wav", ".hidden/f.wav"):
        (folder / name).write_bytes(b"x")
    return folder


def lines(path):
    return path.read_text(encoding="utf-8").splitlines()


def test_a_folder_as_a_table(tiny_folder, speech, capsys):
    assert predict.main([tiny_folder, str(speech)]) == 0
    printed = capsys.readouterr()
    rows = printed.out.splitlines()
    classes = "ang", "hap", "neu", "sad"
    assert tuple(rows[0].split()[:6]) == ("emotion", *classes, "seconds") and len(rows) == 6
    for row, name in zip(rows[1:], NAMES):
        cells = row.split()
        assert cells[10].rstrip(":") == str(speech / name)
        shares = dict(zip(classes, map(int, cells[1:9:2])))
        assert shares[cells[0]] == max(shares.values()) and 98 <= sum(shares.values()) <= 102
        assert row.index("%") == rows[0].index("ang") + 2  # each share below its class
    assert "5 predicted" in printed.err and "error" not in printed.err


def test_csv_and_json_lines_say_the_same(tiny_folder, speech, tmp_path, capsys):
    assert predict.main([tiny_folder, str(speech), f"--out={tmp_path / 'new' / 'o.csv'}"]) == 0
    assert predict.main([tiny_folder, str(speech), "--format=jsonl"]) == 0
    objects = [json.loads(x) for x in capsys.readouterr().out.splitlines()]
    with open(tmp_path / "new" / "o.csv", newline="") as f:
        rows = list(csv.DictReader(f))
    assert [r["file"] for r in rows] == [str(speech / n) for n in NAMES]
    for row, found in zip(rows, objects):
        assert row["file"] == found["file"] and row["emotion"] == found["label"]
        for name, p in found["probabilities"].items():
            assert float(row[f"p_{name}"]) == pytest.approx(p, abs=1e-5)
        assert row["text"] == found["text"] and row["text_source"] == "ctc"
        assert row["calibrated"] == "1" and float(row["seconds"]) == found["seconds"]
        assert len(found["timeline"]) == 1


def test_texts_of_a_table_reach_the_model(tiny_folder, speech, tmp_path, capsys, caplog):
    table = tmp_path / "t.csv"
    table.write_text(
        "\ufefffile,text,more\nspeech/a.wav,it was you,1\nspeech/c.wav,,\n"
        'speech/a.wav,"two\nlines",\n',
        encoding="utf-8",
    )
    out = tmp_path / "o.jsonl"
    assert predict.main([tiny_folder, str(table), f"--out={out}"]) == 0
    rows = [json.loads(x) for x in lines(out)]
    assert [r["text_source"] for r in rows] == ["gold", "ctc", "gold"]
    assert "not read: more" in caplog.text
    assert rows[0]["text"] == "it was you" and rows[2]["text"] == "two\nlines"
    for options, sources in (
        (["--text=lady"], ["gold"] * 3), (["--no-text"], ["none"] * 3), ([], None)
    ):  # fmt: skip
        capsys.readouterr()
        assert predict.main([tiny_folder, str(table), "--format=csv", *options]) == 0
        found = list(csv.DictReader(capsys.readouterr().out.splitlines()))
        assert sources is None or [r["text_source"] for r in found] == sources
    assert "two lines" in [r["text"] for r in found]


def test_a_bad_file_is_said_and_left_out(tiny_folder, speech, tmp_path, capsys):
    (speech / "b.flac").write_bytes(b"no music")
    out = tmp_path / "o.csv"
    arguments = [tiny_folder, str(speech), str(tmp_path / "gone.wav"), f"--out={out}"]
    assert predict.main(arguments) == 1
    said = capsys.readouterr().err
    assert "error: " in said and "b.flac can't be read as audio" in said
    assert "There is no file" in said and "4 predicted, 2 left out" in said
    assert len(lines(out)) == 5
    # Mended, the same command adds the one that was missing.
    (speech / "b.flac").write_bytes((speech / "a.wav").read_bytes())
    (tmp_path / "gone.wav").write_bytes((speech / "a.wav").read_bytes())
    assert predict.main(arguments) == 0
    assert "4 of 6 files are in" in capsys.readouterr().err
    assert sorted(r.split(",")[0] for r in lines(out)[1:]) == sorted(
        [*(str(speech / n) for n in NAMES), str(tmp_path / "gone.wav")]
    )


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_killed_command_is_continued(tiny_folder, speech, tmp_path, form, monkeypatch):
    whole, out = tmp_path / f"whole.{form}", tmp_path / f"o.{form}"
    arguments = [tiny_folder, str(speech), "--text=it was you"]
    assert predict.main([*arguments, f"--out={whole}"]) == 0
    head = 1 if form == "csv" else 0
    expected = lines(whole)
    # Two whole lines and half of the third.
    left = "\n".join(expected[: head + 2]) + "\n" + expected[head + 2][:25]
    (tmp_path / f"o.{form}.made_with.json").write_text(
        (tmp_path / f"whole.{form}.made_with.json").read_text()
    )
    out.write_text(left)
    asked = []
    whole_method = Predictor.predict_each

    def predict_each(self, audio, *rest):
        asked.extend(audio)
        return whole_method(self, audio, *rest)

    monkeypatch.setattr(Predictor, "predict_each", predict_each)
    assert predict.main([*arguments, f"--out={out}"]) == 0
    assert asked == [str(speech / n) for n in NAMES[2:]]
    files = [line.split(",")[0] if head else json.loads(line)["file"] for line in lines(out)[head:]]
    assert files == [str(speech / n) for n in NAMES]
    if head:
        assert lines(out)[:3] == expected[:3]
    # Finished: nothing more to do, and nothing changes.
    before = out.read_bytes()
    assert predict.main([*arguments, f"--out={out}"]) == 0
    assert out.read_bytes() == before


def test_another_model_or_other_options_do_not_get_into_the_file(
    tiny_folder, speech, tmp_path, capsys
):
    out = tmp_path / "o.csv"
    first = [str(speech / "a.wav"), f"--out={out}"]
    assert predict.main([tiny_folder, *first]) == 0
    before = out.read_bytes()
    other = made(tmp_path)
    other.params["emotion"]["linear"]["bias"] += 1
    checkpoint_io.write(other, str(tmp_path / "other"))
    for command, word in (
        ([str(tmp_path / "other"), *first], "model"),
        ([tiny_folder, *first, "--no-text"], "no_text"),
        ([tiny_folder, *first, "--format=jsonl"], "format"),
    ):
        capsys.readouterr()
        assert predict.main(command) == 1
        said = capsys.readouterr().err
        assert "was made with something else" in said and word in said
        assert out.read_bytes() == before
    assert predict.main([tiny_folder, *first, "--batch-size=2"]) == 0
    # Removed options of an older command line change nothing.
    assert predict.main([tiny_folder, *first, "--decoder=beam", "--beam-width=8"]) == 0
    assert "greedy" in capsys.readouterr().err and out.read_bytes() == before


def test_a_file_of_somebody_else_is_left_alone(tiny_folder, speech, tmp_path, capsys):
    out = tmp_path / "o.csv"
    out.write_text("dear diary\n")
    assert predict.main([tiny_folder, str(speech), f"--out={out}"]) == 1
    assert "does not say that this command made it" in capsys.readouterr().err
    assert out.read_text() == "dear diary\n"


def test_a_spoiled_file_is_one_message(tiny_folder, speech, tmp_path, capsys):
    for name, spoil in (("o.csv", "a,b"), ("o.jsonl", "{}"), ("p.jsonl", "{")):
        out = tmp_path / name
        assert predict.main([tiny_folder, str(speech / "a.wav"), f"--out={out}"]) == 0
        out.write_text(out.read_text() + spoil + "\n")
        assert predict.main([tiny_folder, str(speech), f"--out={out}"]) == 1
        assert "that is no prediction" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["{m}"], "INPUT"),
        (["nowhere", "{s}"], "There is no folder nowhere"),
        (["{m}", "{s}", "--batch-size=0"], "--batch-size"),
        (["{m}", "{s}", "--text=a", "--no-text"], "leave out one"),
        (["{m}", "{s}", "--format=table", "--out=x.csv"], "csv or jsonl"),
        (["{m}", "{s}/empty"], "No audio file is below"),
        (["{m}", "{s}/none.csv"], "can't be read as a table"),
        (["{m}", "{s}/sub", "--out=/proc/none/o.csv"], "can't be written"),
    ],
)
def test_a_wrong_command_is_one_message(tiny_folder, speech, arguments, message, capsys):
    try:
        code = predict.main([a.format(m=tiny_folder, s=speech) for a in arguments])
    except SystemExit as e:
        code = e.code
    assert code == 1
    said = [x for x in capsys.readouterr().err.splitlines() if not x.startswith("loading")]
    assert len(said) == 1 and said[0].startswith("error: ") and message in said[0]


@pytest.mark.parametrize(
    "content, message",
    [("name\na.wav\n", "the columns ['name']"), ("", "the columns []"), ("file\n", "has no rows"),
     ("file,text\n,x\n", "line 2: column file is empty")],
)  # fmt: skip
def test_a_wrong_table_is_one_message(tiny_folder, tmp_path, content, message, capsys):
    (tmp_path / "t.csv").write_text(content)
    assert predict.main([tiny_folder, str(tmp_path / "t.csv")]) == 1
    assert message in capsys.readouterr().err


def test_names_that_are_no_text_are_written_as_they_are(tiny_folder, speech, tmp_path, capsys):
    odd_name = os.fsencode(str(speech / "x")) + b"\xff.wav"
    try:
        with open(odd_name, "wb") as f:
            f.write((speech / "a.wav").read_bytes())
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    for out in (tmp_path / "o.csv", tmp_path / "o.jsonl"):
        for _ in range(2):
            assert predict.main([tiny_folder, os.fsdecode(odd_name), f"--out={out}"]) == 0
        assert len(out.read_bytes().splitlines()) == (2 if out.suffix == ".csv" else 1)


def test_results_are_written_as_they_come(tiny_folder, speech, tmp_path, monkeypatch):
    out, seen = tmp_path / "o.csv", []
    whole_method = Predictor.predict_each

    def predict_each(self, *arguments):
        for found in whole_method(self, *arguments):
            seen.append(len(lines(out)))
            yield found

    monkeypatch.setattr(Predictor, "predict_each", predict_each)
    assert predict.main([tiny_folder, str(speech), f"--out={out}"]) == 0
    assert seen == [1, 2, 3, 4, 5] and len(lines(out)) == 6


def test_ctrl_c_is_one_message_and_what_was_done_stays(tiny_folder, tmp_path):
    for i in range(250):
        (tmp_path / f"{i:03d}.wav").write_bytes(odd.encoded(odd.voice(0.375 + i / 16_000, seed=i)))
    out = tmp_path / "o.csv"
    command = [sys.executable, "-m", "mmer_jax.predict", tiny_folder, str(tmp_path), f"--out={out}",
               "--batch-size=1"]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (out.exists() and len(lines(out)) > 3) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130, said
    assert "the same command goes on" in said and "Traceback" not in said
    done = len(lines(out)) - 1
    assert 3 <= done < 250
    again = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert again.returncode == 0 and f"{done} of 250 files are in" in again.stderr
    assert len(lines(out)) == 251 and len({x.split(",")[0] for x in lines(out)}) == 251
