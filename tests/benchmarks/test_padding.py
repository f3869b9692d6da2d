"""The padding benchmark: its figures by hand, and that the command runs."""

import json

import numpy as np
import pytest

from benchmarks import padding


def test_iemocaps_lengths():
    lengths = padding.iemocap_lengths()
    seconds = lengths[:, 0] / 16_000
    assert len(seconds) == 5531
    assert np.median(seconds) == pytest.approx(3.58, abs=0.02)
    assert np.percentile(seconds, 95) == pytest.approx(11.06, abs=0.2)
    assert lengths.max() == 210_000


def test_the_authors_loaders_padding_by_hand():
    # One batch holds both: 2 x 20 and 2 x 30 fed, 10 + 20 and 30 + 10 real.
    lengths = np.array([[10, 30], [20, 10]])
    assert padding.original_padding(lengths, 2) == pytest.approx(0.3)
    assert padding.original_padding(lengths, 1) == pytest.approx(0.0)


def test_more_buckets_pad_less_and_never_below_the_floor():
    found = padding.padding(padding.iemocap_lengths(count=400), 8)
    shares = [found["shares"][n] for n in (1, 2, 4, 8, 16, 32)]
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] > found["floor"] > 0
    assert found["chosen"]["padding"] <= 0.10


def test_the_command_writes_its_results(prepared, tmp_path, capsys):
    assert padding.main(["--tiny", f"--out={tmp_path}", f"--data_dir={prepared / 'tfds'}"]) == 0
    found = json.loads((tmp_path / "padding.json").read_text())
    assert len(found["padding"]) == 3
    assert "the authors' loader" in capsys.readouterr().out


def test_no_dataset_is_one_message(tmp_path, capsys):
    assert padding.main(["--tiny", f"--data_dir={tmp_path}"]) == 1
    assert "No prepared dataset" in capsys.readouterr().err
