"""Quilt negatives: patch negatives with fainter seams, for asking whether the seams are a shortcut."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxtyping import Array, Float, Key

from ncl_jax import config as config_lib
from ncl_jax.errors import UserError
from ncl_jax.negatives.patch import scaled_sides
from ncl_jax.schema import option
from ncl_jax.textures.quilting import quilt


@dataclasses.dataclass(frozen=True)
class Settings:
    alpha: float = option(2.0, low=0.0)  # scales the similarity inside the exponent
    num: int = option(1, low=1)  # negatives per query
    patch_size: tuple[int, int] | None = option(None, low=1)  # pixels, inclusive; None: 16 to 72 at 224 px, scaled
    overlap: int | None = option(None, low=1)  # pixels in which two patches are joined; None: 8 at 224 px, scaled

    def check(self, config: config_lib.Config) -> None:
        (low, high), overlap = self.sides(config.data.image_size)
        if not overlap <= low <= high <= config.data.image_size - overlap:
            raise UserError(
                f"config.negatives.quilt: patch_size = {(low, high)} with overlap = {overlap} does not fit "
                f"config.data.image_size = {config.data.image_size}; want overlap <= low <= high <= size - overlap"
            )

    def sides(self, size: int) -> tuple[tuple[int, int], int]:
        """Patch sides and overlap in pixels for views of a side."""
        return self.patch_size or scaled_sides(size), self.overlap or max(1, round(8 * size / 224))


def generate(
    key: Key[Array, ""], views: Mapping[str, Any], settings: Settings, recipe: object
) -> Float[Array, "b m h w c"]:
    """The registry's entry: patches of the augmented, normalised query, joined along the least visible cuts."""
    del recipe
    patch_size, overlap = settings.sides(views["query"].shape[1])
    return quilt(key, views["query"], patch_size=patch_size, overlap=overlap, num=settings.num)
