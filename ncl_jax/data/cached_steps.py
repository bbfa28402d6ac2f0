"""Many training steps a call over a dataset that lives on the devices, in one compiled loop."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array

from ncl_jax import parallel
from ncl_jax.data import position as position_lib
from ncl_jax.data.device_cache import Cache, Sampler

State = Any
Step = Callable[[State, Mapping[str, Array]], tuple[State, dict[str, Array]]]


class Loop:
    """Takes steps that follow each other in an epoch: the state after them, and the sums of their metrics."""

    def __init__(
        self,
        step: Step,
        sampler: Sampler,
        mesh: Mesh,
        state: State,
        cache: Cache,
        *,
        looped: bool | None = None,
        where: Any = None,
    ):
        """Compiled here, for arrays of the shapes of `state` and `cache`, which may be abstract; it takes no others.

        `step` is the uncompiled `(state, batch) -> (state, metrics)`; `where`: the state's shardings, else whole.
        `looped`: one program takes all steps of a call; by default everywhere but on CPUs, where XLA runs the
        convolutions of a loop's body on one core, ten times slower than outside.
        """
        self._looped = mesh.devices.flat[0].platform != "cpu" if looped is None else looped
        whole, split = parallel.replicated(mesh), parallel.batch_sharding(mesh)
        lies: Any = {"images": split, "labels": whole, "aspects": whole}
        where = whole if where is None else where

        @partial(parallel.on_mesh, mesh=mesh)
        def one(state: State, cache: Cache, order: Array, epoch: Array, number: Array):
            return step(state, sampler.wire(cache, order, epoch, number, mesh))

        def loop(state: State, cache: Cache, order: Array, epoch: Array, first: Array, count: Array):
            def body(number: Array, carry: tuple[State, dict[str, Array]]):
                state, sums = carry
                state, metrics = one(state, cache, order, epoch, first + number)
                return state, jax.tree.map(jnp.add, sums, metrics)

            shapes = jax.eval_shape(one, state, cache, order, epoch, first)[1]
            sums = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)
            return jax.lax.fori_loop(0, count, body, (state, sums))

        # How many steps a call takes is not compiled in: one program serves them all.
        numbers = [jax.ShapeDtypeStruct((), jnp.int32)] * (3 if self._looped else 2)
        steps: Any = jax.jit(
            loop if self._looped else one,
            in_shardings=(where, Cache(**lies), whole, *[whole] * len(numbers)),
            out_shardings=(where, whole),
            donate_argnums=0,
        )
        self._order = jax.jit(sampler.order, out_shardings=whole)
        order = jax.eval_shape(self._order, numbers[0])
        self._steps = steps.lower(state, cache, order, *numbers).compile()

    def __call__(
        self, state: State, cache: Cache, epoch: int, first: int, count: int
    ) -> tuple[State, dict[str, Array]]:
        """The steps `first` to `first + count` of an epoch; `state` is donated."""
        now = np.int32(epoch)
        order = self._order(now)
        if self._looped:
            return self._steps(state, cache, order, now, np.int32(first), np.int32(count))
        state, sums = self._steps(state, cache, order, now, np.int32(first))
        for number in range(first + 1, first + count):
            state, metrics = self._steps(state, cache, order, now, np.int32(number))
            sums = jax.tree.map(jnp.add, sums, metrics)
        return state, sums


class CachedSteps:
    """Takes many training steps per call, all on the devices; `position` afterwards is what resumes behind them.

    It never waits for input, and what did not decode was replaced when the cache was filled.
    """

    waited, skips = 0.0, 0

    def __init__(
        self, loop: Callable[[], Loop], cache: Cache, sampler: Sampler, position: Mapping[str, int] | None = None
    ):
        """`loop()` is asked for with the first step: it may be compiling until then. UserError: a strange position."""
        self._loop, self._cache, self._sampler = loop, cache, sampler
        self._step = position_lib.step_at(
            position,
            batch=sampler.batch,
            steps_per_epoch=sampler.steps_per_epoch,
            data=f"{sampler.count} images",
        )

    @property
    def position(self) -> dict[str, int]:
        """Where the next step starts (see `ncl_jax.data.position`)."""
        sampler = self._sampler
        return position_lib.of_step(self._step, batch=sampler.batch, steps_per_epoch=sampler.steps_per_epoch)

    def take(self, state: State, steps: int) -> tuple[State, dict[str, Array], int]:
        """At most so many steps, up to the end of the epoch: the state, the metrics' means, and how many they were."""
        epoch, first = divmod(self._step, self._sampler.steps_per_epoch)
        count = min(steps, self._sampler.steps_per_epoch - first)
        state, sums = self._loop()(state, self._cache, epoch, first, count)
        self._step += count
        return state, jax.tree.map(lambda value: value / count, sums), count
