"""The model of one finished fold, from its run's workdir, without the dataset."""

import os

import jax
import numpy as np

from mmer_jax import configuration, files
from mmer_jax.errors import UserError
from mmer_jax.evaluation import features, finished, metrics
from mmer_jax.inference import reliability
from mmer_jax.inference.model import LoadedModel, build, read_tokenizer
from mmer_jax.losses import memory
from mmer_jax.models import factory
from mmer_jax.training import optimizer, state
from mmer_jax.training.checkpoint import Checkpoints, read_params


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
    names = tuple(fold.result["label_names"])
    try:
        config = factory.as_trained(fold.config, fold.result)
        tokenizer, tokenizer_folder = read_tokenizer(config)
        model = build(config, len(names), tokenizer)
    except UserError as e:
        raise UserError(
            f"{e} The run in {os.path.dirname(fold.folder)} names it in config.json; relative "
            f"folders there count from the current directory, {os.getcwd()}."
        ) from e
    return LoadedModel(
        source=str(folder),
        config=config,
        model=model,
        params=_params(fold, model),
        label_names=names,
        text_sources=_text_sources(fold.result),
        tokenizer=tokenizer,
        tokenizer_folder=tokenizer_folder,
        card=_card(fold),
    )


def _fold(folder):
    workdir = os.path.dirname(folder)
    if not files.exists(os.path.join(folder, "result.json")):
        raise UserError(
            f"{folder} holds no result.json: no finished fold is there. Name a folder such as "
            "runs/demo/fold5, or run `python -m mmer_jax.main` with the same options and "
            "--workdir to its end first."
        )
    # Compared after resolving links: both spell the same folder.
    found = finished.read(workdir).folds
    return next(f for f in found if os.path.basename(f.folder) == os.path.basename(folder))


def _text_sources(result):
    # Of an older version, whose temperature `finished` takes away where there was a refit.
    return result["text_sources"] or reliability.of_old_run(result["temperature"], False)


def _card(fold):
    config, result = fold.config, fold.result
    return {
        "name": config.name,
        "fold": result["fold"],
        "seed": result["seed"],
        "fingerprint": configuration.fingerprint(config),
        "protocol": config.protocol,
        "selection": config.selection,
        "rates": metrics.rates(np.array(result["confusion"])),
    }


def _params(fold, model):
    folder, step = features.checkpoint(fold)
    if not step:
        return _first_params(fold.config, model)
    checkpoints = Checkpoints(folder)
    try:
        restored, _ = checkpoints.restore(step, _abstract_state(fold.config, model))
    finally:
        checkpoints.close()
    return jax.device_get(optimizer.merge(restored.params, restored.frozen))


def _first_params(config, model):
    """Of a run without training: what it started from."""
    if not config.init_from:
        return jax.device_get(factory.init_params(model, config, config.seed))
    params = read_params(config.init_from)
    factory.check_params(model, params, config.init_from)
    return params


def _abstract_state(config, model):
    """The checkpoint's tree as shapes, each to lie whole on one device."""

    def fresh(trained, frozen):
        past = memory.create(config.losses.memory.size, config.model.width)
        made = optimizer.make_optimizer(config.optimizer)
        groups = (1, 1) if config.train.accumulation > 1 else None
        return state.create(trained, frozen, made, 1, past, config.seed, groups)

    frozen = tuple(config.optimizer.frozen)
    shapes = jax.eval_shape(fresh, *optimizer.split_frozen(factory.param_shapes(model), frozen))
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), shapes)
