"""Where arrays live: a mesh over all devices, batches split over it, the state on every one."""

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from mmer_jax.errors import UserError


def make_mesh() -> jax.sharding.Mesh:
    """All devices on one axis, `data`.

    Auto axes: under explicit ones a contrastive z @ z.T of a sharded z raises a type error.
    """
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def batch_sharding(mesh) -> NamedSharding:
    """Rows of a batch over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def replicated(mesh) -> NamedSharding:
    """A whole copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def place(batch: dict, mesh) -> dict:
    """A batch of host arrays, moved to the devices of the mesh."""
    return jax.device_put(batch, batch_sharding(mesh))


def check_batch_size(option: str, size: int, mesh) -> None:
    """Raises UserError where the devices can't share the rows of a batch evenly."""
    devices = int(np.prod(mesh.devices.shape))
    if size % devices:
        raise UserError(
            f"config.{option} is {size}, which {devices} devices can't share evenly; use a "
            f"multiple of {devices}."
        )
