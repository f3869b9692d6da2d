"""The parameters that a training starts from: fresh ones, or those of a model that is there."""

import os

import jax

from mmer_jax import files
from mmer_jax.data import folds
from mmer_jax.errors import UserError
from mmer_jax.models import factory
from mmer_jax.models.mmer import MMER
from mmer_jax.training import checkpoint


def read_params(model: MMER, config, label_names: tuple[str, ...]) -> dict:
    """All parameters as host arrays.

    With `config.init_from` those of a converted checkpoint, of a finished fold, or of a model
    folder. Every shape must be the model's. The emotions must be the same; where their order
    differs, the outputs are put in ours.

    Args:
      model: the Flax module.
      config: of the run.
      label_names: of the c classes, in the order of the logits.

    Raises:
      UserError: no model is there, or another than the config describes.
    """
    source = config.init_from
    if not source:
        return jax.device_get(factory.init_params(model, config, config.seed))
    params, names, seen = _read(source, config)
    if sorted(names) != sorted(label_names):
        raise UserError(
            f"config.init_from={source} has {len(names)} classes ({', '.join(names)}), the dataset "
            f"{len(label_names)} ({', '.join(label_names)}). Start from a model of the same "
            "classes, or from none: --config.init_from=''."
        )
    factory.check_params(model, params, source)
    if seen:
        print(seen, flush=True)
    return factory.reorder_classes(params, names, label_names)


def _read(source, config):
    """(parameters, names of its classes, a warning or "")."""
    # Imported late: only a run that starts from a model needs them.
    from mmer_jax.convert import released
    from mmer_jax.inference import loading

    if files.exists(os.path.join(files.resolve(source), checkpoint.PARAMS_FOLDER)):
        released.load_config(source)  # refuses a folder that the converter did not write so
        return checkpoint.read_params(source), released.LABELS, ""
    found = loading.read(source)
    return found.params, found.label_names, _seen(found, config)


def _seen(found, config):
    """That the model was trained on what this run tests; "" if it was not, or nobody knows."""
    fold, protocol = found.card.get("fold"), found.card.get("protocol")
    if fold is None or found.config.data.dataset != config.data.dataset:
        return ""
    if protocol == config.protocol and [f.number for f in folds.selected(config)] == [fold]:
        return ""
    return (
        f"config.init_from={config.init_from} was trained on all of {config.data.dataset} but "
        f"{protocol} {fold}: figures on anything else are too good, for it has seen what is tested."
    )
