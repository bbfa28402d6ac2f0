"""What a config shows to the encoder: a grid of views and negatives."""

import contextlib
import dataclasses
import functools
from pathlib import Path

import jax
import numpy as np

from ncl_jax import negatives, sheets, storage, workdir
from ncl_jax.augment import views as views_lib
from ncl_jax.config import Config
from ncl_jax.data import stream
from ncl_jax.errors import UserError
from ncl_jax.step import make_views

_BUFFER = 256  # records of TFRecord files that the images are drawn from: more would be read for these few alone


def write(config: Config, path: Path | str, *, rows: int = 6) -> None:
    """Write a PNG with a row per image, up to `rows`: the query view, the key view, then every negative of the query.

    Raises:
      UserError: no PNG's name, or a place that cannot be written; before anything is read. Negatives that are not
        finite: compiled, an encoder may make numbers of them, and no loss would tell.
    """
    path = storage.path(path)
    if path.suffix.lower() != ".png":
        raise UserError(f"--output={path}: want the name of a .png file")
    workdir.check_output(path)
    model, optim = dataclasses.replace(config.model, bn_groups=1), dataclasses.replace(config.optim, accumulate=1)
    data = stream.open_train(config)
    drawn_from = dataclasses.replace(config.data, shuffle_buffer=min(config.data.shuffle_buffer, _BUFFER))
    few = dataclasses.replace(config, batch=min(rows, data.num_examples), data=drawn_from, model=model, optim=optim)
    source = stream.TrainStream(data, few, fields=negatives.needs(config.negatives), process=(0, 1))
    with contextlib.closing(source):
        batch = next(source)
    views = jax.jit(functools.partial(make_views, few))(jax.random.key(config.seed), batch)
    columns = [views["query"], views["key"]]
    kinds = [kind for kind, settings in config.negatives.items() for _ in range(settings.num)]
    if views["non_semantic"] is not None:
        columns += list(np.moveaxis(np.asarray(views["non_semantic"]), 1, 0))
    for kind, column in zip(kinds, columns[2:], strict=True):
        if not np.isfinite(column).all():
            raise UserError(f"negatives.{kind}: generate gives values that are not finite")
    titles = ["query", "key", *(f"{kind}, alpha {config.negatives[kind].alpha:g}" for kind in kinds)]
    tiles = [np.asarray(views_lib.denormalize(column)) for column in columns]
    with workdir.writing_output(path), storage.writing(path) as file:
        sheets.grid(tiles, titles).save(file, format="PNG")
