"""The model of one finished fold, from its run's workdir, without the dataset."""

import os

from mmer_jax import configuration, files, runs
from mmer_jax.errors import UserError
from mmer_jax.inference import model_card
from mmer_jax.inference.model import LoadedModel, build, read_tokenizer
from mmer_jax.metrics import classification
from mmer_jax.models import factory
from mmer_jax.training import fold_params, initial


def load_fold(folder: str) -> LoadedModel:
    """The model that a finished fold tested.

    Args:
      folder: of the fold, for example `runs/demo/fold5` or `runs/x/seed0/fold5`.

    Returns:
      A `LoadedModel` with the parameters of the tested checkpoint.

    Raises:
      UserError: no finished fold there; checkpoint, tokenizer or an encoder's config are gone.
    """
    fold = _fold(files.resolve(folder))
    config, params = fold_params.read(fold)
    names = tuple(fold.result.label_names)
    try:
        config = factory.as_trained(config, fold.result.normalized)
        tokenizer, tokenizer_folder = read_tokenizer(config)
        model = build(config, len(names), tokenizer)
    except UserError as e:
        raise UserError(
            f"{e} The run in {os.path.dirname(fold.folder)} names it in config.json; relative "
            f"folders there count from the current directory, {os.getcwd()}."
        ) from e
    if params is None:
        params = initial.read_params(model, config, names)
    factory.check_params(model, params, fold.folder)
    return LoadedModel(
        source=str(folder),
        config=config,
        model=model,
        params=params,
        label_names=names,
        text_sources=fold.result.text_sources,
        tokenizer=tokenizer,
        tokenizer_folder=tokenizer_folder,
        card=_card(fold),
    )


def _fold(folder):
    if not files.exists(os.path.join(folder, "result.json")):
        raise UserError(
            f"{folder} holds no result.json: no finished fold is there. Name a folder such as "
            "runs/demo/fold5, or run `python -m mmer_jax.main` with the same options and "
            "--workdir to its end first."
        )
    fold_params.check_whole(folder)
    return runs.read_fold(folder)


def _card(fold):
    config, result = fold.config, fold.result
    return {
        "name": config.name,
        "fold": result.fold,
        "seed": result.seed,
        "fingerprint": configuration.fingerprint(config),
        "protocol": config.protocol,
        "selection": config.selection,
        "encoders": model_card.hub_names(config),
        "rates": classification.rates(result.confusion),
    }
