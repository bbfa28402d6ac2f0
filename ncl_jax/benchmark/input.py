"""The input of a config: images/s from records to devices, and how long a step waits for it."""

import time
from collections.abc import Callable
from typing import Any

import jax

from ncl_jax import feed, negatives, parallel
from ncl_jax.benchmark import program, timing
from ncl_jax.benchmark.result import Options, Result, Row, spread
from ncl_jax.config import Config
from ncl_jax.data import prefetch, rows, stream, workers
from ncl_jax.data.datasets import Dataset

WARM_UP = 3  # calls
LEAST = 20  # steps that are watched


def run(options: Options) -> Result:
    """Records to devices without a step; then the step with its input, or the same records by `--against`."""
    config = options.need_config("input")
    data = stream.open_train(config)
    mesh = parallel.data_mesh()
    parallel.check_batch(config.batch, mesh, config.optim.accumulate)
    feed.check(config, data, mesh)
    fields = negatives.needs(config.negatives)
    peers: dict[str, Callable[[], Any]] = {}
    notes = [
        f"{data.num_examples} images of {data.name}[{data.split}], batch {config.batch} at {config.data.image_size} px"
    ]
    if options.against is not None:
        from ncl_jax.benchmark import torch_loader  # PyTorch is no requirement

        peers = torch_loader.loaders(data, config)
        notes += torch_loader.NOTES

    source = stream.TrainStream(data, config, fields=fields)
    with prefetch.Prefetch(source, parallel.batch_sharding(mesh)) as batches:
        measured = {"ours": _each(lambda: next(batches)[0], options.seconds)}
    # One after the other, not in turns: each reads ahead while another would be measured.
    measured |= {name: _each(load, options.seconds) for name, load in peers.items()}
    rows = [_row(name, timed, config, measured["ours"]) for name, timed in measured.items()]
    tables: dict[str, list[Row]] = {"Records to device, no step": rows}
    if not peers:
        tables["With the step"] = [_waits(config, data, options.seconds)]
    return Result(tables, notes, {name: timed.samples for name, timed in measured.items()})


def _each(load: Callable[[], Any], seconds: float) -> timing.Timing:
    """Of one batch. Batches that are made side by side come in bursts: a sample holds several bursts."""
    burst = 4 * workers.cores()

    def load_burst() -> Any:
        batch = None
        for _ in range(burst):
            batch = load()  # the one before is let go: a device may have no room for all of them
        return batch

    return timing.measure_one(load_burst, seconds=seconds).scaled(1 / burst)


def _row(name: str, timed: timing.Timing, config: Config, ours: timing.Timing) -> Row:
    rate = config.batch / timed.median
    return {
        "input": name,
        "images/s": rate,
        "images/s per core": rate / workers.cores(),
        "ms per batch": 1e3 * timed.median,
        "quartiles": spread(timed.scaled(1e3)),
        "our speed / theirs": timed.median / ours.median if timed is not ours else None,
    }


def _waits(config: Config, data: Dataset, seconds: float) -> Row:
    """The loop of `pretrain` without its reports: how long it waits for input, of all the time."""
    mesh = parallel.data_mesh()
    step, state = program.uncompiled(config, mesh, num_classes=rows.classes(data))
    opening = time.perf_counter()
    with feed.open_feed(config, data, mesh, step, state) as steps:
        opened = time.perf_counter() - opening
        taken, last = 0, None
        for _ in range(WARM_UP):
            state, last, _ = steps.take(state, LEAST)
        jax.block_until_ready(last)
        began, waited = time.perf_counter(), steps.waited
        while taken < LEAST or time.perf_counter() - began < seconds:
            before = last
            state, last, count = steps.take(state, LEAST)
            jax.block_until_ready(before)  # one call is on its way while the next batch is fetched
            taken += count
        jax.block_until_ready(last)
        whole, waited = time.perf_counter() - began, steps.waited - waited
    return {
        "data.cache": config.data.cache,
        "opening (s)": opened,
        "steps": taken,
        "ms per step": 1e3 * whole / taken,
        "images/s": taken * config.batch / whole,
        "waiting for input (ms)": 1e3 * waited / taken,
        "input wait": f"{waited / whole:.2%}",
    }
