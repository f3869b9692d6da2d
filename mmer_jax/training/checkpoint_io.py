"""A trained model by its name: a folder of any kind that this package writes, or a hub name."""

import os
import re

import jax
from huggingface_hub import snapshot_download

from mmer_jax import configuration, files, runs
from mmer_jax.convert import original
from mmer_jax.data import folds
from mmer_jax.data.text import read_tokenizer
from mmer_jax.errors import UserError, first_line
from mmer_jax.metrics import classification
from mmer_jax.models import factory
from mmer_jax.models.mmer import MMER
from mmer_jax.models.params_file import PARAMS_FOLDER, read_converted
from mmer_jax.training import fold_params, model_folder
from mmer_jax.training.model_folder import LoadedModel, build, hub_names

EXPECTED = (
    "a finished fold of a run (runs/demo/fold5), a model folder (config.json and "
    "model.safetensors), a folder written by mmer_jax.convert.original, or a model on the "
    "Hugging Face hub (owner/name)"
)
# What a model folder may hold; nothing that is executed or unpickled is fetched.
_FETCHED = ("*.json", "*.safetensors", "*.txt", "*.model", "*.md")


def read(name: str) -> LoadedModel:
    """The model in a folder, or of that name on the Hugging Face hub.

    Args:
      name: a finished fold of a run, a model folder, a converted checkpoint, or `owner/name`.

    Raises:
      UserError: none of these; says what was found.
    """
    name = os.fspath(name)
    folder = files.resolve(name)
    if not files.exists(folder):
        return _from_hub(name)
    if not os.path.isdir(folder) and not files.is_remote(folder):
        raise UserError(f"{name} is a file; expected {EXPECTED}.")
    return _from_folder(folder, name)


def _from_folder(folder, name):
    def holds(part):
        return files.exists(os.path.join(folder, part))

    if model_folder.is_model_folder(folder):
        return model_folder.read(folder)
    if holds("result.json") or re.fullmatch(r"fold\d+", os.path.basename(folder)):
        return read_fold(folder)
    if holds("config.json") and holds(PARAMS_FOLDER):
        return _converted(folder)
    found = [os.path.relpath(f, folder) for f in runs.fold_folders(folder)]
    if len(found) == 1:
        return read_fold(os.path.join(folder, found[0]))
    if found:
        raise UserError(
            f"{name} holds {len(found)} finished folds, each a model of its own: "
            f"{', '.join(found)}. Name one, for example {os.path.join(name, found[-1])}."
        )
    content = ", ".join(sorted(os.listdir(folder))[:8]) if not files.is_remote(folder) else ""
    raise UserError(f"{name} holds {content or 'nothing'}; expected {EXPECTED}.")


def read_fold(folder: str) -> LoadedModel:
    """The model that a finished fold tested.

    Args:
      folder: of the fold, for example `runs/demo/fold5` or `runs/x/seed0/fold5`.

    Raises:
      UserError: no finished fold there; checkpoint, tokenizer or an encoder's config are gone.
    """
    fold = _fold(files.resolve(folder))
    config, params = fold_params.read(fold)
    names = tuple(fold.result.label_names)
    try:
        config = factory.as_trained(config, fold.result.normalized)
        tokenizer, _ = read_tokenizer(config)
        model = build(config, len(names), tokenizer)
    except UserError as e:
        raise UserError(
            f"{e} The run in {os.path.dirname(fold.folder)} names it in config.json; relative "
            f"folders there count from the current directory, {os.getcwd()}."
        ) from e
    if params is None:
        params = initial_params(model, config, names)
    factory.check_params(model, params, fold.folder)
    return LoadedModel(
        source=str(folder),
        config=config,
        model=model,
        params=params,
        label_names=names,
        text_sources=fold.result.text_sources,
        tokenizer=tokenizer,
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
        "encoders": hub_names(config),
        "rates": classification.rates(result.confusion),
    }


def _converted(folder):
    model, params, config = original.load(folder)
    tokenizer, _ = read_tokenizer(config)
    factory.check_limits(model, config, tokenizer)
    card = {"name": config.name, "protocol": config.protocol, "selection": config.selection}
    return LoadedModel(folder, config, model, params, original.LABELS, {}, tokenizer, card)


def _from_hub(name):
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name):
        raise UserError(f"There is no folder {name}; expected {EXPECTED}.")
    try:
        folder = snapshot_download(name, allow_patterns=list(_FETCHED))
    except Exception as e:  # the hub's errors, or those of the network below it
        raise UserError(
            f"There is no folder {name} here, and no model of that name could be had from the "
            f"Hugging Face hub ({first_line(e)}). Expected {EXPECTED}."
        ) from e
    if not model_folder.is_model_folder(folder):
        raise UserError(
            f"{name} on the Hugging Face hub holds {', '.join(sorted(os.listdir(folder))[:8])}; "
            "expected config.json and model.safetensors as mmer_jax writes them."
        )
    return model_folder.read(folder)


def initial_params(model: MMER, config, label_names: tuple[str, ...]) -> dict:
    """The parameters that a training starts from, as host arrays; fresh ones by default.

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
    params, names, found = _read_source(source)
    if sorted(names) != sorted(label_names):
        raise UserError(
            f"config.init_from={source} has {len(names)} classes ({', '.join(names)}), the dataset "
            f"{len(label_names)} ({', '.join(label_names)}). Start from a model of the same "
            "classes, or from none: --config.init_from=''."
        )
    factory.check_params(model, params, source)
    if found and (seen := _seen(found, config)):
        print(seen, flush=True)
    return factory.reorder_classes(params, names, label_names)


def _read_source(source):
    """(parameters, names of their classes, what is known of the run)."""
    if files.exists(os.path.join(files.resolve(source), PARAMS_FOLDER)):
        original.load_config(source)  # refuses a folder that the converter did not write so
        return read_converted(source), original.LABELS, None
    found = read(source)
    return found.params, found.label_names, found


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
