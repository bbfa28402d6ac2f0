"""Milliseconds per image of each kind of negative, compiled alone."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax

from ncl_jax import config as config_lib
from ncl_jax import negatives
from ncl_jax.augment import views as views_lib
from ncl_jax.benchmark import random_batch, timing
from ncl_jax.benchmark.result import Options, Result, spread
from ncl_jax.config import Config
from ncl_jax.errors import UserError


def run(options: Options) -> Result:
    """Without a config: every registered kind in its default settings at 224 and 32 px. With one: its kinds."""
    rows, notes, samples = [], [], {}
    for config in _configs(options.config, notes):
        (kind,) = config.negatives
        made = config.batch * config.negatives[kind].num
        measured = timing.measure_one(_program(config), seconds=options.seconds)
        each = measured.scaled(1e3 / made)
        rows.append(
            {
                "negative": kind,
                "side (px)": config.data.image_size,
                "images": made,
                "ms per image": each.median,
                "quartiles": spread(each),
                "compile (s)": measured.first - measured.median,
            }
        )
        samples[f"{kind} {config.data.image_size}"] = measured.samples
    return Result({"": rows}, notes, samples)


def _configs(config: Config | None, notes: list[str]) -> list[Config]:
    """One config per row, each with a single kind; kinds that do not fit a size are noted."""
    if config is not None:
        if not config.negatives:
            raise UserError("config.negatives is empty: name a kind there, or leave out --config to measure all")
        raw = config_lib.to_dict(config)
        return [config_lib.parse(raw | {"negatives": {kind: raw["negatives"][kind]}}) for kind in raw["negatives"]]
    configs = []
    for side, batch in random_batch.SIDES.items():
        for kind in negatives.REGISTRY:
            raw: dict[str, Any] = {
                "batch": batch,
                "data": {"image_size": side},
                "evaluation": {"resize": side},
                "method": {"name": "moco", "queue_size": batch},
                "negatives": {kind: {}},
            }
            try:
                configs.append(config_lib.parse(raw))
            except UserError as error:
                notes.append(f"{kind} at {side} px in its default settings: {error}")
    return configs


def _program(config: Config) -> Callable[[], Any]:
    recipe = views_lib.recipe(config.augment, view="query")
    generate = jax.jit(partial(negatives.generate, settings=config.negatives, recipe=recipe))
    views = random_batch.views(config)
    return partial(generate, jax.random.key(0), views)
