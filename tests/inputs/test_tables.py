"""Damaged tables: of recordings to predict, of a corpus, of augmented views, of predictions."""

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets.speech_emotion import augmented, rows
from datasets.speech_emotion.readers import READERS
from datasets.speech_emotion.rows import CorpusError
from mmer_jax.augmentation import texts
from mmer_jax.data import table
from mmer_jax.inference import tables
from tests.inference import odd_recordings as odd
from tests.inputs import damage, guard
from tests.inputs.guard import Damaged

TIMES = ("-1", "nan", "inf", "1e308", "1e999", "9" * 400, "soon", "x,y", "=1+1", "NULL", "a\\b")
NO_FILES = ("/dev/zero", "/", ".", "..", "fifo.wav", "loop.wav", "a" * 300 + ".wav", "a" * 140_000,
            "", " ", "soon", "NULL")  # fmt: skip
HEAD = ["file", "text", "start", "end", "speaker"]
ROWS = [
    ["a.wav", "one, two", "", "", "Ann"], ["b.wav", 'She said "no".', "0.5", "1.5", "Bob"],
    ["sub/c.wav", "trois", "0", "", "Ann"], ["a.wav", "", "1.5", "2", ""],
]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a.wav, b.wav, sub/c.wav, what is no file, and a canary beside it."""
    folder = tmp_path_factory.mktemp("tables") / "in" / "here"
    (folder / "sub").mkdir(parents=True)
    for name in ("a.wav", "b.wav", "sub/c.wav", "../../canary"):
        (folder / name).write_bytes(odd.encoded(odd.tone(0.1)))
    os.mkfifo(folder / "fifo.wav")
    (folder / "loop.wav").symlink_to(folder / "loop.wav")
    return folder


def lines(head, cells):
    """The same rows as JSON Lines."""
    return [{k: v for k, v in zip(head, row) if v} for row in cells]


@st.composite
def damaged_lines(draw, objects):
    """JSON Lines of which one is damaged, as JSON or as bytes."""
    texts = [json.dumps(x) for x in objects]
    at = draw(st.integers(0, len(texts) - 1))
    if draw(st.booleans()):
        found = draw(damage.damaged_json(objects[at]))
        texts[at] = found.data.decode()
        return Damaged("\n".join(texts).encode() + b"\n", f"line {at + 1}: {found.how}")
    return draw(damage.damaged_bytes("\n".join(texts).encode() + b"\n"))


def any_table(head, cells, refused):
    """Damaged CSV, TSV and JSON Lines, each with its suffix: (suffix, Damaged)."""
    text = damage.written(head, cells)
    csvs = st.one_of(
        damage.damaged_table(head, cells, refused=refused), damage.damaged_bytes(text.encode()),
        damage.encoded(text),
    )  # fmt: skip
    tsvs = damage.damaged_table(head, cells, "\t", refused=refused)
    return st.one_of(
        st.tuples(st.just("csv"), csvs), st.tuples(st.just("tsv"), tsvs),
        st.tuples(st.just("jsonl"), damaged_lines(lines(head, cells))),
    )  # fmt: skip


def plain(found):
    """A table's rows without the lines that they are in, in the order of the columns."""
    return [{**vars(row), "line": 0} for row in found.rows]


def test_tables_of_recordings(place):
    path = place / "good.csv"
    path.write_text(damage.written(HEAD, ROWS))
    expected = plain(table.read(str(path)))

    def check(found):
        for row in found.rows:
            assert row.audio and (row.start or 0) < (row.end or 1e10)
            assert all(isinstance(v, str | int | float | None) for v in vars(row).values())
            json.dumps(vars(row), ensure_ascii=False).encode()
            tables.recording(row)

    @given(any_table(HEAD, ROWS, {"start": TIMES, "end": TIMES, "file": ("", " ")}))
    def run(found):
        suffix, damaged = found
        path = place / f"t.{suffix}"
        path.write_bytes(damaged.data)

        def read():
            there = table.read(str(path))
            if there.unknown or len(there.columns) < len(HEAD):
                guard.warn("columns that are not read")  # as `tables.expand` says
            return there

        guard.judge("table: to predict", damaged, read, lambda x: plain(x) == expected, check)

    run()


OWN = ["audio", "label", "text", "speaker", "split", "start", "end", "augmented_audio"]
CORPUS = [
    ["a.wav", "sad", "one, two", "Ann", "train", "", "", ""],
    ["b.wav", "glad", 'She said "no".', "Bob", "test", "0.5", "1.5", "sub/c.wav"],
    ["sub/c.wav", "sad", "trois", "Ann", "", "0", "", "a.wav"],
]  # fmt: skip


def test_a_users_own_corpus(place, tmp_path_factory):
    reader = READERS["table"]
    names = [f"table.{suffix}" for suffix in ("csv", "tsv", "jsonl")]

    def read(name, data):
        for other in names:
            (place / other).unlink(missing_ok=True)
        (place / name).write_bytes(data)
        found = reader.read(place)
        rows.check(found, reader)
        rows.count_labels(found, reader)
        return [{**vars(row), "place": ""} for row in found]

    expected = read("table.csv", damage.written(OWN, CORPUS).encode())

    def check(found):
        for row in found:
            assert rows.is_file(row["audio"]) and row["label"] and row["utterance"]
            assert (row["start"] or 0) < (row["end"] or 1e10) and row["split"] in ("", *rows.SPLITS)
            str(row).encode()

    refused = {"start": TIMES, "end": TIMES, "audio": NO_FILES, "label": ("", " "),
               "augmented_audio": NO_FILES[:-4], "split": ("soon", "-1", "nan")}  # fmt: skip

    @given(any_table(OWN, CORPUS, refused))
    def run(found):
        suffix, damaged = found
        guard.judge("table: a user's own corpus", damaged,
                    lambda: read(f"table.{suffix}", damaged.data), lambda x: x == expected, check,
                    CorpusError)  # fmt: skip

    run()


VIEWS = [
    ["a", "One and two.", "sub/c.wav", "Bob"], ["a", "One and two.", "b.wav", ""],
    ["b", "No, she said.", "", ""],
]  # fmt: skip


def test_augmented_views(place):
    corpus = [rows.Row(name, place / f"{name}.wav", "sad", "line 1") for name in "abc"]
    (place / "augmented" / "sub").mkdir(parents=True)
    for name in ("b.wav", "sub/c.wav"):
        (place / "augmented" / name).write_bytes(b"x")
    path = place / "augmented" / "augmented.csv"

    def read(data):
        path.write_bytes(data)
        return augmented.add(corpus, place)

    expected = read(damage.written(augmented.COLUMNS, VIEWS).encode())

    def check(found):
        assert len(found) == 3
        for row in found:
            assert len(row.augmented_audio) == len(row.augmented_voice)
            assert all(p.is_file() for p in row.augmented_audio)

    refused = {"audio": ("/dev/zero", "/", ".", "soon", "a" * 300 + ".wav", "NULL"),
               "utterance": ("", " ", "soon", "nan", "\ufeff")}  # fmt: skip
    strategy = st.one_of(
        damage.damaged_table(augmented.COLUMNS, VIEWS, refused=refused, empty=""),
        damage.damaged_bytes(damage.written(augmented.COLUMNS, VIEWS).encode()),
    )

    @given(strategy)
    def run(damaged):
        guard.judge("table: augmented.csv", damaged, lambda: read(damaged.data),
                    lambda x: x == expected, check, CorpusError)  # fmt: skip

    run()


def test_a_table_of_other_words(place):
    ids = [f"u{i}" for i in range(6)]
    head, cells = ["utterance", "text"], [[name, f"Words, of {name}."] for name in ids]
    path = place / "words.csv"

    def read(data):
        path.write_bytes(data)
        return dict(texts.Table(str(path), ids)._texts)

    expected = read(damage.written(head, cells).encode())
    strategy = st.one_of(
        damage.damaged_table(head, cells), damage.encoded(damage.written(head, cells)),
        damage.damaged_bytes(damage.written(head, cells).encode()),
    )  # fmt: skip

    @given(strategy)
    def run(damaged):
        guard.judge("table: other words for `augment`", damaged, lambda: read(damaged.data),
                    lambda x: x == expected)  # fmt: skip

    run()


LABELS = ("ang", "hap")


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_predictions_that_are_gone_on_with(form, tmp_path_factory):
    """What an interrupted `predict --out` left: damaged, it is not added to."""
    folder = tmp_path_factory.mktemp("predictions")
    path, writer = folder / f"o.{form}", tables.WRITERS[form](LABELS)
    items = [table.Row(1, audio=f"{i}.wav", start=0.5 * i or None) for i in range(4)]
    if form == "csv":
        done = [writer.head] + [
            f'{x.audio},{x.start or ""},,hap,0.250000,0.750000,1,1.500,gold,"a, b",1,0.7600,'
            for x in items
        ]  # fmt: skip
    else:
        done = [json.dumps({"file": x.audio, "start": x.start, "end": None, "label": "hap"})
                for x in items]  # fmt: skip
    beside = folder / f"o.{form}.made_with.json"
    good = "\n".join(done).encode() + b"\n"
    options = json.dumps({"model": "m", "format": form}).encode()

    def read(data, made_with):
        path.write_bytes(data)
        beside.write_bytes(made_with)
        file = tables.ResumableFile(str(path), writer, json.loads(options))
        file.close()
        return file.left(items), path.read_bytes()

    assert read(good, options) == ([], good)
    strategy = st.one_of(
        damage.damaged_bytes(good).map(lambda x: (x, x.data, options)),
        damage.damaged_json(json.loads(options)).map(lambda x: (x, good, x.data)),
        damage.damaged_bytes(options).map(lambda x: (x, good, x.data)),
    )

    def check(found):
        """No whole line of before is lost, and nothing is left out that is not in a line."""
        left, after = found
        assert len(left) + after.count(b"\n") >= len(items)

    @given(strategy)
    def run(found):
        damaged, *content = found
        guard.judge("table: predictions continued", damaged, lambda: read(*content),
                    lambda x: x == ([], good), check)  # fmt: skip

    run()


def test_files_in_the_place_of_tables(place):
    os.mkfifo(place / "fifo.csv")
    (place / "zero.csv").symlink_to("/dev/zero")
    (place / "folder.csv").mkdir()
    for name in ("fifo.csv", "zero.csv", "folder.csv", "none.csv"):
        for read in (table.read, lambda p: texts.Table(p, ["a"])):
            guard.judge("table: no files", Damaged(name, name, guard.REFUSED),
                        lambda r=read, n=name: r(str(place / n)), lambda x: False)  # fmt: skip
