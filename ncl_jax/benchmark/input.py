"""The input of a config: images/s from records to devices, and how long a step waits for it."""

import time
from collections.abc import Callable
from typing import Any

import jax

from ncl_jax import negatives, parallel
from ncl_jax.benchmark import machine, program, timing
from ncl_jax.benchmark.result import Options, Result, Row, spread
from ncl_jax.config import Config
from ncl_jax.data import datasets, prefetch, stream
from ncl_jax.data.datasets import Dataset

WARM_UP = 3  # steps
LEAST = 20  # steps that are watched


def run(options: Options) -> Result:
    """Records to devices without a step; then the step with its input, or the same records by `--against`."""
    config = options.need_config("input")
    data = datasets.open_dataset(config.data.name, config.data.train_split, data_dir=config.data.data_dir)
    mesh = parallel.data_mesh()
    parallel.check_batch(config.batch, mesh, config.optim.accumulate)
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
    burst = 4 * machine.cores()
    return timing.measure_one(lambda: [load() for _ in range(burst)], seconds=seconds).scaled(1 / burst)


def _row(name: str, timed: timing.Timing, config: Config, ours: timing.Timing) -> Row:
    rate = config.batch / timed.median
    return {
        "input": name,
        "images/s": rate,
        "images/s per core": rate / machine.cores(),
        "ms per batch": 1e3 * timed.median,
        "quartiles": spread(timed.scaled(1e3)),
        "our speed / theirs": timed.median / ours.median if timed is not ours else None,
    }


def _waits(config: Config, data: Dataset, seconds: float) -> Row:
    """The loop of `pretrain` without its reports: how long it waits for batches, of all the time."""
    mesh = parallel.data_mesh()
    built = program.build(config, mesh, num_classes=data.num_classes or 0)
    source = stream.TrainStream(data, config, fields=negatives.needs(config.negatives))
    with prefetch.Prefetch(source, parallel.batch_sharding(mesh)) as batches:
        began, waited, steps, last = 0.0, 0.0, -WARM_UP, None
        while steps < LEAST or time.perf_counter() - began < seconds:
            if steps == 0:
                jax.block_until_ready(last)
                began, waited = time.perf_counter(), batches.waited
            built.batch, _ = next(batches)
            last, before = built(), last
            jax.block_until_ready(before)  # one step is on its way while the next batch is fetched
            steps += 1
        jax.block_until_ready(last)
        whole = time.perf_counter() - began
        waited = batches.waited - waited
    return {
        "steps": steps,
        "ms per step": 1e3 * whole / steps,
        "images/s": steps * config.batch / whole,
        "waiting for input (ms)": 1e3 * waited / steps,
        "input wait": f"{waited / whole:.2%}",
    }
