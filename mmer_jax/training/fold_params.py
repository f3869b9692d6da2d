"""The parameters of a finished fold on a disk: its own in its folder, shared ones once per run.

  runs/x/fold5/params.safetensors     what fold 5 trained
  runs/x/shared/<digest>.safetensors  what is frozen: of all folds, and seeds, that have the same
  runs/x/shared/audio_encoder, text_encoder, tokenizer

So a fold opens without the pretrained folders. Runs of older versions kept whole checkpoints in
their place; those are still read.
"""

import os
import tempfile

from etils import epath
from flax import traverse_util

from mmer_jax import files, processes
from mmer_jax.errors import UserError
from mmer_jax.models import storage
from mmer_jax.runs import FoldRun
from mmer_jax.training import checkpoint, sharding
from mmer_jax.training.optimizer import merge

PARAMS, SHARED = "params.safetensors", "shared"
KEY = "shared"  # of the metadata: where the shared parameters lie, from the fold's folder
CHECKPOINTS, REFIT = "checkpoints", "refit"
ADVICE = (
    "Copy the run again, as a whole; or delete the fold's result.json and run `python -m "
    "mmer_jax.main` again with the same options and --workdir."
)


def write(trainer, state, folder: str, run: str) -> None:
    """Writes the tested state's parameters; every process calls it, the first one writes.

    Without a training step everything is as it was before, so everything is shared.

    Args:
      trainer: of the run.
      state: the tested one.
      folder: of the fold.
      run: the run's workdir, above its seeds.

    Raises:
      UserError: the tokenizer can't be read any more.
    """
    step, trained, frozen = sharding.gather((state.step, state.params, state.frozen))
    if not processes.is_first():
        return
    if not step:
        trained, frozen = {}, merge(trained, frozen)
    shared = os.path.join(run, SHARED)
    path = os.path.join(shared, f"{storage.params_digest(frozen)}.safetensors")
    whole = _is_whole(path)
    # The file comes after the parts; a folder that came with it may still have lost some.
    if not whole or _lacking_parts(shared, trainer.config):
        _write_parts(trainer, shared)
    if not whole:
        storage.write_params(path, frozen, {})
    # Last, for it makes the rest count.
    storage.write_params(
        os.path.join(folder, PARAMS), trained, {KEY: os.path.relpath(path, folder)}
    )


def _is_whole(path):
    try:
        return files.exists(path) and storage.read_metadata(path, "") is not None
    except UserError:
        return False


def _lacking_parts(shared, config):
    paths = (os.path.join(shared, name) for name in storage.part_files(config.model.modalities))
    return [path for path in paths if not files.exists(path)]


def _write_parts(trainer, shared):
    with tempfile.TemporaryDirectory() as made:
        source = trainer.tokenizer.source if trainer.tokenizer else ""
        storage.write_parts(trainer.model, source, made)
        for name in os.listdir(made):
            files.copy_files(os.path.join(made, name), os.path.join(shared, name))


def clean_up(folder: str, config) -> None:
    """Deletes the checkpoints of a finished fold, if its parameters are written; else nothing.

    Args:
      folder: of a fold that has its result.json.
      config: the run's.

    Raises:
      UserError: there are checkpoints, and what would be left without them is not whole.
    """
    rest = [os.path.join(folder, CHECKPOINTS), os.path.join(folder, REFIT, CHECKPOINTS)]
    if not processes.is_first() or not is_written(folder):
        return
    for path in (p for p in rest if files.exists(p)):
        check_whole(folder, config)
        storage.read_metadata(_shared_path(folder), ADVICE)  # truncated, it is not whole either
        try:
            files.remove_folder(path)
        except OSError as e:
            print(f"{path} is not needed any more and can't be deleted: {e}", flush=True)


def is_written(folder: str) -> bool:
    """Whether the fold has its parameters in a file; one of an older version has checkpoints."""
    return files.exists(os.path.join(folder, PARAMS))


def missing(folder: str, config=None) -> list[str]:
    """Paths of what the fold needs of its run, beside itself, and what isn't there.

    Args:
      folder: of the fold.
      config: the run's, if there is one.
    """
    needed = [os.path.join(os.path.dirname(folder), "config.json")]
    if is_written(folder):
        needed.append(_shared_path(folder))
    lacking = [path for path in needed if not files.exists(path)]
    if is_written(folder) and config is not None:
        lacking += _lacking_parts(os.path.dirname(needed[-1]), config)
    return lacking


def check_whole(folder: str, config=None) -> None:
    """Raises UserError where `missing` names something."""
    lacking = missing(folder, config)
    if lacking and is_written(folder):
        raise UserError(
            f"The fold in {folder} was copied without its run, or the run is not whole: there is "
            f"no {', no '.join(lacking)}. Copy them there from the run's workdir, or take the "
            "model alone with you: python -m mmer_jax.export WORKDIR OUT. If they are gone there "
            "too, delete the fold's result.json and run `python -m mmer_jax.main` again with the "
            "same options and --workdir."
        )


def read(fold: FoldRun):
    """(config, parameters): the run's config, and the tested parameters as host arrays.

    The config names the run's own copies of encoders and tokenizer, if it has them. The parameters
    are None for a fold of an older version that was not trained: they are what it started from.

    Raises:
      UserError: something of it is gone or damaged.
    """
    config = fold.config.copy_and_resolve_references()
    if not is_written(fold.folder):
        return config, _read_checkpoint(fold)
    check_whole(fold.folder, config)
    shared = _shared_path(fold.folder)
    storage.use_parts(config, os.path.dirname(shared))
    trained, _ = storage.read_params(os.path.join(fold.folder, PARAMS), ADVICE)
    frozen, _ = storage.read_params(shared, ADVICE)
    return config, traverse_util.unflatten_dict(trained | frozen, sep="/")


def _shared_path(folder):
    """Path of the file of shared parameters that the fold names."""
    path = os.path.join(folder, PARAMS)
    name = storage.read_metadata(path, ADVICE).get(KEY)
    if not name:
        raise UserError(f"{path} names no shared parameters: it is no fold's. {ADVICE}")
    while name.startswith("../"):  # by hand: normpath spoils gs://
        folder, name = os.path.dirname(folder), name[3:]
    return os.path.join(folder, name)


def _read_checkpoint(fold):
    """Parameters of the tested checkpoint of an older version; None for the untrained state."""
    step = fold.result.chosen["step"]
    if not step:
        return None
    refit = REFIT if fold.config.refit else ""
    folder = os.path.join(fold.folder, refit, CHECKPOINTS)
    steps = _steps(folder)
    if refit and steps:
        step = max(steps)
    if step not in steps:
        raise UserError(
            f"The checkpoint of step {step} is not in {folder} any more, and {PARAMS} is not in "
            f"{fold.folder}. To have it made again, delete "
            f"{os.path.join(fold.folder, 'result.json')} and run `python -m mmer_jax.main` "
            "with the same options and --workdir."
        )
    return checkpoint.read_step_params(folder, step)


def _steps(folder):
    if not files.exists(folder):
        return []
    return [int(p.name) for p in epath.Path(folder).iterdir() if p.name.isdigit()]
