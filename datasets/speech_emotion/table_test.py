"""A user's own table: what is read of it, and what is said of a bad one."""

import json
import pathlib

import pytest

from . import rows
from .readers import READERS
from .rows import CorpusError

DUMMY = pathlib.Path(__file__).parent / "dummy_data" / "table"
TABLE = READERS["table"]


@pytest.fixture
def folder(tmp_path):
    for name in ("a.wav", "b.wav", "c.wav"):
        (tmp_path / name).touch()
    return tmp_path


def write(folder, text, name="table.csv"):
    data = text if isinstance(text, bytes) else text.encode()
    (folder / name).write_bytes(data)
    return folder


def read(folder):
    found = TABLE.read(folder)
    rows.check(found, TABLE)
    return found


def test_every_column():
    found = {row.utterance: row for row in read(DUMMY)}
    row = found["zoé-1"]
    assert row.transcript == 'The kettle, she said, is "on".' and row.label == "joyeux"
    assert (row.speaker, row.session, row.dialog) == ("Zoé", "1", "kitchen")
    assert (row.split, row.fold, row.language) == ("validation", "2", "fr")
    assert row.augmented_transcript == "She said the kettle is on."
    assert [path.name for path in row.augmented_audio] == ["spoken.mp3"]
    assert row.augmented_voice == ("narrator",)
    parts = [(row.start, row.end) for row in found.values() if row.audio.name == "long.wav"]
    assert parts == [(0.0, 0.2), (0.2, None)]
    assert {"long_0.0", "long_0.2"} < set(found)


LINES = ["audio,label,text", 'a.wav,sad,"Well, no."', "b.wav,glad,Yes"]


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_newlines_and_byte_order_mark(newline, mark, folder):
    found = read(write(folder, mark + newline.join(LINES)))
    assert [(r.utterance, r.label, r.transcript) for r in found] == [
        ("a", "sad", "Well, no."), ("b", "glad", "Yes"),
    ]  # fmt: skip


def test_tabs_and_capitals_and_blank_lines(folder):
    text = "Audio\tLABEL\tText\n\na.wav\tsad\tWell, no.\n\nb.wav\tglad\t\n"
    assert [row.transcript for row in read(write(folder, text, "table.tsv"))] == ["Well, no.", ""]


def test_json_lines(folder):
    lines = [
        {"audio": "a.wav", "label": 1, "text": "One\u2028line.", "start": 0.5, "extra": [1]},
        {"audio": "b.wav", "label": 2, "speaker": None},
    ]
    text = "\r\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    first, second = read(write(folder, text, "table.jsonl"))
    assert (first.label, first.transcript, first.start) == ("1", "One\u2028line.", 0.5)
    assert (second.speaker, second.start) == ("", None)


def test_ids_are_names_with_folders_where_names_repeat(folder):
    for name in ("x", "y"):
        (folder / name).mkdir()
        (folder / name / "a.wav").touch()
    found = read(write(folder, "audio,label\nx/a.wav,sad\ny\\a.wav,glad\n"))
    assert [row.utterance for row in found] == ["x/a", "y/a"]


def test_paths_may_lead_out_of_the_folder_and_the_log_says_so(folder, caplog):
    inner = folder / "inner"
    inner.mkdir()
    with caplog.at_level("INFO", logger="absl"):
        read(write(inner, f"audio,label\n../a.wav,sad\n{folder}/b.wav,glad\n"))
    assert "2 of 2 recordings are outside of" in caplog.text


def test_unused_columns_and_likely_typos_are_in_the_log(folder, caplog):
    read(write(folder, "audio,label,speker,mood\na.wav,sad,x,1\nb.wav,Sad,y,2\n"))
    assert "not used: speker, mood" in caplog.text and "meant for 'speaker'" in caplog.text
    assert "differ in capitals only are two: Sad, sad" in caplog.text


BAD = {
    "no_label_column": ("audio,lable\na.wav,sad\n", ["label missing", "'lable' meant for 'label'"]),
    "semicolons": ("audio;label\na.wav;sad\n", ["not separated by commas"]),
    "no_rows": ("audio,label\n", ["no rows"]),
    "nothing": ("", ["no rows"]),
    "column_twice": ("audio,label,Label\na.wav,sad,x\n", ["two columns 'label'"]),
    "fields": ("audio,label\na.wav,sad,oh\nb.wav\n", ["line 2: 3 fields", "line 3: 1 fields"]),
    "quote": ('audio,label,text\na.wav,sad,"so "well" no"\n', ["line 2", "quote"]),
    "open_quote": ('audio,label,text\na.wav,sad,x\nb.wav,sad,"well\n', ["line 3"]),
    "encoding": (
        "audio,label,text\na.wav,fröhlich,ja\nb.wav,müde,schön\n".encode("latin-1"),
        ["3 things", "line 2: column 'label': byte 0xf6", "line 3: column 'text'", "as UTF-8"],
    ),
    "encoding_of_a_column": ("audio,label,größe\na.wav,sad,1\n".encode("latin-1"), ["line 1: a"]),
    "utf_16": ("audio,label\na.wav,sad\n".encode("utf-16"), ["line 1", "UTF-8"]),
    "one_class": ("audio,label\na.wav,sad\nb.wav,sad\n", ["1 label(s), sad", "at least two"]),
    "same_id": ("audio,label\na.wav,sad\na.wav,glad\n", ["line 2 and", "line 3: the same", "'a'"]),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_table(kind, folder):
    text, messages = BAD[kind]
    with pytest.raises(CorpusError) as error:
        read(write(folder, text))
    for message in messages:
        assert message in str(error.value)


def test_all_bad_rows_are_in_one_message_by_row_and_column(folder):
    text = """audio,label,split,start,end,utterance,augmented_audio,augmented_voice
a.wav,,,,,1,,
,sad,,,,2,,
gone.wav,sad,,,,3,,
a.wav,sad,dev,2,1,4,,
b.wav,glad,exam,x,-1,5,,
c.wav,glad,train,,,5,,
c.wav,glad,train,,,7,spoken.wav,
c.wav,glad,train,,,8,,Ann
"""
    with pytest.raises(CorpusError) as error:
        read(write(folder, text))
    for message in (
        "line 2: column 'label' is empty",
        "line 3: column 'audio' is empty",
        f"line 4: column 'audio': no file {folder / 'gone.wav'}",
        "line 5: column 'start', 2, is not before 'end', 1",
        "line 6: column 'split' is 'exam'; expected train, validation, test",
        "line 6: column 'start' is 'x'; expected seconds",
        "line 6: column 'end' is '-1'; expected seconds",
        "line 6 and table.csv, line 7: the same utterance '5'",
        f"line 8: column 'augmented_audio': no file {folder / 'spoken.wav'}",
        "line 9: column 'augmented_voice' without",
        "Nothing was written",
    ):
        assert message in str(error.value)
    assert str(error.value).startswith("10 things cannot be used")


def test_bad_json_lines(folder):
    text = '{"audio": "a.wav", "label": ["x"]}\n[1]\n{"audio": \n'
    with pytest.raises(CorpusError) as error:
        read(write(folder, text, "table.jsonl"))
    for message in ("line 1: column 'label' is ['x']", "line 2: expected {...}", "line 3: "):
        assert message in str(error.value)


def test_long_messages_are_cut(folder):
    text = "audio,label\n" + "".join(f"gone{i}.wav,sad\n" for i in range(100))
    with pytest.raises(CorpusError, match="... and 80 more"):
        read(write(folder, text))


@pytest.mark.parametrize("names", [[], ["table.csv", "table.tsv"], ["Tabelle.csv"]])
def test_no_table_or_two(names, folder):
    for name in names:
        write(folder, "audio,label\n", name)
    with pytest.raises(CorpusError, match=names[-1] if names else "a.wav"):
        read(folder)
