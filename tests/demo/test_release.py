"""The release tree is laid out as IEMOCAP is, blemishes included."""

import re
import wave
from collections import Counter, defaultdict

import pytest

from mmer_jax.demo import plan

IDS = re.compile(
    r"^Ses0([1-5])([FM])_(impro(\d\d)([ab]?)|script0([1-3])_(\d)([ab]?))_([FM])(\d{3})$"
)
SUMMARY = re.compile(
    r"^\[(\d+\.\d{4}) - (\d+\.\d{4})\]\t(\S+)\t(\w{3})"
    r"\t\[([1-5]\.\d{4}), ([1-5]\.\d{4}), ([1-5]\.\d{4})\]$"
)
LINE = re.compile(r"^(Ses\S+_[FM]\d{3}) \[(\d{3}\.\d{4})-(\d{3}\.\d{4})\]: ?(.*)$")


@pytest.fixture(params=["plain", "awkward"])
def root(request):
    return request.getfixturevalue(request.param)


def visible(root, pattern):
    paths = (root / "IEMOCAP_full_release").glob(pattern)
    return sorted(path for path in paths if not path.name.startswith("."))


def text(path):
    return path.read_bytes().decode("utf-8", "replace")


def labels(root):
    """Utterance -> (start, end, label), in the order of the files."""
    result = {}
    for path in visible(root, "Session*/dialog/EmoEvaluation/*.txt"):
        for line in text(path).splitlines():
            if line.startswith("["):
                start, end, utterance, label, *_ = SUMMARY.match(line).groups()
                assert utterance not in result
                assert utterance[:-5] == path.stem
                result[utterance] = (float(start), float(end), label)
    return result


def transcripts(root):
    """Utterance -> list of (start, end, text), in the order of the files."""
    result = defaultdict(list)
    for path in visible(root, "Session*/dialog/transcriptions/*.txt"):
        for line in text(path).splitlines():
            match = LINE.match(line)
            if match:
                result[match[1]].append((float(match[2]), float(match[3]), match[4]))
    return result


def test_ids_match_the_release(root):
    names = list(labels(root))
    assert len(names) > 100
    assert [name for name in names if not IDS.match(name)] == []
    assert len({(name[4], name[-4]) for name in names}) == 10


def test_every_label_has_a_transcript_with_its_times(root):
    spoken = transcripts(root)
    marked = labels(root)
    assert spoken.keys() == marked.keys()
    for utterance, (start, end, _) in marked.items():
        assert {(a, b) for a, b, _ in spoken[utterance]} == {(start, end)}


def test_every_label_has_a_wav_of_its_duration(root):
    marked = labels(root)
    wavs = visible(root, "Session*/sentences/wav/*/*.wav")
    assert {path.stem for path in wavs} == marked.keys()
    for path in wavs:
        start, end, _ = marked[path.stem]
        assert path.parent.name == path.stem[:-5]
        with wave.open(str(path)) as file:
            assert file.getparams()[:3] == (1, 2, 16000)
            assert file.getnframes() / 16000 == pytest.approx(end - start, abs=1e-6)


def test_counts_per_speaker_and_class(plain):
    merged = {"exc": "hap"}
    counts = Counter(
        (name[4], name[-4], merged.get(label, label))
        for name, (_, _, label) in labels(plain).items()
    )
    for session in "12345":
        for gender in "FM":
            for label in ("ang", "hap", "neu", "sad"):
                assert counts[session, gender, label] == 2
            assert counts[session, gender, "fru"] and counts[session, gender, "xxx"]
    found = {label for _, _, label in labels(plain).values()}
    assert found == {"ang", "hap", "exc", "neu", "sad", "fru", "xxx", "sur", "fea", "dis", "oth"}


def test_dialogs_mix_speakers_and_classes(plain):
    speakers, classes = defaultdict(set), defaultdict(set)
    for name, (_, _, label) in labels(plain).items():
        speakers[name[:-5]].add(name[-4])
        if label in ("ang", "hap", "exc", "neu", "sad"):
            classes[name[:-5]].add(label)
    assert all(found == {"F", "M"} for found in speakers.values())
    assert all(len(found) > 1 for found in classes.values())
    assert len(speakers) == 20


def test_odd_dialog_names_are_in_the_smallest_corpus(plain):
    names = {name[:-5] for name in labels(plain)}
    odd = {"Ses03M_impro05a", "Ses03M_impro05b", "Ses05M_script01_1", "Ses05M_script01_1b"}
    assert odd <= names
    for session in "12345":
        kinds = {name.split("_")[1][:5] for name in names if name[4] == session}
        assert kinds == {"impro", "scrip"}


def test_label_files_have_f_before_m_and_transcriptions_go_by_time(root):
    for path in visible(root, "Session*/dialog/EmoEvaluation/*.txt"):
        lines = text(path).splitlines()
        assert lines[:2] == ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""]
        names = [line.split("\t")[1] for line in lines if line.startswith("[")]
        assert names == sorted(names)
        assert lines[-1] == ""
    starts = defaultdict(list)
    for name, rows in transcripts(root).items():
        starts[name[:-5]].append(rows[0][0])
    assert all(times == sorted(times) for times in starts.values())
    assert any(
        [row[0][0] for name, row in transcripts(root).items() if name[:-5] == dialog]
        != [row[0] for name, row in labels(root).items() if name[:-5] == dialog]
        for dialog in starts
    )


def test_raters_leave_the_blemishes_of_the_release(root):
    everything = "\n".join(text(p) for p in visible(root, "Session*/dialog/EmoEvaluation/*.txt"))
    everything = everything.replace("\r", "")
    blocks = [part for part in everything.split("\n\n") if part.lstrip().startswith("[")]
    assert all(len(re.findall(r"^C-E\d:\t", block, re.M)) == 3 for block in blocks)
    raters = {len(re.findall(r"^A-E\d:\t", block, re.M)) for block in blocks}
    assert raters == {1, 2}
    for found in (
        r"^C-E\d:\t\w+; \w+;\t\(\)$",
        r"^C-E\d:\t\w+;( ;|;)\t\(\)$",
        r"^C-[FM]1:\t\t",
        r"^A-[FM]1:\tval N; act N; dom  N;\t\(\)$",
        r"^A-[FM]1:\tval ; act ; dom  ;\t\(\)$",
        r"^C-F1:\t.*\(curious\)$",
    ):
        assert re.search(found, everything, re.M), found


def test_majority_of_raters_agrees_with_the_label(root):
    words = {"ang": "Anger", "sad": "Sadness", "neu": "Neutral", "fru": "Frustration"}
    for path in visible(root, "Session*/dialog/EmoEvaluation/*.txt"):
        for block in text(path).replace("\r", "").split("\n\n"):
            label = re.search(r"\t(\w{3})\t\[", block)
            if not label:
                continue
            first = re.findall(r"^C-E\d:\t(\w+)", block, re.M)
            if label[1] == "xxx":
                assert len(set(first)) == 3
            elif label[1] in words:
                assert first.count(words[label[1]]) >= 2


def test_sub_folders_hold_raters_files(root):
    for folder in ("Categorical", "Attribute", "Self-evaluation"):
        files = visible(root, f"Session*/dialog/EmoEvaluation/{folder}/*.txt")
        assert files
        assert all(re.match(r"^Ses\S+ :.*; ?\(\)$", text(p).splitlines()[0]) for p in files)


def test_transcriptions_have_lines_that_are_no_turns(root):
    everything = "\n".join(text(p) for p in visible(root, "Session*/dialog/transcriptions/*.txt"))
    assert re.search(r"^Ses\S+_[FM]XX\d \[", everything, re.M)
    assert re.search(r"^M: ", everything, re.M) and re.search(r"^F: ", everything, re.M)


def test_texts_have_the_marks_of_the_release(root):
    rows = [row for rows in transcripts(root).values() for row in rows]
    shown = [row[2] for row in rows]
    for mark in ("[LAUGHTER]", "[BREATHING]", "[GARBAGE]", " -- ", "...", ": "):
        assert any(mark in one for one in shown), mark
    assert any(one.endswith(" ") for one in shown)
    assert any(len(rows) == 2 for rows in transcripts(root).values())


def test_junk_files_are_no_text(root):
    junk = list((root / "IEMOCAP_full_release").rglob(".*"))
    assert {".DS_Store"} < {path.name for path in junk}
    for suffix in (".txt", ".wav"):
        assert any(path.name.startswith("._") and path.suffix == suffix for path in junk)
    for path in junk:
        with pytest.raises(UnicodeDecodeError):
            path.read_text(encoding="utf-8")


def test_dialog_wavs_are_stereo(plain):
    wavs = visible(plain, "Session*/dialog/wav/*.wav")
    assert {path.stem for path in wavs} == {name[:-5] for name in labels(plain)}
    with wave.open(str(wavs[0])) as file:
        assert file.getnchannels() == 2


def test_awkward_adds_worse_cases(awkward, plain):
    def raw(root):
        folders = ("EmoEvaluation", "transcriptions")
        paths = [p for name in folders for p in visible(root, f"Session*/dialog/{name}/*.txt")]
        return b"".join(path.read_bytes() for path in paths)

    assert b"\r\n" in raw(awkward) and b"\r\n" not in raw(plain)
    assert "\u201c".encode() in raw(awkward)
    assert b"\t" in b"".join(line for line in raw(awkward).split(b"\n") if b"]: " in line)
    with pytest.raises(UnicodeDecodeError):
        raw(awkward).decode()
    raw(plain).decode("ascii")
    seconds = [end - start for start, end, _ in labels(awkward).values()]
    assert min(seconds) < 0.6 and max(seconds) > 14
    assert [rows for rows in transcripts(awkward).values() if not rows[0][2].strip()]


def test_scripted_dialogs_share_sentences_over_sessions():
    sessions, turns = defaultdict(set), plan.turns(0, 25, False)
    for turn in turns:
        sessions[turn.dialog.split("_", 1)[1], turn.text.sentence].add(turn.session)

    def shared(kind):
        found = [
            len(sessions[turn.dialog.split("_", 1)[1], turn.text.sentence]) > 1
            for turn in turns
            if kind in turn.dialog
        ]
        return sum(found) / len(found)

    assert shared("script") > 3 * shared("impro")
    assert max(len(found) for found in sessions.values()) >= 3
