"""How training steps get their data: batch after batch from the stream, or many steps a call from the devices."""

import contextlib
import math
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import jax
from jax import Array
from jax.sharding import Mesh

from ncl_jax import negatives, parallel
from ncl_jax import step as step_lib
from ncl_jax.augment.views import recipe
from ncl_jax.config import Config
from ncl_jax.data import cached_steps, device_cache, fill_cache, prefetch, stream
from ncl_jax.data.datasets import Dataset
from ncl_jax.errors import UserError
from ncl_jax.methods import moco
from ncl_jax.state import TrainState, shardings

Position = Mapping[str, int]


class Feed(Protocol):
    """Takes steps. `position` resumes behind the last one; `waited`: seconds for input, and `skips`, both so far."""

    @property
    def position(self) -> Position: ...

    @property
    def waited(self) -> float: ...

    @property
    def skips(self) -> int: ...

    def take(self, state: TrainState, steps: int) -> tuple[TrainState, dict[str, Array], int]:
        """At most so many steps, never beyond the end of an epoch: the state, metrics' means, and how many it took."""
        ...


def check(config: Config, dataset: Dataset, mesh: Mesh) -> None:
    """UserError where the config asks for what the devices cannot hold, a cache cannot give, or where keys could not be
    shuffled. Reads nothing."""
    _check_shuffle(config, jax.process_count())
    if config.data.cache == "device":
        _sampler(config, dataset)
        device_cache.check_fits(dataset.num_examples, _cache_side(config, dataset), mesh)


@contextlib.contextmanager
def open_feed(
    config: Config,
    dataset: Dataset,
    mesh: Mesh,
    step: step_lib.Step,
    state: TrainState,
    position: Position | None = None,
) -> Iterator[Feed]:
    """The feed that `config.data.cache` names, for states of the shapes of `state`, which may be abstract. `step` is
    not compiled yet."""
    where = shardings(config, state, mesh)
    if config.data.cache == "device":
        sampler, side = _sampler(config, dataset), _cache_side(config, dataset)
        shapes = device_cache.abstract(sampler.count, side, mesh)
        # Compiling takes a GPU's host as long as reading the files does, and neither needs the other. Nobody waits for
        # it where a file is bad, which is told at once.
        pool = ThreadPoolExecutor(1, "compile")
        loop = pool.submit(cached_steps.Loop, step, sampler, mesh, state, shapes, where=where)
        pool.shutdown(wait=False)
        cache = fill_cache.fill(dataset, side=side, mesh=mesh, max_bad_share=config.data.max_bad_share)
        yield cached_steps.CachedSteps(loop.result, cache, sampler, position)
        return
    source = stream.TrainStream(dataset, config, fields=negatives.needs(config.negatives), position=position)
    with prefetch.Prefetch(source, parallel.batch_sharding(mesh)) as batches:
        yield _Streamed(step_lib.compile_step(step, mesh, where), source, batches)


class _Streamed:
    """One step a call, of a batch that is on the devices before."""

    def __init__(self, step: step_lib.Step, source: stream.TrainStream, batches: prefetch.Prefetch):
        self._step, self._source, self._batches = step, source, batches
        self.position: Position = source.position

    @property
    def waited(self) -> float:
        return self._batches.waited

    @property
    def skips(self) -> int:
        return self._source.skips

    def take(self, state: TrainState, steps: int) -> tuple[TrainState, dict[str, Array], int]:
        del steps
        batch, self.position = next(self._batches)
        state, metrics = self._step(state, batch)
        return state, metrics, 1


def _check_shuffle(config: Config, processes: int) -> None:
    """UserError where MoCo's batch norm would give its positives away (He et al. 2020, 3.3: shuffling BN).

    Keys are shuffled among the images of a process, or of a part of the batch. If that is one group of batch norm, its
    keys are normalised with the very images that their queries are.
    """
    blocks = math.lcm(1 if config.data.cache == "device" else processes, config.optim.accumulate)
    if 1 < config.model.bn_groups <= blocks and isinstance(config.method, moco.Settings):
        raise UserError(
            f"config.model.bn_groups = {config.model.bn_groups}: keys are shuffled inside {blocks} blocks of the batch "
            f"(of {processes} processes and config.optim.accumulate = {config.optim.accumulate}), each of which needs "
            f"several groups; use {2 * blocks} or more, or 1"
        )


def _cache_side(config: Config, dataset: Dataset) -> int:
    return config.data.cache_size or fill_cache.side_of(dataset, config.data.image_size)


def _sampler(config: Config, dataset: Dataset) -> device_cache.Sampler:
    return device_cache.Sampler(
        count=dataset.num_examples,
        batch=config.batch,
        image_size=config.data.image_size,
        seed=config.seed,
        crop_scale=recipe(config.augment).crop_scale,
        shuffle_keys=config.model.bn_groups > 1,
        key_blocks=config.optim.accumulate,
        fields=negatives.needs(config.negatives),
    )
