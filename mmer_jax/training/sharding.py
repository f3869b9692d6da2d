"""Where arrays live: a mesh over all devices of all processes, and who holds what on it.

A rule for parameters is a regex that a whole path (`a/b/kernel`) matches, and the mesh axes of its
dimensions; the first match counts. An encoder's rules are in its entry of the registry, relative to
it. Megatron's pattern (Shoeybi et al. 2019): of two matrices in a row the first is split by its
columns on `model` and the second by its rows, so that one sum follows, not two; the other dimension
is split on `fsdp`.
"""

import re

import jax
import numpy as np
from flax import traverse_util
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from mmer_jax.errors import UserError
from mmer_jax.models import encoders

AXES = ("data", "fsdp", "model")
# Rows of a batch are split over both: `fsdp` is data parallelism that splits the state as well.
ROWS = ("data", "fsdp")

_RULES = (
    (r".*/(bias|scale)|audio_layers/weights", encoders.WHOLE),
    # `text` alone is the text-only model's one layer.
    (r"(fusion/)?text/projection/kernel", ("fsdp", None)),
    (r"(fusion|text)/.*/(query|key|value|intermediate)/kernel", encoders.COLUMNS),
    (r"(fusion|text)/.*/(attention_output|output)/kernel", encoders.ROWS),
    (r"fusion/(audio_keys|audio_queries|downsample|gate)/kernel", ("fsdp", None)),
    (r"(aug_)?projection/hidden/kernel", encoders.COLUMNS),
    (r"(aug_)?projection/output/kernel", encoders.ROWS),
    (r"(emotion|ctc)/linear/kernel", ("fsdp", None)),
)


def rules() -> list[tuple[str, tuple]]:
    """All rules in their order: a part that a model lacks has rules that match nothing."""
    return [*_RULES] + [
        (f"{encoder.modality}_encoder/(?:{path})", axes)
        for encoder in encoders.ENCODERS.values()
        for path, axes in encoder.sharding
    ]


def spec(path: str) -> PartitionSpec:
    """That of a parameter; raises UserError where no rule matches its path."""
    for pattern, axes in rules():
        if re.fullmatch(pattern, path):
            return PartitionSpec(*axes)
    raise UserError(
        f"No sharding rule matches the parameter {path!r}. Add one to its encoder's entry in "
        "mmer_jax/models/encoders/__init__.py, or to mmer_jax/training/sharding.py."
    )


def make_mesh(sizes=None) -> jax.sharding.Mesh:
    """All devices on the axes `data`, `fsdp`, `model`.

    Auto axes: under explicit ones a contrastive z @ z.T of a sharded z raises a type error.

    Args:
      sizes: axis -> devices, `data` -1 for all that the others leave; None: all on `data`.

    Raises:
      UserError: the sizes don't multiply to the number of devices.
    """
    count = jax.device_count()
    sizes = dict(sizes or {"data": -1, "fsdp": 1, "model": 1})
    others = sizes["fsdp"] * sizes["model"]
    data = count // others if sizes["data"] == -1 else sizes["data"]
    if data * others != count:
        raise UserError(
            f"config.mesh is {', '.join(f'{a}={sizes[a]}' for a in AXES)}, which does not make use "
            f"of exactly the {count} devices that there are; data=-1 takes what the others leave."
        )
    shape = (data, sizes["fsdp"], sizes["model"])
    return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def batch_sharding(mesh) -> NamedSharding:
    """Rows of a batch over `data` and `fsdp`; a copy of each row along `model`."""
    return NamedSharding(mesh, PartitionSpec(ROWS))


def replicated(mesh) -> NamedSharding:
    """A whole copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def process_rows(batch_size: int, mesh) -> np.ndarray:
    """Which rows of a batch this process's devices hold, rising: int [n]."""
    held = batch_sharding(mesh).addressable_devices_indices_map((batch_size,)).values()
    return np.unique(np.concatenate([np.arange(batch_size)[index] for index in held]))


def place(batch: dict, mesh) -> dict:
    """A batch of host arrays, of which each process brings its `process_rows`, on the mesh."""
    rows = batch_sharding(mesh)
    if jax.process_count() == 1:
        return jax.device_put(batch, rows)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(rows, x), batch)


def check_batch_size(option: str, size: int, mesh) -> None:
    """Raises UserError where the devices can't share the rows of a batch evenly."""
    devices = mesh.shape["data"] * mesh.shape["fsdp"]
    if size % devices:
        raise UserError(
            f"config.{option} is {size}, which {devices} devices (config.mesh.data x fsdp) can't "
            f"share evenly; use a multiple of {devices}, or let devices share matrix products "
            "(config.mesh.model)."
        )


def state_shardings(state, mesh):
    """A tree like `state` of the sharding of each leaf.

    Parameters lie as the rules say; what the optimiser keeps per parameter lies beside
    it; all else is copied to every device. A dimension that its axis doesn't divide stays whole.

    Args:
      state: a TrainState of arrays or shapes.

    Raises:
      UserError: see `spec`.
    """
    paths = {*traverse_util.flatten_dict(state.params), *traverse_util.flatten_dict(state.frozen)}

    def sharding(keys, leaf):
        # An optimiser's leaf ends with its parameter's path: .../mu/a/b/kernel.
        names = tuple(key.key for key in keys if isinstance(key, jax.tree_util.DictKey))
        axes = spec("/".join(names)) if names in paths else PartitionSpec()
        return NamedSharding(mesh, _dividing(axes, leaf.shape, mesh))

    return jax.tree_util.tree_map_with_path(sharding, state)


def _dividing(axes, shape, mesh):
    fits = (axis if axis and n % mesh.shape[axis] == 0 else None for axis, n in zip(axes, shape))
    return PartitionSpec(*fits)


def distribute(tree, shardings):
    """Host arrays, the same in every process, onto the mesh.

    Each device gets a copy of its own: a step that is given the state's memory must not be given
    the host's.
    """

    def spread(x, sharding):
        return jax.make_array_from_callback(x.shape, sharding, lambda i: np.array(x[i]))

    return jax.tree.map(spread, tree, shardings)


def gather(tree):
    """Arrays on the mesh -> whole host arrays, in every process; all processes call it."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    from jax.experimental import multihost_utils

    return jax.tree.map(lambda x: multihost_utils.process_allgather(x, tiled=True), tree)
