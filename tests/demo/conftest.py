"""Two tiny corpora: only to be read."""

import pytest


@pytest.fixture(scope="session")
def plain(prepared):
    return prepared / "corpus"


@pytest.fixture(scope="session")
def awkward(prepared_awkward):
    return prepared_awkward / "corpus"
