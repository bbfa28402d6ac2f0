"""Texture negatives read from a prepared texture dataset, paired with their image by id."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxtyping import Array, Float, Key

from ncl_jax import config as config_lib
from ncl_jax.augment import views as augment_views
from ncl_jax.errors import UserError
from ncl_jax.negatives.query_view import as_query
from ncl_jax.schema import option

NEEDS = ("texture",)


@dataclasses.dataclass(frozen=True)
class Settings:
    alpha: float = option(2.0, low=0.0)  # scales the similarity inside the exponent
    num: int = option(1, low=1)  # negatives per query, each of its own texture dataset
    # Texture datasets, each named as config.data.name is; none: those of `ncl-jax textures` with the seeds 0, 1, ...
    names: tuple[str, ...] = ()

    def check(self, config: config_lib.Config) -> None:
        del config
        if self.names and len(self.names) != self.num:
            raise UserError(
                f"config.negatives.texture_dataset.num = {self.num}: names has {len(self.names)} texture datasets, "
                "and each gives one negative"
            )


def generate(
    key: Key[Array, ""], views: Mapping[str, Any], settings: Settings, recipe: augment_views.Recipe
) -> Float[Array, "b m s s 3"]:
    """The first `num` of `views["texture"]` `[b k s s 3]`, cropped and augmented as the query was."""
    del key
    return as_query(views["texture"][:, : settings.num], views, recipe)
