"""Texture negatives read from a prepared texture dataset, paired with their image by id."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxtyping import Array, Float, Key

from ncl_jax import config as config_lib
from ncl_jax.augment import views as augment_views
from ncl_jax.errors import UserError
from ncl_jax.negatives.query_view import as_query

NEEDS = ("texture",)


@dataclasses.dataclass(frozen=True)
class Settings:
    alpha: float = config_lib.option(2.0, low=0.0)  # scales the similarity inside the exponent
    num: int = config_lib.option(1, low=1)  # negatives per query


def generate(
    key: Key[Array, ""], views: Mapping[str, Any], settings: Settings, recipe: augment_views.Recipe
) -> Float[Array, "b m s s 3"]:
    """The first `num` of `views["texture"]` `[b k s s 3]`, cropped and augmented as the query was."""
    del key
    textures = views["texture"]
    if textures.shape[1] < settings.num:
        raise UserError(
            f"config.negatives.texture_dataset.num = {settings.num}: "
            f"the texture dataset has {textures.shape[1]} per image"
        )
    return as_query(textures[:, : settings.num], views, recipe)
