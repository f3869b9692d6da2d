"""Two tiny corpora, each made once for all tests of the folder."""

import pytest

from mmer_jax.demo import corpus


@pytest.fixture(scope="session")
def plain(tmp_path_factory):
    out = tmp_path_factory.mktemp("plain") / "corpus"
    corpus.build(out, per_speaker_class=2)
    return out


@pytest.fixture(scope="session")
def awkward(tmp_path_factory):
    out = tmp_path_factory.mktemp("awkward") / "corpus"
    corpus.build(out, seed=3, per_speaker_class=3, awkward=True)
    return out
