"""A finished run of two folds, made once for all tests of this folder."""

import pytest

from mmer_jax import main


@pytest.fixture(scope="session")
def tiny_run(prepared, tiny_config, tmp_path_factory):
    """Its workdir; one epoch, held-out dialogs and so a temperature."""
    folder = tmp_path_factory.mktemp("tiny_run")
    config = tiny_config(prepared)
    config.folds, config.train.epochs = (4, 5), 1
    main.run(config, str(folder))
    return folder
