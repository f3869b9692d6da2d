"""Augmented rows and wavs, matched by whole ids."""

import pytest

from .augmented import match_id, read_augmented
from .errors import ReleaseError

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
    names = {utterance: [p.name for p in paths] for utterance, paths in found.wavs.items()}
    assert names == {LETTERED: [f"1_{LETTERED}.wav", f"2_{LETTERED}.wav"], PLAIN: [f"{PLAIN}.wav"]}


def test_all_of_it_or_a_half_may_be_missing(tmp_path):
    assert read_augmented(tmp_path / "none", IDS).texts == {}
    assert read_augmented(write(tmp_path / "a", None, [f"{PLAIN}.wav"]), IDS).texts == {}
    assert read_augmented(write(tmp_path / "b", f"utterance,text\n{PLAIN},x\n"), IDS).wavs == {}


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


def test_two_tables(tmp_path):
    folder = write(tmp_path / "a", "utterance,text\n")
    (folder / "other.csv").write_text("utterance,text\n")
    assert "other.csv: a second CSV" in error_of(folder)
