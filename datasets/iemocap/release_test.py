"""Label and transcript files, with what bites in the real ones."""

import pytest

from . import release as parser
from .files import ReleaseError, find_release

LINE = b"[6.2901 - 8.2357]\tSes05M_script01_1b_F003\tneu\t[2.5000, 3, 4.5000]"


def read(release):
    found = parser.read_release(find_release(release.manual_dir))
    return {utterance.id: utterance for utterance in found}


def error_of(release) -> str:
    with pytest.raises(ReleaseError) as error:
        read(release)
    return str(error.value)


def test_summary_line():
    [(place, found)], problems = parser.parse_labels(b"% [A - B] C\n\n" + LINE + b"\nC-E2:\t", "f")
    assert (place, problems) == ("f:3", [])
    assert found == parser.Utterance(
        "Ses05M_script01_1b_F003", "neu", 6.2901, 8.2357, 2.5, 3.0, 4.5
    )


def test_names_are_read_from_the_right():
    found = parser.Utterance("Ses05M_script01_1b_F003", "neu", 0, 1, 1, 1, 1)
    assert (found.session, found.speaker, found.gender) == (5, "Ses05F", "F")
    assert (found.dialog, found.style) == ("Ses05M_script01_1b", "scripted")
    assert found.wav == "Session5/sentences/wav/Ses05M_script01_1b/Ses05M_script01_1b_F003.wav"
    assert parser.Utterance("Ses03M_impro05a_M000", *[0] * 6).style == "improvised"


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
def test_any_newline_and_stray_bytes(newline):
    labels = newline.join([b"\xff%", LINE, b"C-E2:\t\xb0\x0c[;\t()", b""])
    assert len(parser.parse_labels(labels, "f")[0]) == 1
    turns = newline.join([b"Ses01F_impro01_F000 [1-2]: caf\xe9\x0cbar", b""])
    assert parser.parse_transcripts(turns) == [("Ses01F_impro01_F000", "caf\ufffd\x0cbar")]


def test_byte_order_mark():
    data = "Ses01F_impro01_F000 [1-2]: a".encode("utf-8-sig")
    assert parser.parse_transcripts(data) == [("Ses01F_impro01_F000", "a")]


def test_text_is_split_once_and_only_at_the_bracket():
    data = b"Ses01F_impro01_F000 [006.2901-008.2357]: So: [LAUGHTER]: x ]: y -- \n"
    assert parser.parse_transcripts(data)[0][1] == "So: [LAUGHTER]: x ]: y --"


def test_turns_without_an_utterance_are_left_out():
    data = b"Ses01F_impro01_MXX0 [1-2]: a\nM: b\nF: c [1-2]: d\n\nSes01F_impro01_F0001 [1-2]: e\n"
    assert parser.parse_transcripts(data) == []


def test_whole_release(release):
    found = read(release)
    assert list(found) == sorted(found) and len(found) == 28
    assert {utterance.label for utterance in found.values()} == set(parser.LABELS)


def test_texts_of_a_repeated_id_are_joined(release):
    text = read(release)["Ses04M_script01_1_F000"].transcript
    assert text == "Nobody told the gardener. Or so they say."


def test_an_empty_transcript_is_kept(release):
    assert read(release)["Ses01F_impro01_M001"].transcript == ""


def test_dialogs_of_which_one_is_the_others_prefix(release):
    found = read(release)
    texts = [found[f"Ses05M_script01_1{b}_F000"].transcript for b in ("", "b")]
    assert texts[0] != texts[1]


def test_raters_folders_and_dot_files_are_no_label_files(release, edit):
    folder = release.labels("Ses02M_script01_1").parent
    (folder / "Attribute").mkdir()
    (folder / "Attribute" / "x.txt").write_bytes(LINE)
    (folder / "._x.txt").write_bytes(LINE)
    (release.root / "Session6").mkdir()
    assert len(read(release)) == 28


def test_every_lacking_wav_and_transcript_is_named(release):
    release.transcripts("Ses03M_script01_1").unlink()
    wav = "Session2/sentences/wav/Ses02F_impro02/Ses02F_impro02_M001.wav"
    (release.root / wav).unlink()
    message = error_of(release)
    assert f"Ses02F_impro02_M001: no {wav}" in message
    for utterance in ("Ses03M_script01_1_F000", "Ses03M_script01_1_M000"):
        assert f"{utterance}: no line in Session3/dialog/transcriptions/" in message
    assert "3 in all" in message


def test_a_long_list_is_cut_and_counted(release):
    for path in release.root.glob("Session*/dialog/transcriptions/*.txt"):
        path.unlink()
    message = error_of(release)
    assert "28 in all" in message and "... and 8 more" in message
    assert message.count("no line in") == 20


@pytest.mark.parametrize(
    "old, new",
    [
        (b"]\tSes04F_impro04_F000\t", b"] Ses04F_impro04_F000\t"),
        (b"[6.2900", b"[six"),
        (b", 3.0000", b""),
    ],
)
def test_a_malformed_line_is_named_with_file_and_number(old, new, release, edit):
    edit(release.labels("Ses04F_impro04"), old, new)
    message = error_of(release)
    assert "Session4/dialog/EmoEvaluation/Ses04F_impro04.txt:3: expected" in message


def test_unknown_labels_are_named(release, edit):
    edit(release.labels("Ses04F_impro04"), b"\tang\t", b"\tang2\t")
    edit(release.labels("Ses05F_impro05"), b"\tneu\t", b"\tmad\t")
    message = error_of(release)
    assert "Ses04F_impro04_F000 has the unknown label 'ang2'" in message
    assert "Ses05F_impro05_M000 has the unknown label 'mad'" in message


def test_an_id_that_occurs_twice_is_named_with_both_places(release):
    path = release.labels("Ses04F_impro04")
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join(lines + [lines[2]]))
    message = error_of(release)
    assert f"Ses04F_impro04.txt:{len(lines) + 1}: Ses04F_impro04_F000 again" in message
    assert "Ses04F_impro04.txt:3" in message


@pytest.mark.parametrize("place", ["transcripts", "labels"])
def test_a_copy_beside_a_file_is_refused(place, release):
    path = getattr(release, place)("Ses01F_impro01")
    copy = path.with_name("Ses01F_impro01 (1).txt")
    copy.write_bytes(path.read_bytes())
    assert f"{copy.relative_to(release.root)}\nExpected names like" in error_of(release)


def test_a_transcript_in_a_second_file_is_refused(release):
    path = release.transcripts("Ses01F_impro01")
    second = release.transcripts("Ses02F_impro01")
    second.write_bytes(path.read_bytes())
    message = error_of(release)
    name = second.relative_to(release.root)
    assert f"{name}: Ses01F_impro01_F000 again, first {path.relative_to(release.root)}" in message


def test_label_files_without_labels(release):
    for path in release.root.glob("Session*/dialog/EmoEvaluation/*.txt"):
        path.write_text("% nothing\n")
    assert "without one labelled utterance" in error_of(release)
