"""The benchmark of opening a corpus opens one twice."""

import json

from benchmarks import opening


def test_the_command_writes_what_it_found(tmp_path, capsys):
    opening.main(["--tiny", f"--out={tmp_path}"])
    found = json.loads((tmp_path / "opening.json").read_text())["opening"]
    assert found.keys() == {"first", "later"}
    assert min(x for part in found.values() for x in part.values()) > 0
    assert "corpus of 50 utterances" in capsys.readouterr().out
