"""The scaling benchmark runs and reports what it claims; no time is asserted."""

import json

import pytest

from benchmarks import scaling


def test_the_command_writes_what_it_found(tmp_path, capsys):
    arguments = ["--tiny", f"--out={tmp_path}", "--devices=2", "--repeats=1"]
    assert scaling.main(arguments) == 0
    found = json.loads((tmp_path / "scaling.json").read_text())
    assert (tmp_path / "scaling.png").read_bytes()[:4] == b"\x89PNG"
    assert found.keys() >= {"machine", "flags", "seed", "devices", "growth"}
    if found["forced"]:
        assert found["devices"]["2"].keys() == {"one device", "data", "fsdp"}
    assert found["growth"].keys() == set(scaling.SERIES)
    assert found["growth"]["negatives"].keys() == {"0", "64"}
    for taken in (*found["devices"].values(), *found["growth"].values()):
        assert all(x["seconds"] > 0 and len(x["times"]) == 1 for x in taken.values())
    printed = capsys.readouterr().out
    assert "share of ideal" in printed
    assert ("no speed-up" in printed or "Nothing here is a" in printed) == found["forced"]


def test_every_mesh_has_all_its_devices():
    for count in (1, 2, 4, 8):
        for axes in scaling.meshes(count).values():
            product = 1
            for size in axes.values():
                product *= size
            assert product == count
    assert scaling.meshes(8)["data x fsdp x model"] == {"data": 2, "fsdp": 2, "model": 2}


@pytest.mark.parametrize("forced, share", [(True, 0.5), (False, 0.25)])
def test_share_of_ideal_by_hand(forced, share):
    taken = lambda s: {"seconds": s, "cpu_seconds": s, "times": [s]}  # noqa: E731
    devices = {2: {"one device": taken(1.0), "data": taken(2.0)}}
    (row,) = scaling.shares({"forced": forced, "devices": devices})
    assert row == (2, "data", 2.0, 2.0, 1.0, share)


@pytest.mark.parametrize("flag", ["--devices=1,3", "--batches=8,12"])
def test_sizes_that_do_not_divide(flag):
    with pytest.raises(SystemExit):
        scaling.main(["--tiny", flag])
