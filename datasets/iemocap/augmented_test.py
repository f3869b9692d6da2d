"""Augmented rows and wavs, matched by whole ids."""

import pytest

from .augmented import is_speaker, match_id, read_augmented
from .files import ReleaseError

PLAIN, LETTERED = "Ses05M_script01_1_F001", "Ses05M_script01_1b_F001"
IDS = {PLAIN, LETTERED, "Ses01F_impro01_F000"}


@pytest.mark.parametrize("prefix", ["", "alto_", "Ses05M_", "Ses01F_impro01_F000"])
@pytest.mark.parametrize("utterance", sorted(IDS))
def test_the_id_is_the_end_of_the_name(prefix, utterance):
    assert match_id(prefix + utterance, IDS) == utterance


def test_the_longest_end_wins_and_part_of_an_id_is_none():
    assert match_id("a_b", {"b", "a_b"}) == "a_b"
    assert match_id("script01_1_F001", IDS) is None
    assert match_id(PLAIN + "_2", IDS) is None


def write(folder, table=None, wavs=()):
    folder.mkdir()
    if table is not None:
        (folder / "back_translated.csv").write_text(table, encoding="utf-8")
    for wav in wavs:
        (folder / wav).parent.mkdir(parents=True, exist_ok=True)
        (folder / wav).write_bytes(b"")
    return folder


def error_of(folder) -> str:
    with pytest.raises(ReleaseError) as error:
        read_augmented(folder, IDS)
    return str(error.value)


def test_rows_and_wavs(tmp_path):
    wavs = [f"z/1_{LETTERED}.wav", f"a/2_{LETTERED}.wav", f"{PLAIN}.wav", "._x.wav", ".z/x.wav"]
    table = f'\ufeffutterance,text\r\n{PLAIN},"Yes, ""so"". "\r\n\r\n{LETTERED},\r\n'
    found = read_augmented(write(tmp_path / "a", table, wavs), IDS)
    assert found.texts == {PLAIN: 'Yes, "so".', LETTERED: ""}
    names = {utterance: [p.name for p in paths] for utterance, paths in found.recordings.items()}
    assert names == {LETTERED: [f"1_{LETTERED}.wav", f"2_{LETTERED}.wav"], PLAIN: [f"{PLAIN}.wav"]}


def test_all_of_it_or_a_half_may_be_missing(tmp_path):
    assert read_augmented(tmp_path / "none", IDS).texts == {}
    assert read_augmented(write(tmp_path / "a", None, [f"{PLAIN}.wav"]), IDS).texts == {}
    text_alone = read_augmented(write(tmp_path / "b", f"utterance,text\n{PLAIN},x\n"), IDS)
    assert text_alone.recordings == text_alone.voices == {}


def test_each_recording_can_say_whose_voice_it_has(tmp_path):
    table = (
        "utterance,text,audio,voice\n"
        f"{PLAIN},One.,clips/first.flac,Ses05F\n"
        f"{PLAIN},,clips/a_{PLAIN}.wav,robot\n"
        f"{LETTERED},Two.,,Ses01M\n"
    )
    wavs = ["clips/first.flac", f"clips/a_{PLAIN}.wav", f"b_{LETTERED}.wav", f"c_{LETTERED}.WAV"]
    wavs.append("Ses01F_impro01_F000.wav")
    folder = write(tmp_path / "a", table, wavs)
    found = read_augmented(folder, IDS)
    assert found.texts == {PLAIN: "One.", LETTERED: "Two."}
    assert {p.name: v for p, v in found.voices.items()} == {
        "first.flac": "Ses05F",
        f"a_{PLAIN}.wav": "robot",
        f"b_{LETTERED}.wav": "Ses01M",
        f"c_{LETTERED}.WAV": "Ses01M",
    }
    assert [p.name for p in found.recordings[PLAIN]] == [f"a_{PLAIN}.wav", "first.flac"]


def test_rows_that_contradict_a_recording_or_each_other_are_named(tmp_path):
    table = (
        "utterance,text,audio,voice\n"
        f"{PLAIN},One.,gone.wav,\n"
        f"{PLAIN},Other.,{PLAIN}.wav,\n"
        f"{LETTERED},Two.,other_{PLAIN}.wav,\n"
        "Ses01F_impro01_F000,Three.,,Ses05X\n"
        "Ses01F_impro01_F000,Three.,,robot\n"
    )
    message = error_of(write(tmp_path / "a", table, [f"{PLAIN}.wav", f"other_{PLAIN}.wav"]))
    for part in (
        ":2: no recording",
        f":3: another text of {PLAIN}",
        f"other_{PLAIN}.wav: its row says {LETTERED}",
        ":5: the voice 'Ses05X' is no speaker",
        ":6: a voice, and Ses01F_impro01_F000 has no recording",
    ):
        assert part in message


def test_a_table_in_a_sub_folder_is_read_and_its_audio_counts_from_it(tmp_path):
    folder = write(tmp_path / "a", None, ["back/clips/x.wav"])
    table = folder / "back" / "texts.csv"
    table.write_text(f"utterance,text,audio\n{PLAIN},One.,clips/x.wav\n")
    found = read_augmented(folder, IDS)
    assert found.texts == {PLAIN: "One."}
    assert found.recordings == {PLAIN: [folder / "back/clips/x.wav"]}


@pytest.mark.parametrize("name", [f"{PLAIN}.mp3", f"v/{PLAIN}.ogg", "texts.tsv", "texts.txt"])
def test_a_file_that_nothing_reads_is_named(name, tmp_path):
    message = error_of(write(tmp_path / "a", None, [name]))
    assert f"{name}: expected one .csv and recordings" in message


def test_notes_and_what_a_system_leaves_are_passed_over(tmp_path):
    litter = ["README.md", "v/LICENSE", "Thumbs.db", ".DS_Store", f"v/._{PLAIN}.mp3", ".git/x.txt"]
    assert read_augmented(write(tmp_path / "a", None, litter), IDS).recordings == {}


def test_everything_that_belongs_nowhere_is_named(tmp_path):
    table = f"utterance,text\nSes09F_x_F000,a\n{PLAIN},a,b\n{LETTERED},a\n{LETTERED},b\n"
    message = error_of(write(tmp_path / "a", table, ["voice/stray.wav", f"{PLAIN}_2.wav"]))
    assert "back_translated.csv:2: 'Ses09F_x_F000' is no labelled utterance" in message
    assert "back_translated.csv:3: 3 fields, expected 2" in message
    assert f"back_translated.csv:5: {LETTERED} again" in message
    assert "voice/stray.wav: the name ends in no" in message
    assert f"{PLAIN}_2.wav: the name ends in no" in message


@pytest.mark.parametrize("table", ["", "id,text\n", f"{PLAIN},a\n"])
def test_wrong_header(table, tmp_path):
    assert "expected utterance,text" in error_of(write(tmp_path / "a", table))


@pytest.mark.parametrize("rest", ["", f'{LETTERED},"Two."\n'])
def test_a_quote_that_is_not_closed_takes_no_rows_with_it(rest, tmp_path):
    table = f'utterance,text\n{PLAIN},"One.\nSes01F_impro01_F000,Three.\n{rest}'
    assert "expected every quote to be closed" in error_of(write(tmp_path / "a", table))


@pytest.mark.parametrize("columns", ["utterance,text", "text,utterance"])
def test_a_quote_that_is_closed_too_late_takes_no_row_with_it(columns, tmp_path):
    rows = f'{PLAIN},"One.\n{LETTERED},Two."\n'
    if columns.startswith("text"):
        rows = f'"One.,{LETTERED}\nTwo.",{PLAIN}\n'
    message = error_of(write(tmp_path / "a", f"{columns}\n{rows}"))
    assert f":3: holds the row of {LETTERED}" in message
    several = f'utterance,text\n{PLAIN},"One,\ntwo."\n'
    assert read_augmented(write(tmp_path / "b", several), IDS).texts == {PLAIN: "One,\ntwo."}


def test_a_table_that_is_no_utf8_is_refused(tmp_path):
    folder = write(tmp_path / "a", "")
    table = f"\ufeffutterance,text\n{PLAIN},One.\n".encode()
    table += f"{LETTERED},d\xe9j\xe0\n".encode("latin1")
    (folder / "back_translated.csv").write_bytes(table)
    assert "back_translated.csv:3: the byte 0xe9 is no UTF-8" in error_of(folder)


@pytest.mark.parametrize(
    "voice",
    ["Ses5F", "ses05f", "SES05F", "05F", "5F", "5_m", "Session5_F", "session 05 female", "Ses05X",
     "Ses06F", "Ses05F_impro01", "Ses05-F"],
)  # fmt: skip
def test_a_voice_that_is_almost_a_speakers_is_refused(voice, tmp_path):
    table = f"utterance,text,voice\n{PLAIN},One.,{voice}\n"
    message = error_of(write(tmp_path / "a", table, [f"{PLAIN}.wav"]))
    assert f"the voice {voice!r} is no speaker, expected as Ses05F" in message


@pytest.mark.parametrize("voice", ["Ses05F", "F5", "narrator 5", "espeak-en+f5", "5 Fs", "6F"])
def test_any_other_name_of_a_voice_is_taken(voice, tmp_path):
    table = f"utterance,text,voice\n{PLAIN},One.,{voice}\n"
    found = read_augmented(write(tmp_path / "a", table, [f"{PLAIN}.wav"]), IDS)
    assert list(found.voices.values()) == [voice]
    assert is_speaker(voice) is (voice == "Ses05F")


def test_two_tables(tmp_path):
    folder = write(tmp_path / "a", "utterance,text\n")
    (folder / "other.csv").write_text("utterance,text\n")
    assert "other.csv: a second CSV" in error_of(folder)
