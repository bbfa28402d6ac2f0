"""Quilt negatives: patch negatives without seams, for asking whether the seams are a shortcut."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxtyping import Array, Float, Key

from ncl_jax import config as config_lib
from ncl_jax.errors import UserError
from ncl_jax.textures.quilting import quilt


@dataclasses.dataclass(frozen=True)
class Settings:
    alpha: float = config_lib.option(2.0, low=0.0)  # scales the similarity inside the exponent
    num: int = config_lib.option(1, low=1)  # negatives per query
    patch_size: tuple[int, int] = config_lib.option((16, 72), low=1)  # pixels of the view, both ends included
    overlap: int = config_lib.option(8, low=1)  # pixels in which two patches are joined

    def check(self, config: config_lib.Config) -> None:
        low, high = self.patch_size
        if not self.overlap <= low <= high <= config.data.image_size - self.overlap:
            raise UserError(
                f"config.negatives.quilt: patch_size = {self.patch_size} with overlap = {self.overlap} does not fit "
                f"config.data.image_size = {config.data.image_size}; want overlap <= low <= high <= size - overlap"
            )


def generate(
    key: Key[Array, ""], views: Mapping[str, Any], settings: Settings, recipe: object
) -> Float[Array, "b m h w c"]:
    """The registry's entry: patches of the augmented, normalised query, joined without seams."""
    del recipe
    return quilt(key, views["query"], patch_size=settings.patch_size, overlap=settings.overlap, num=settings.num)
