"""Devices: distributed start, the one-axis mesh, and how arrays lie on it."""

import os
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from ncl_jax.errors import UserError

DATA_AXIS = "data"

# Set where a cluster started this process; jax finds coordinator, count and index from the same variables.
_CLUSTER_VARIABLES = ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE", "TPU_WORKER_HOSTNAMES", "JAX_COORDINATOR_ADDRESS")


def initialize(
    coordinator: str | None = None, process_count: int | None = None, process_index: int | None = None
) -> None:
    """Join the other processes: by flags where given, else where a cluster's environment shows several of them."""
    if coordinator is not None:
        if process_count is None or process_index is None:
            raise UserError("--coordinator needs --process_count and --process_index")
        jax.distributed.initialize(coordinator, process_count, process_index)
    elif _cluster_size() > 1:
        jax.distributed.initialize()


def _cluster_size() -> int:
    for name in _CLUSTER_VARIABLES:
        value = os.environ.get(name, "")
        if value.isdigit() and int(value) > 1:
            return int(value)
        if "," in value or (name == "JAX_COORDINATOR_ADDRESS" and value):
            return 2  # several hosts are listed; jax counts them
    return 1


def data_mesh(devices: Sequence[Any] | None = None) -> Mesh:
    """One axis over all devices. Auto axes: gathers and updates of sharded arrays stay allowed (DESIGN, 4)."""
    devices = jax.devices() if devices is None else devices
    return Mesh(np.array(devices), (DATA_AXIS,), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The leading axis split over the devices."""
    return NamedSharding(mesh, PartitionSpec(DATA_AXIS))


def local_value(x: Any) -> Any:
    """What this process holds of an array that is the same on all devices; other arrays as they are."""
    return x.addressable_data(0) if isinstance(x, jax.Array) and x.is_fully_replicated else x


def spread(x: jax.Array, *, axis: int) -> jax.Array:
    """Inside a compiled step: this axis split over the devices, the others whole. Elsewhere it changes nothing."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*[None] * axis, DATA_AXIS))


def check_batch(batch: int, mesh: Mesh, parts: int = 1) -> None:
    """Every device holds the same number of images of each of the `parts` that a batch is computed in."""
    if batch % parts == 0 and batch // parts % mesh.size and batch % mesh.size == 0:
        raise UserError(
            f"config.optim.accumulate = {parts}: parts of {batch // parts} images do not divide over "
            f"{mesh.size} devices"
        )
    if batch % mesh.size:
        raise UserError(f"config.batch = {batch}: does not divide over {mesh.size} devices; use a multiple of it")
