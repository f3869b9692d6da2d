"""A run's folder, written and read back; nothing of it is computed here."""

import pytest

from mmer_jax import configuration, runs
from mmer_jax.errors import UserError
from mmer_jax.reporting import report
from mmer_jax.results import FoldResult
from tests.made_results import fold_result, row

NAMES = ["ang", "hap"]


@pytest.fixture
def config(tmp_path):
    """Of a run whose dataset is not here."""
    c = configuration.default()
    c.data.dir, c.text.tokenizer = str(tmp_path / "gone"), "some/tokenizer"
    return c


def made(fold, seed=0):
    rows = [row("ang", "ang", recognized="YES"), row("hap", "ang", recognized="NO")]
    return fold_result(NAMES, rows, fold, seed)


def write(folder, config, seed, numbers):
    one = config.copy_and_resolve_references()
    one.seed, one.seeds = seed, ()
    runs.open_workdir(str(folder / f"seed{seed}"), one)
    for number in numbers:
        runs.write_result(made(number, seed), str(folder / f"seed{seed}" / f"fold{number}"))


def test_a_result_is_read_as_it_was_written(config, tmp_path):
    runs.open_workdir(str(tmp_path), config)
    runs.write_result(made(3), str(tmp_path / "fold3"))
    (fold,) = runs.read(str(tmp_path)).folds
    assert fold.result == made(3) == runs.read_fold(str(tmp_path / "fold3")).result
    assert fold.result.confusion.tolist() == [[1, 0], [1, 0]]
    assert runs.with_earlier([made(2)], str(tmp_path)) == [made(2), made(3)]


def test_a_result_with_fields_of_another_version_is_read(config):
    stored = made(3).to_json()
    stored |= {"later": 1, "predictions": [p | {"later": 1} for p in stored["predictions"]]}
    assert FoldResult.from_json(stored, config) == made(3)
    later = (
        "dataset_version",
        "normalized",
        "pretrained",
        "protocol",
        "heldout",
        "shared_speakers",
    )
    for field in later:
        del stored[field]
    older = FoldResult.from_json(stored, config)
    assert (older.dataset_version, older.normalized, older.pretrained) == ("not recorded", None, {})
    assert (older.protocol, older.heldout, older.shared_speakers) == ("session", "dialog", [])


def test_without_the_dataset_a_fold_is_missing_where_another_seed_has_it(config, tmp_path):
    config.seeds = (0, 1)
    runs.open_workdir(str(tmp_path), config)
    write(tmp_path, config, 0, (1, 2, 3))
    write(tmp_path, config, 1, (1, 3))
    assert runs.read(str(tmp_path)).missing == ((1, 2),)
    write(tmp_path, config, 1, (2,))
    assert runs.read(str(tmp_path)).missing == ()


def test_folds_that_the_config_names_are_missing_until_they_are_finished(config, tmp_path):
    config.folds = (1, 5)
    runs.open_workdir(str(tmp_path), config)
    runs.write_result(made(1), str(tmp_path / "fold1"))
    assert runs.read(str(tmp_path)).missing == ((0, 5),)


def test_another_config_is_refused_and_another_fold_is_not(config, tmp_path):
    config.folds = (1,)
    runs.open_workdir(str(tmp_path), config)
    config.folds = (5,)
    assert runs.open_workdir(str(tmp_path), config).folds == (1, 5)
    config.train.epochs += 1
    with pytest.raises(UserError, match="train.epochs"):
        runs.open_workdir(str(tmp_path), config)


def test_what_an_untrained_ctc_head_writes_has_no_error_rate(config):
    stored = made(1).to_json()
    assert report.recognition_of([FoldResult.from_json(stored, config)])["utterances"] == 2
    config.losses.ctc.weight = 0.0
    result = FoldResult.from_json(stored, config)
    assert report.recognition_of([result]) is None
    assert report.summarize(config, [result]).recognition is None
