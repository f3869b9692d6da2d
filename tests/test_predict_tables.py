"""Tables of recordings: every row is predicted as it was meant, or the table is refused whole."""

import csv
import json
import re

import numpy as np
import pytest

from mmer_jax import predict
from mmer_jax.data import table
from mmer_jax.errors import UserError
from tests.inference import odd_recordings as odd


@pytest.fixture
def folder(tmp_path):
    """A folder with recordings a.wav, b.wav and c.wav of 0.4 s each, and all.wav of the three."""
    waves = [odd.voice(0.4, seed=i) * (0.2 + 0.3 * i) for i in range(3)]
    for name, wave in zip(("a", "b", "c", "all"), [*waves, np.concatenate(waves)]):
        (tmp_path / f"{name}.wav").write_bytes(odd.encoded(wave))
    return tmp_path


def predicted(tiny_folder, folder, name, content, *options):
    """Exit code and rows of predictions for a table."""
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    out = folder / "out.jsonl"
    code = predict.main([tiny_folder, str(folder / name), f"--out={out}", *options])
    return code, [json.loads(x) for x in out.read_text().splitlines()] if out.exists() else None


SAME = {
    "blanks_in_the_header.csv": 'file, text\na.wav, "one, two"\nb.wav, three\n',
    "mark_and_crlf.csv": b'\xef\xbb\xbffile,text\r\na.wav,"one, two"\r\n\r\nb.wav,three\r\n,\r\n',
    "cr.csv": 'path,text\ra.wav,"one, two"\rb.wav,three\r',
    "capitals.csv": 'Text,Audio,\n"one, two",a.wav,\nthree,b.wav,\n',
    "tabs.tsv": "file\ttext\na.wav\tone, two\nb.wav\tthree\n",
    "lines.jsonl": '{"file": "a.wav", "text": "one, two"}\n\n{"text": "three", "file": "b.wav"}\n',
}


@pytest.mark.parametrize("name", SAME)
def test_the_same_rows_in_every_spelling(tiny_folder, folder, name):
    code, rows = predicted(tiny_folder, folder, name, SAME[name])
    assert code == 0 and [r["text"] for r in rows] == ["one, two", "three"]
    assert [r["file"] for r in rows] == [str(folder / "a.wav"), str(folder / "b.wav")]


REFUSED = {  # content -> what the message names
    "a_comma": ("file,text\na.wav,one, two\nb.wav,x\n", "line 2"),
    "a_cell_too_few": ("file,text\na.wav\n", "line 2"),
    "an_open_quote": ('file,text\na.wav,"one\nb.wav,two\nc.wav,three\n', "line 2"),
    "a_swallowed_row": ('file,text\na.wav,"one\nb.wav,two"\nc.wav,three\n', "line 2.*b.wav"),
    "text_after_a_quote": ('file,text\na.wav,"one" two\n', "line 2"),
    "all_at_once": (
        "file,text,start\na.wav,x,soon\nb.wav,y\n,z,1\nc.wav,x,-1\n",
        "line 2.*start.*'soon'.*line 3.*line 4.*file.*line 5.*start.*'-1'",
    ),
    "turned_round": ("file,start,end\na.wav,2,1\n", "line 2.*end"),
    "nan": ("file,end\na.wav,nan\n", "line 2.*end.*'nan'"),
    "twice": ("file,text,text\na.wav,x,y\n", "text"),
    "two_names": ("file,path\na.wav,b.wav\n", "audio"),
    "other_times": ("file,onset\na.wav,1\n", "onset.*start and end"),
    "semicolons": ("file;text\na.wav;x\n", "file;text"),
    "latin1": ("file,text\na.wav,\xe9t\xe9\n".encode("latin1"), "UTF-8.*0xe9"),
    "utf16": ("file\na.wav\n".encode("utf-16"), "UTF-8"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_and_named(tiny_folder, folder, case, capsys):
    content, message = REFUSED[case]
    code, rows = predicted(tiny_folder, folder, "t.csv", content)
    said = capsys.readouterr().err
    assert code == 1 and rows is None and said.count("\n") == 1
    assert re.search(message, said), said


@pytest.mark.parametrize(
    "line, message",
    [('{"file": "a.wav"', "JSON"), ('["a.wav"]', "JSON"), ('{"file": ["a.wav"]}', "file"),
     ('{"file": "a.wav", "text": Infinity}', "text"), ('{"file": "a.wav", "text": true}', "text"),
     ('{"file": "a.wav", "file": "b.wav"}', "twice"),
     ('{"file": "a.wav", "session": 1.0}', "session"), ('{"text": "x"}', "file"),
     ('{"file": "a.wav", "end": Infinity}', "end"), ('{"file": "a.wav", "end": [1]}', "end")],
)  # fmt: skip
def test_a_wrong_line_of_json_is_named(folder, line, message):
    (folder / "t.jsonl").write_text(f'{{"file": "b.wav"}}\n{line}\n')
    with pytest.raises(UserError, match=f"line 2.*{message}"):
        table.read(str(folder / "t.jsonl"))


def test_no_number_in_json_is_an_empty_cell(folder):
    (folder / "t.jsonl").write_text(
        '{"file": "a.wav", "text": NaN, "start": NaN, "end": 0.5, "session": 1, "mood": NaN}\n'
    )
    found = table.read(str(folder / "t.jsonl"))
    (row,) = found.rows
    assert (row.text, row.start, row.end, row.session) == (None, None, 0.5, "1")
    assert found.unknown == ()
    (folder / "t.jsonl").write_text('{"file": NaN}\n')
    with pytest.raises(UserError, match="line 1.*file"):
        table.read(str(folder / "t.jsonl"))


def test_segments_get_what_their_own_files_get(tiny_folder, folder, capsys):
    code, whole = predicted(tiny_folder, folder, "whole.csv", "file\na.wav\nb.wav\nc.wav\n")
    assert code == 0
    (folder / "out.jsonl").unlink()
    rows = "file,start,end\nall.wav,,0.4\nall.wav,0.4,0.8\nall.wav,0.8,\n"
    code, found = predicted(tiny_folder, folder, "segments.csv", rows)
    assert code == 0
    assert [(r["start"], r["end"]) for r in found] == [(None, 0.4), (0.4, 0.8), (0.8, None)]
    for a, b in zip(whole, found):
        assert b["seconds"] == 0.4
        np.testing.assert_allclose(b["logits"], a["logits"], atol=1e-5)
    # Continued, none of them is taken for another.
    kept = (folder / "out.jsonl").read_text().splitlines()
    (folder / "out.jsonl").write_text("\n".join([kept[0], kept[2]]) + "\n")
    code, again = predicted(tiny_folder, folder, "segments.csv", rows)
    assert code == 0 and "2 of 3 files are in" in capsys.readouterr().err
    assert again == [found[0], found[2], again[2]]
    assert (again[2]["start"], again[2]["label"]) == (0.4, found[1]["label"])


def test_segments_stand_in_the_other_formats_too(tiny_folder, folder, capsys):
    (folder / "t.csv").write_text("file,start,end\nall.wav,0.4,0.8\nb.wav,,\n")
    assert predict.main([tiny_folder, str(folder / "t.csv"), f"--out={folder / 'o.csv'}"]) == 0
    with open(folder / "o.csv", newline="") as f:
        rows = list(csv.DictReader(f))
    assert [(r["start"], r["end"]) for r in rows] == [("0.4", "0.8"), ("", "")]
    assert predict.main([tiny_folder, str(folder / "t.csv"), f"--out={folder / 'o.csv'}"]) == 0
    assert len((folder / "o.csv").read_text().splitlines()) == 3
    capsys.readouterr()
    assert predict.main([tiny_folder, str(folder / "t.csv")]) == 0
    assert "all.wav 0.4 s" in capsys.readouterr().out


@pytest.mark.parametrize("where", ["1.0,1.3", "1.1,1.18", "5,6", "5,"])
def test_a_segment_beyond_its_file_is_left_out_and_named(tiny_folder, folder, where, capsys):
    rows = f"file,start,end\nall.wav,{where}\nall.wav,0.8,1.21\n"
    code, found = predicted(tiny_folder, folder, "t.csv", rows)
    inside = where == "1.1,1.18"
    assert code == (0 if inside else 1) and [r["start"] for r in found][-1] == 0.8
    assert inside or "which ends at 1.200 s" in capsys.readouterr().err


def test_a_table_leads_where_it_wants(tiny_folder, folder):
    (folder / "sub").mkdir()
    code, rows = predicted(tiny_folder, folder, "sub/t.csv", f"file\n../a.wav\n{folder}/b.wav\n")
    assert code == 0 and len(rows) == 2


def test_rows_are_typed(folder):
    (folder / "t.tsv").write_text(
        "Utterance\tpath\tsession\tspeaker\tstart\tend\taugmented_audio\tmood\n"
        "u1\ta.wav\t1\tF\t0.5\t\tb.wav\tgood\n"
    )
    found = table.read(str(folder / "t.tsv"), ("audio", "speaker"))
    (row,) = found.rows
    assert found.unknown == ("mood",) and found.columns[:2] == ("utterance", "audio")
    assert (row.line, row.utterance, row.session, row.start, row.end) == (2, "u1", "1", 0.5, None)
    assert (row.audio, row.augmented_audio) == (str(folder / "a.wav"), str(folder / "b.wav"))
