"""What a fold keeps of its training: checkpoints until it is finished, then its parameters.

  runs/x/fold5/checkpoints            state, data iterator, history and their sums, by orbax
  runs/x/fold5/params.safetensors     what fold 5 trained
  runs/x/shared/<digest>.safetensors  what is frozen: of all folds, and seeds, that have the same
  runs/x/shared/audio_encoder, text_encoder, tokenizer

So a finished fold opens without the pretrained folders. Runs of older versions kept their
checkpoints; those are still read.
"""

import json
import os
import re
import tempfile
import zlib

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from flax import traverse_util

from mmer_jax import files, processes
from mmer_jax.errors import UserError, first_line, refusal
from mmer_jax.models import storage
from mmer_jax.runs import CONFIG, RESULT, FoldRun
from mmer_jax.training import sharding
from mmer_jax.training.optimizer import merge

CHECKPOINTS, REFIT, PARAMS, SHARED = "checkpoints", "refit", "params.safetensors", "shared"
SUMS = "sums"  # of a checkpoint: see `_sums`
KEY = "shared"  # of the metadata, with `_ABOUT`
# Where the shared parameters lie, from the fold's folder, with their digest; and the digest of the
# fold's own, which versions before did not write.
_ABOUT = re.compile(
    rf"((?:\.\./){{1,2}}{SHARED}/([0-9a-f]{{16}})\.safetensors)(?: ([0-9a-f]{{16}}))?"
)
AGAIN = (
    f"delete the fold's {RESULT} and run `python -m mmer_jax.main` again with the same options and "
    "--workdir."
)
ADVICE = f"Copy the run again, as a whole; or {AGAIN}"


class Checkpoints:
    """The checkpoints of one training: the newest one, to go on from, and the best one.

    A checkpoint is renamed into place when it is whole, so a killed run leaves none in halves.

    Args:
      folder: of the training; they are made below it.

    Raises:
      UserError: one that is there is damaged.
    """

    def __init__(self, folder: str):
        # Here, as below: a prediction needs neither orbax nor grain, which take long to import.
        import orbax.checkpoint as ocp
        from orbax.checkpoint import checkpoint_managers

        self.folder = os.path.join(files.resolve(folder), CHECKPOINTS)
        policies = [
            checkpoint_managers.LatestN(n=1),
            checkpoint_managers.BestN(
                get_metric_fn=lambda metrics: metrics["score"],
                n=1,
                keep_checkpoints_without_metrics=False,
            ),
        ]
        options = ocp.CheckpointManagerOptions(
            preservation_policy=checkpoint_managers.AnyPreservationPolicy(policies),
            cleanup_tmp_directories=True,
        )
        try:
            self._manager = ocp.CheckpointManager(self.folder, options=options)
        except Exception as e:  # it reads every checkpoint's metrics
            damaged = self._without_metrics()
            if not damaged or refusal(e):
                raise
            raise _not_restored(damaged[0], e) from e

    def _without_metrics(self):
        """Paths of the checkpoints whose metrics can't be read."""
        found = []
        for path in epath.Path(self.folder).glob("[0-9]*"):
            try:
                json.loads((path / "metrics" / "metrics").read_text())
            except ValueError:
                found.append(str(path))
            except FileNotFoundError:  # it never had any
                pass
        return found

    def save(self, step: int, state, iterator, history: list, score: float) -> None:
        """Writes in the background; `score` ranks it, larger is better."""
        import grain.python as grain
        import orbax.checkpoint as ocp

        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            data=grain.PyGrainCheckpointSave(iterator),
            history=ocp.args.JsonSave(history),
            **{SUMS: ocp.args.JsonSave(_sums(state, history, iterator))},
        )
        self._manager.save(step, args=items, metrics={"score": score})

    def latest_step(self) -> int | None:
        """The newest checkpoint's step, None where there is none."""
        return self._manager.latest_step()

    def restore(self, step: int, state, iterator=None):
        """The state of `step`, placed as `state` is, and the history; moves `iterator` there.

        Raises:
          UserError: the checkpoint can't be read, is not what was saved, or is of another model.
        """
        import grain.python as grain
        import orbax.checkpoint as ocp

        self._manager.wait_until_finished()
        items = dict(
            state=ocp.args.StandardRestore(jax.tree.map(ocp.utils.to_shape_dtype_struct, state)),
            history=ocp.args.JsonRestore(),
        )
        path = os.path.join(self.folder, str(step))
        if iterator is not None:
            items["data"] = grain.PyGrainCheckpointRestore(iterator)
        if files.exists(os.path.join(path, SUMS)):  # else an older version saved it
            items[SUMS] = ocp.args.JsonRestore()
        try:
            restored = self._manager.restore(step, args=ocp.args.Composite(**items))
        except Exception as e:  # orbax raises what the layer below it raised
            raise self._not_restored(step, e) from e
        state, history = restored["state"], restored["history"]
        if SUMS in items:
            found = _sums(state, history, iterator)
            if any(restored[SUMS].get(name) != value for name, value in found.items()):
                error = ValueError("its numbers are not those that were saved")
                raise self._not_restored(step, error)
        return state, history

    def _not_restored(self, step, error):
        """Without its best checkpoint a training that has come further can't be finished."""
        folder = "" if step == self.latest_step() else self.folder
        return _not_restored(os.path.join(self.folder, str(step)), error, folder)

    def close(self) -> None:
        """Waits until everything is written, and closes the folder."""
        self._manager.wait_until_finished()
        self._manager.close()


def _sums(state, history, iterator):
    """JSON values that are others if any byte of a checkpoint is: nothing below us looks at all."""
    found = {
        "state": sharding.gather(_sums_of_leaves(state)).tolist(),
        "history": zlib.crc32(json.dumps(history).encode()),
    }
    if iterator is not None:
        found["data"] = zlib.crc32(json.dumps(iterator.get_state(), sort_keys=True).encode())
    return found


@jax.jit
def _sums_of_leaves(state):
    """uint32 [leaves]: the sum of each one's words, modulo 2^32."""

    def total(leaf):
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        leaf = leaf.astype(jnp.uint8) if leaf.dtype == bool else leaf
        words = jax.lax.bitcast_convert_type(leaf, f"uint{8 * leaf.dtype.itemsize}")
        return words.astype(jnp.uint32).sum(dtype=jnp.uint32)

    return jnp.stack([total(leaf) for leaf in jax.tree.leaves(state)])


def _not_restored(path, error, folder=""):
    return UserError(
        f"The checkpoint {path} can't be restored ({first_line(error)}). If it is damaged, delete "
        f"{folder or 'that folder'} and run again: training goes on from the one before, or from "
        "the start."
    )


def write_params(trainer, state, folder: str, run: str) -> None:
    """Writes the tested state's parameters; every process calls it, the first one writes.

    Without a training step everything is as it was before, so everything is shared.

    Args:
      trainer: of the run.
      state: the tested one.
      folder: of the fold.
      run: the run's workdir, above its seeds.
    """
    step, trained, frozen = sharding.gather((state.step, state.params, state.frozen))
    if not processes.is_first():
        return
    if not step:
        trained, frozen = {}, merge(trained, frozen)
    # As they are stored, and read again.
    trained, frozen = jax.tree.map(lambda x: np.asarray(x, np.float32), (trained, frozen))
    shared, digest = os.path.join(run, SHARED), storage.params_digest(frozen)
    path = os.path.join(shared, f"{digest}.safetensors")
    whole = _is_whole(path, digest)
    # The file comes after the parts; a folder that came with it may still have lost some.
    if not whole or not all(map(files.exists, _parts(shared, trainer.config))):
        with tempfile.TemporaryDirectory() as made:
            storage.write_parts(trainer.model, trainer.tokenizer, made)
            for name in os.listdir(made):
                files.copy_files(os.path.join(made, name), os.path.join(shared, name))
    if not whole:
        storage.write_params(path, frozen, {})
    # Last, for it makes the rest count.
    place = os.path.relpath(path, folder).replace(os.sep, "/")
    about = f"{place} {storage.params_digest(trained)}"
    storage.write_params(os.path.join(folder, PARAMS), trained, {KEY: about})


def _is_whole(path, digest):
    try:
        return files.exists(path) and _parameters(path, digest) is not None
    except UserError:
        return False


def _parameters(path, digest):
    """Nested, of a file; with no digest they are not compared with one."""
    params = traverse_util.unflatten_dict(storage.read_params(path, ADVICE)[0], sep="/")
    if digest and storage.params_digest(params) != digest:
        raise UserError(f"{path} is damaged: it does not hold what was written. {ADVICE}")
    return params


def _parts(shared, config):
    return [os.path.join(shared, name) for name in storage.part_files(config.model.modalities)]


def clean_up(folder: str, config) -> None:
    """Deletes the checkpoints of a finished fold, if its parameters are written; else nothing.

    Args:
      folder: of a fold that has its result.json.
      config: the run's.

    Raises:
      UserError: there are checkpoints, and what would be left without them is not whole.
    """
    if not processes.is_first() or not _is_written(folder):
        return
    rest = [os.path.join(folder, CHECKPOINTS), os.path.join(folder, REFIT, CHECKPOINTS)]
    rest = list(filter(files.exists, rest))
    if rest:
        check_whole(folder, config)
        _stored(folder, _about(folder))
    for path in rest:
        try:
            files.remove_folder(path)
        except OSError as e:
            print(f"{path} is not needed any more and can't be deleted: {e}", flush=True)


def _is_written(folder):
    """Whether the fold has its parameters in a file; one of an older version has checkpoints."""
    return files.exists(os.path.join(folder, PARAMS))


def check_whole(folder: str, config=None) -> None:
    """Raises UserError where a fold's run is not beside it, as far as the fold needs it.

    Args:
      folder: of the fold.
      config: the run's, if there is one.
    """
    if not _is_written(folder):
        return
    shared = _about(folder)[0]
    needed = [os.path.join(os.path.dirname(folder), CONFIG), shared]
    needed += _parts(os.path.dirname(shared), config) if config else []
    lacking = [path for path in needed if not files.exists(path)]
    if lacking:
        raise UserError(
            f"The fold in {folder} was copied without its run, or the run is not whole: there is "
            f"no {', no '.join(lacking)}. Copy them there from the run's workdir, or take the "
            "model alone with you: python -m mmer_jax.export WORKDIR OUT. If they are gone there "
            f"too, {AGAIN}"
        )


def _about(folder):
    """(path of the file of shared parameters, their digest, the fold's own or None), as it says."""
    path = os.path.join(folder, PARAMS)
    about = _ABOUT.fullmatch(storage.read_metadata(path, ADVICE).get(KEY, "").replace(os.sep, "/"))
    if not about:
        raise UserError(f"{path} names no shared parameters: it is no fold's. {ADVICE}")
    name, *digests = about.groups()
    while name.startswith("../"):  # by hand: normpath spoils gs://
        folder, name = os.path.dirname(folder), name[3:]
    return os.path.join(folder, name), *digests


def read_params(fold: FoldRun):
    """(config, parameters): the run's config, and the tested parameters as host arrays.

    The config names the run's own copies of encoders and tokenizer, if it has them. The parameters
    are None for a fold of an older version that was not trained: they are what it started from.

    Raises:
      UserError: something of it is gone or damaged.
    """
    config = fold.config.copy_and_resolve_references()
    if not _is_written(fold.folder):
        return config, _read_checkpoint(fold)
    check_whole(fold.folder, config)
    about = _about(fold.folder)
    storage.use_parts(config, os.path.dirname(about[0]))
    return config, _stored(fold.folder, about)


def _stored(folder, about):
    """A fold's parameters, shared and its own; raises UserError where they are damaged."""
    shared, *digests = about
    if not all(digests):
        digests = None, None  # by a version before
    paths = shared, os.path.join(folder, PARAMS)
    return merge(*map(_parameters, paths, digests))


def _read_checkpoint(fold):
    """Parameters of the tested checkpoint of an older version; None for the untrained state."""
    step = fold.result.chosen["step"]
    if not step:
        return None
    # A refit has as many steps as were chosen.
    path = os.path.join(
        fold.folder, REFIT if fold.config.refit else "", CHECKPOINTS, str(step), "state"
    )
    if not files.exists(path):
        raise UserError(
            f"The checkpoint {path} is gone, and {PARAMS} is not in {fold.folder}. To have it "
            f"made again, {AGAIN}"
        )
    import orbax.checkpoint as ocp

    try:
        with ocp.PyTreeCheckpointer() as checkpointer:
            tree = checkpointer.metadata(path).item_metadata.tree
            wanted = {name: tree[name] for name in ("params", "frozen") if tree[name]}
            arrays = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted)
            options = ocp.args.PyTreeRestore(wanted, arrays, partial_restore=True)
            found = checkpointer.restore(path, options)
    except Exception as e:  # orbax raises what the layer below it raised
        raise _not_restored(os.path.dirname(path), e) from e
    return merge(found.get("params", {}), found.get("frozen", {}))
