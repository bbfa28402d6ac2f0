"""Whole images made into negatives of a query: the query's own crop and augmentation (paper, section 3.1)."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from ncl_jax.augment import crops
from ncl_jax.augment import views as augment_views


def as_query(
    images: Num[Array, "b m s s 3"], views: Mapping[str, Any], recipe: augment_views.Recipe
) -> Float[Array, "b m t t 3"]:
    """Each image cropped by its query's box, resized to the query and augmented with the query's keys: same flip,
    colour and blur.

    Args:
        images: whole images, uint8 or float in [0, 1], of which the box cuts what it cuts of the query's own image. A
            square that an image of other proportions was squeezed into is such an image: the crop has the query's
            proportions.
        views: `query` (for its side), `box` `[b 4]` and `query_keys` `[b]`.
        recipe: of the query.
    """
    batch, num = images.shape[:2]
    boxes, keys = jnp.repeat(views["box"], num, axis=0), jnp.repeat(views["query_keys"], num, axis=0)
    flat = images.reshape(batch * num, *images.shape[2:])
    cropped = crops.crop_resize(flat, boxes, size=views["query"].shape[1])
    augmented = augment_views.augment(keys, cropped, recipe)
    return augmented.reshape(batch, num, *augmented.shape[1:])
