"""A config's compiled step with a state and a batch of noise, and what the compiler says of it."""

import dataclasses
import time
from typing import Any

import jax
from jax.sharding import Mesh

from ncl_jax import methods, optim, parallel
from ncl_jax import state as state_lib
from ncl_jax import step as step_lib
from ncl_jax.benchmark import flops, random_batch, timing
from ncl_jax.config import Config

STEPS_PER_EPOCH = 1000  # only schedules see it


@dataclasses.dataclass
class Program:
    """Call it to take a step; the state moves on, the batch stays."""

    config: Config
    mesh: Mesh
    compiled: Any
    flops: float  # of a step on one device; see `flops.count`
    compile_seconds: float  # tracing and lowering included
    state: state_lib.TrainState
    batch: dict[str, jax.Array]

    def __call__(self) -> dict[str, jax.Array]:
        self.state, metrics = self.compiled(self.state, self.batch)
        return metrics

    @property
    def bytes(self) -> int:
        """Memory of a step on one device: state, batch, and the most that is held between."""
        memory = self.compiled.memory_analysis()
        return (
            memory.argument_size_in_bytes
            + memory.output_size_in_bytes
            - memory.alias_size_in_bytes
            + memory.temp_size_in_bytes
        )


def make(config: Config) -> tuple[methods.Method, Any, step_lib.Step]:
    """Method, optimiser and step of `ncl-jax pretrain` for this config."""
    method, optimizer = methods.build(config, config.epochs * STEPS_PER_EPOCH), optim.optimizer(config, STEPS_PER_EPOCH)
    return method, optimizer, step_lib.make_step(config, method, optimizer, steps_per_epoch=STEPS_PER_EPOCH)


def uncompiled(
    config: Config, mesh: Mesh, *, num_classes: int = random_batch.CLASSES
) -> tuple[step_lib.Step, state_lib.TrainState]:
    """The step of `ncl-jax pretrain` for this config, and a fresh state."""
    method, optimizer, step = make(config)
    return step, state_lib.create(config, method, optimizer, num_classes=num_classes, mesh=mesh)


def trace(config: Config, mesh: Mesh, step: step_lib.Step, state: state_lib.TrainState, batch: Any) -> Any:
    """The step as JAX traces it for these devices; `state` and `batch` may be abstract."""
    jitted: Any = step_lib.compile_step(step, mesh, state_lib.shardings(config, state, mesh))
    return jitted.trace(state, batch)


def build(config: Config, mesh: Mesh) -> Program:
    """The step compiled, with a batch of noise. Raises UserError for a batch that does not divide."""
    parallel.check_batch(config.batch, mesh, config.optim.accumulate)
    step, fresh = uncompiled(config, mesh)
    batch = jax.device_put(random_batch.wire(config), parallel.batch_sharding(mesh))
    start = time.perf_counter()
    traced = trace(config, mesh, step, fresh, batch)
    compiled = traced.lower().compile()
    seconds = time.perf_counter() - start
    timing.progress(f"step with {' + '.join(config.negatives) or 'no'} negatives: compiled in {seconds:.3g} s")
    return Program(config, mesh, compiled, flops.count(traced.jaxpr) / mesh.size, seconds, fresh, batch)
