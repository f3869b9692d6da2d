"""IEMOCAP's config `all`: every label of the release, and classes as the user names them."""

import pytest

from mmer_jax import main, runs
from mmer_jax.data.corpus import Corpus
from mmer_jax.errors import UserError
from mmer_jax.training import cross_validation
from tests.conftest import tfds_build


@pytest.fixture(scope="module")
def config(prepared, tiny_config, tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("all")
    tfds_build(prepared / "corpus", data_dir, "all")
    c = tiny_config(prepared)
    c.data.dir, c.data.dataset, c.train.epochs = str(data_dir), "iemocap/all", 1
    return c


def test_named_classes_are_trained_and_tested(config, prepared, tmp_path, capsys):
    c = config.copy_and_resolve_references()
    c.data.labels, c.data.label_map = ("fru", "sad", "hap", "neu"), {"exc": "hap"}
    main.run(c, str(tmp_path))
    said = capsys.readouterr().out
    assert "Left out, for their labels are no classes: " in said
    assert "xxx 10" in said and "ang 20" in said
    (fold,) = runs.read(str(tmp_path)).folds
    assert fold.result.label_names == ["fru", "sad", "hap", "neu"]
    assert (fold.result.dataset_version, fold.result.languages) == ("2.0.0", ["en"])
    # The four classes of `emotions4` are the same utterances, whatever labels are beside them.
    c.data.labels = ("ang", "hap", "neu", "sad")
    every, four = Corpus.of(c), Corpus(str(prepared / "tfds"))
    assert [(u.id, u.label, u.session, u.dialog) for u in every.utterances] == [
        (u.id, u.label, u.session, u.dialog) for u in four.utterances
    ]


def test_classes_too_small_to_test_are_listed_and_xxx_is_none(config, tmp_path, capsys):
    c = config.copy_and_resolve_references()
    corpus = Corpus.of(c)
    assert len(corpus.label_names) == 10 and "xxx" not in corpus.label_names
    assert corpus.left_out == {"xxx": 10}
    cross_validation.make_trainer(c)
    (line,) = (x for x in capsys.readouterr().out.splitlines() if "too few to say" in x)
    few = (f"session 5 has {count}" for count in ("0 of dis", "0 of fea", "1 of oth", "1 of sur"))
    assert line.endswith(f": {'; '.join(few)}.")
    c.data.labels = ("fru", "xxx")
    with pytest.raises(UserError, match="names 'xxx'"):
        main.run(c, str(tmp_path))
