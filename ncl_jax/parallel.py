"""Devices: distributed start, the one-axis mesh, and how arrays lie on it."""

import contextlib
import functools
import importlib.util
import math
import os
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from ncl_jax.errors import UserError, first_line

DATA_AXIS = "data"
SMALL = 32  # numbers on a device: splitting an array further saves nothing
Tree = TypeVar("Tree")
Function = TypeVar("Function", bound=Callable[..., Any])

HEARTBEAT = 30  # seconds without a sign of life, after which a process counts as dead and the others stop


def initialize(
    coordinator: str | None = None,
    process_count: int | None = None,
    process_index: int | None = None,
    *,
    shutdown_timeout: int = 300,
) -> None:
    """Join the other processes: by flags where given, else where a cluster's environment shows several of them.

    Known: TPU pods, SLURM (under srun), Open MPI, and indexed Jobs of Kubernetes where the package `kubernetes` is
    installed; jax finds coordinator, count and index itself. Open MPI 5 tells no address: give `coordinator` alone.
    `shutdown_timeout`: seconds that a process which is done waits for the others before all are aborted.

    Raises:
      UserError: flags that do not fit together, or processes that cannot be joined.
    """
    timeouts: dict[str, Any] = {"heartbeat_timeout_seconds": HEARTBEAT, "shutdown_timeout_seconds": shutdown_timeout}
    if coordinator is None and (process_count, process_index) != (None, None):
        raise UserError("--process_count and --process_index: need --coordinator=HOST:PORT of process 0")
    if coordinator is not None:
        if not re.fullmatch(r".+:\d+", coordinator):
            raise UserError(f"--coordinator={coordinator}: expected HOST:PORT of process 0")
        count = _given(process_count, "OMPI_COMM_WORLD_SIZE")
        index = _given(process_index, "OMPI_COMM_WORLD_RANK")
        if count is None or index is None:
            raise UserError("--coordinator needs --process_count and --process_index")
        check_process(index, count)
        _join(coordinator, count, index, **timeouts)
    elif _several_processes():
        _join(**timeouts)
    elif os.environ.get("TPU_ML_PLATFORM") == "JAX":  # jax sets it when imported on a TPU VM, pod or not
        with contextlib.suppress(ValueError):  # of no pod that jax knows
            jax.distributed.initialize(**timeouts)


def _several_processes() -> bool:
    """Whether a cluster started this process as one of several. Inside an allocation without srun it did not."""
    environ = os.environ
    if "SLURM_STEP_NODELIST" in environ:
        return _number("SLURM_STEP_NUM_TASKS", _number("SLURM_NTASKS", 1)) > 1
    if _number("OMPI_COMM_WORLD_SIZE", 1) > 1:
        if "OMPI_MCA_orte_hnp_uri" not in environ:
            raise UserError("Open MPI tells no address of process 0 here; add --coordinator=HOST:PORT of rank 0")
        return True
    if "JOB_COMPLETION_INDEX" in environ and "KUBERNETES_SERVICE_HOST" in environ:
        return importlib.util.find_spec("kubernetes") is not None
    return "," in environ.get("TPU_WORKER_HOSTNAMES", "") or bool(environ.get("JAX_COORDINATOR_ADDRESS"))


def check_process(index: int, count: int) -> None:
    """UserError where the flags name no process."""
    if count < 1:
        raise UserError(f"--process_count={count}: want at least 1")
    if not 0 <= index < count:
        raise UserError(f"--process_index={index}: expected 0 to {count - 1} of --process_count={count}")


def _join(*address: Any, **timeouts: int) -> None:
    try:
        jax.distributed.initialize(*address, **timeouts)
    except (
        RuntimeError,
        ValueError,
    ) as error:  # nobody answers, a port in use, half an environment
        raise UserError(f"cannot join the other processes: {first_line(error)}") from error

    if _alone_on_host():
        for variable in ("JAX_CUDA_VISIBLE_DEVICES", "JAX_ROCM_VISIBLE_DEVICES"):
            jax.config.update(variable.lower(), os.environ.get(variable, "all"))


def _alone_on_host() -> bool:
    """Whether SLURM or Open MPI started one task a host: jax, which counts on one for each GPU, gives it the first."""
    slurm, mpi = (os.environ.get(name, "") for name in ("SLURM_STEP_TASKS_PER_NODE", "OMPI_COMM_WORLD_LOCAL_SIZE"))
    return bool(re.fullmatch(r"1(\(x\d+\))?", slurm) or mpi == "1") and "JAX_LOCAL_DEVICE_IDS" not in os.environ


def _given(flag: int | None, variable: str) -> int | None:
    return flag if flag is not None else _number(variable, None)


def _number(variable: str, default: Any) -> Any:
    value = os.environ.get(variable, "")
    return int(value) if value.isdigit() else default


def data_mesh(devices: Sequence[Any] | None = None) -> Mesh:
    """One axis over all devices. Auto axes: under explicit ones gathers and updates of sharded arrays raise."""
    devices = jax.devices() if devices is None else devices
    return Mesh(np.array(devices), (DATA_AXIS,), axis_types=(AxisType.Auto,))


def host_device() -> Any:
    """This process's CPU; None, which stands for the default device, where JAX_PLATFORMS leaves it out."""
    with contextlib.suppress(RuntimeError):
        return jax.local_devices(backend="cpu")[0]
    return None


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The leading axis split over the devices."""
    return NamedSharding(mesh, PartitionSpec(DATA_AXIS))


def local_value(x: Any) -> Any:
    """What this process holds of an array that is the same on all devices; other arrays as they are."""
    return x.addressable_data(0) if isinstance(x, jax.Array) and x.is_fully_replicated else x


def on_mesh(function: Function, mesh: Mesh) -> Function:
    """`function`, to be jitted, as it is inside a compiled step: `spread` and `whole` know the devices."""

    @functools.wraps(function)
    def inside(*args: Any, **kwargs: Any) -> Any:
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return function(*args, **kwargs)

    return inside  # pyright: ignore[reportReturnType]


def spread(x: jax.Array, *, axis: int) -> jax.Array:
    """Inside a compiled step: this axis split over the devices, the others whole. Elsewhere it changes nothing."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*[None] * axis, DATA_AXIS))


def whole(tree: Tree) -> Tree:
    """Inside a compiled step: every array complete on each device. Elsewhere it changes nothing."""
    if jax.sharding.get_abstract_mesh().empty:
        return tree
    return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, PartitionSpec()), tree)


def shares(mesh: Mesh, shape: tuple[int, ...]) -> NamedSharding:
    """An array's longest axis that divides split over the devices; whole where none does or it is small."""
    axis = shared_axis(mesh.size, shape)
    return replicated(mesh) if axis is None else NamedSharding(mesh, PartitionSpec(*[None] * axis, DATA_AXIS))


def shared_axis(devices: int, shape: tuple[int, ...]) -> int | None:
    """The axis that `shares` splits."""
    fitting = [axis for axis, length in enumerate(shape) if length % devices == 0]
    if math.prod(shape) < SMALL * devices or not fitting:
        return None
    return max(fitting, key=lambda axis: shape[axis])


def check_batch(batch: int, mesh: Mesh, parts: int) -> None:
    """Every device holds the same number of images of each of the `parts` that a batch is computed in."""
    if batch % mesh.size:
        raise UserError(f"config.batch = {batch}: does not divide over {mesh.size} devices; use a multiple of it")
    if batch // parts % mesh.size:
        raise UserError(
            f"config.optim.accumulate = {parts}: parts of {batch // parts} images do not divide over "
            f"{mesh.size} devices"
        )
