"""Milliseconds per image of each augmentation recipe, compiled alone: all but the crop, which the stream makes."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ncl_jax.augment import views as views_lib
from ncl_jax.benchmark import random_batch, timing
from ncl_jax.benchmark.result import Options, Result, spread


def run(options: Options) -> Result:
    """Every registered recipe at 224 and 32 px; with a config, its own two recipes at its size and batch."""
    if options.config is not None:
        sides = {options.config.data.image_size: options.config.batch}
        name = options.config.augment.recipe
        recipes = {name: {view: views_lib.recipe(options.config.augment, view) for view in ("query", "key")}}
    else:
        sides, recipes = random_batch.SIDES, views_lib.RECIPES
    rows, samples = [], {}
    augment = jax.jit(views_lib.augment, static_argnums=2)
    for side, batch in sides.items():
        images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (batch, side, side, 3), np.uint8))
        keys = jax.random.split(jax.random.key(0), batch)
        for name, pair in recipes.items():
            # Views with equal recipes are measured once.
            views = {"query": pair["query"]} if pair["query"] == pair["key"] else pair
            for view, recipe in views.items():
                measured = timing.measure_one(partial(augment, keys, images, recipe), seconds=options.seconds)
                each = measured.scaled(1e3 / batch)
                rows.append(
                    {
                        "recipe": name,
                        "view": view if len(views) > 1 else "both",
                        "side (px)": side,
                        "images": batch,
                        "ms per image": each.median,
                        "quartiles": spread(each),
                        "compile (s)": measured.first - measured.median,
                    }
                )
                samples[f"{name} {view} {side}"] = measured.samples
    return Result({"": rows}, samples=samples)
