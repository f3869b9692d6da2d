"""Checkpoints through orbax: state, data iterator, config and history in one step directory."""

import os

import grain.python as grain
import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from mmer_jax import files
from mmer_jax.errors import UserError, first_line
from mmer_jax.training.optimizer import merge


def read_step_params(folder: str, step: int) -> dict:
    """The parameters alone of a checkpoint that `Checkpoints` wrote, as host arrays.

    Args:
      folder: of the checkpoints.
      step: of one of them.

    Raises:
      UserError: it can't be read.
    """
    path = os.path.join(folder, str(step), "state")
    try:
        with ocp.PyTreeCheckpointer() as checkpointer:
            tree = checkpointer.metadata(path).item_metadata.tree
            parts = {name: tree[name] for name in ("params", "frozen") if tree[name]}
            arrays = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), parts)
            options = ocp.args.PyTreeRestore(parts, arrays, partial_restore=True)
            found = checkpointer.restore(path, options)
    except Exception as e:  # orbax raises what the layer below it raised
        raise UserError(_not_restored(os.path.dirname(path), e)) from e
    return merge(found.get("params", {}), found.get("frozen", {}))


def _not_restored(path, error):
    return (
        f"The checkpoint {path} can't be restored ({first_line(error)}). If it is "
        "damaged, delete that folder and run again: training goes on from the one before, or from "
        "the start."
    )


class Checkpoints:
    """The checkpoints of one fold: the newest one, to go on from, and the best one.

    A checkpoint is renamed into place when it is whole, so a killed run leaves none in halves.

    Args:
      folder: made if it is missing.
    """

    def __init__(self, folder: str):
        self.folder = files.resolve(folder)
        policies = [
            checkpoint_managers.LatestN(n=1),
            checkpoint_managers.BestN(
                get_metric_fn=lambda metrics: metrics["score"],
                n=1,
                keep_checkpoints_without_metrics=False,
            ),
        ]
        self._manager = ocp.CheckpointManager(
            self.folder,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=checkpoint_managers.AnyPreservationPolicy(policies),
                cleanup_tmp_directories=True,
            ),
        )

    def save(self, step: int, state, iterator, config: dict, history: list, score: float) -> None:
        """Writes in the background; `score` ranks it, larger is better."""
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            data=grain.PyGrainCheckpointSave(iterator),
            config=ocp.args.JsonSave(config),
            history=ocp.args.JsonSave(history),
        )
        self._manager.save(step, args=items, metrics={"score": score})

    def latest_step(self) -> int | None:
        """The newest checkpoint's step, None where there is none."""
        return self._manager.latest_step()

    def restore(self, step: int, state, iterator=None):
        """The state of `step`, placed as `state` is, and the history; moves `iterator` there.

        Raises:
          UserError: the checkpoint can't be read or is of another model.
        """
        items = dict(
            state=ocp.args.StandardRestore(jax.tree.map(ocp.utils.to_shape_dtype_struct, state)),
            history=ocp.args.JsonRestore(),
        )
        if iterator is not None:
            items["data"] = grain.PyGrainCheckpointRestore(iterator)
        try:
            restored = self._manager.restore(step, args=ocp.args.Composite(**items))
        except Exception as e:  # orbax raises what the layer below it raised
            raise UserError(_not_restored(os.path.join(self.folder, str(step)), e)) from e
        return restored["state"], restored["history"]

    def wait(self) -> None:
        """Returns when nothing is being written any more."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits until everything is written, and closes the folder."""
        self.wait()
        self._manager.close()
