"""A trained model by its name: a folder of any kind that this package writes, or a hub name."""

import os
import re

from absl import logging

from mmer_jax import files
from mmer_jax.errors import UserError
from mmer_jax.inference import from_run
from mmer_jax.inference.model import LoadedModel, read_tokenizer
from mmer_jax.inference.predictor import Predictor
from mmer_jax.models import factory
from mmer_jax.training.checkpoint import PARAMS_FOLDER

EXPECTED = (
    "a finished fold of a run (runs/demo/fold5), a model folder (config.json and "
    "model.safetensors), a folder written by mmer_jax.convert.released, or a model on the "
    "Hugging Face hub (owner/name)"
)
# What a model folder may hold; nothing that is executed or unpickled is fetched.
_FETCHED = ("*.json", "*.safetensors", "*.txt", "*.model", "*.md")


def load(name: str, **options) -> Predictor:
    """A predictor from a folder or a hub name.

    Args:
      name: see `read`.
      **options: of `Predictor`, for example `batch_sizes=(1, 16)`.

    Raises:
      UserError: see `read`.
    """
    removed = [x for x in ("decoder", "beam_width") if options.pop(x, None)]
    if removed:
        logging.warning("%s: the beam search was removed; texts are greedy.", ", ".join(removed))
    return Predictor(read(name), **options)


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
    from mmer_jax.inference import model_folder

    def holds(part):
        return files.exists(os.path.join(folder, part))

    if model_folder.is_model_folder(folder):
        return model_folder.read(folder)
    if holds("result.json") or re.fullmatch(r"fold\d+", os.path.basename(folder)):
        return from_run.load_fold(folder)
    if holds("config.json") and holds(PARAMS_FOLDER):
        return _converted(folder)
    folds = _folds(folder)
    if len(folds) == 1:
        return from_run.load_fold(os.path.join(folder, folds[0]))
    if folds:
        raise UserError(
            f"{name} holds {len(folds)} finished folds, each a model of its own: "
            f"{', '.join(folds)}. Name one, for example {os.path.join(name, folds[-1])}."
        )
    content = ", ".join(sorted(os.listdir(folder))[:8]) if not files.is_remote(folder) else ""
    raise UserError(f"{name} holds {content or 'nothing'}; expected {EXPECTED}.")


def _folds(folder):
    """Finished folds below a run's workdir, by number: fold1, ... or seed0/fold1, ..."""
    pattern = re.compile(r"(seed\d+/)?fold\d+")
    found = []
    for top in _entries(folder):
        below = [f"{top}/{x}" for x in _entries(os.path.join(folder, top))]
        found += [x for x in (top, *below) if pattern.fullmatch(x)]
    finished = [x for x in found if files.exists(os.path.join(folder, x, "result.json"))]
    return sorted(finished, key=lambda x: [int(n) for n in re.findall(r"\d+", x)])


def _entries(folder):
    return os.listdir(folder) if os.path.isdir(folder) else []


def _converted(folder):
    # Imported late: few need it.
    from mmer_jax.convert import released

    model, params, config = released.load(folder)
    tokenizer, tokenizer_folder = read_tokenizer(config)
    factory.check_limits(model, config, tokenizer)
    card = {"name": config.name, "protocol": config.protocol, "selection": config.selection}
    return LoadedModel(
        folder, config, model, params, released.LABELS, {}, tokenizer, tokenizer_folder, card
    )


def _from_hub(name):
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name):
        raise UserError(f"There is no folder {name}; expected {EXPECTED}.")
    from huggingface_hub import snapshot_download

    from mmer_jax.inference import model_folder

    try:
        folder = snapshot_download(name, allow_patterns=list(_FETCHED))
    except Exception as e:  # the hub's errors, or those of the network below it
        reason = (str(e).strip() or type(e).__name__).split("\n")[0][:200]
        raise UserError(
            f"There is no folder {name} here, and no model of that name could be had from the "
            f"Hugging Face hub ({reason}). Expected {EXPECTED}."
        ) from e
    if not model_folder.is_model_folder(folder):
        raise UserError(
            f"{name} on the Hugging Face hub holds {', '.join(sorted(os.listdir(folder))[:8])}; "
            "expected config.json and model.safetensors as mmer_jax writes them."
        )
    return model_folder.read(folder)
