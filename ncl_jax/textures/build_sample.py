"""The first textures of a built dataset, measured and shown."""

import os

import jax
import numpy as np
from PIL import Image

from ncl_jax.data.tf import tf
from ncl_jax.errors import UserError, first_line
from ncl_jax.textures import build_examples, quality
from ncl_jax.textures.build_examples import Recipe

COUNT = 8


def sample(recipe: Recipe, split: str, folder: str) -> dict[str, str | float] | None:
    """Measure the first textures of a split and write a contact sheet of them into the folder: a row of measures; None
    where none of their images decodes."""
    dataset = recipe.open(split)
    count = min(COUNT, dataset.num_examples)
    integers, filled, exemplars = next(build_examples.exemplar_batches(recipe, dataset, 0, count, count))
    if not filled.any():
        return None
    textures, sources = (
        np.asarray(x)
        for x in build_examples.texture_batch(
            recipe, split, *jax.device_put((integers["id"].astype(np.uint32), exemplars[: len(filled)]))
        )
    )
    exemplars, textures = (x[: len(filled)][filled].astype(np.float32) / 255 for x in (exemplars, textures))
    (measured,) = quality.report(exemplars, None, {recipe.quality: lambda _: (textures, sources[filled])})
    sheet = quality.contact_sheet(exemplars, None, {recipe.quality: textures})
    path = os.path.join(folder, "contact_sheet.png")
    try:
        with tf.io.gfile.GFile(path, "wb") as file:
            Image.fromarray(sheet).save(file, "PNG")
    except (OSError, tf.errors.OpError) as error:
        raise UserError(f"{path}: cannot be written: {first_line(error)}; the dataset is complete") from error
    return measured
