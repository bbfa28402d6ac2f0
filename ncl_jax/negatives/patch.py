"""Patch negatives: the query cut into random square patches and tiled at random (paper, section 3.1)."""

import dataclasses
import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int, Key

from ncl_jax import config as config_lib
from ncl_jax.errors import UserError
from ncl_jax.schema import option


@dataclasses.dataclass(frozen=True)
class Settings:
    alpha: float = option(2.0, low=0.0)  # scales the similarity inside the exponent
    num: int = option(1, low=1)  # negatives per query
    patch_size: tuple[int, int] | None = option(None, low=1)  # pixels, inclusive; None: 16 to 72 at 224 px, scaled
    rotate: bool = False  # turn each patch by a random multiple of 90 degrees
    flip: bool = False  # mirror each patch with probability 1/2

    def check(self, config: config_lib.Config) -> None:
        if self.patch_size and self.patch_size[1] > config.data.image_size:
            raise UserError(
                f"config.negatives.patch.patch_size = {self.patch_size}: a patch is larger than the image "
                f"(config.data.image_size = {config.data.image_size})"
            )


def generate(key: Key[Array, ""], views: dict, settings: Settings, recipe: object) -> Float[Array, "b m h w c"]:
    """The registry's entry: patches of the augmented, normalised query."""
    del recipe
    return patch_negatives(
        key,
        views["query"],
        patch_size=settings.patch_size or scaled_sides(views["query"].shape[1]),
        num=settings.num,
        rotate=settings.rotate,
        flip=settings.flip,
    )


def scaled_sides(side: int) -> tuple[int, int]:
    """The paper's patch sides, 16 to 72 of 224 pixels, for images of another side."""
    return max(1, round(16 * side / 224)), max(1, round(72 * side / 224))


def patch_negatives(
    key: Key[Array, ""],
    images: Float[Array, "b h w c"],
    *,
    patch_size: tuple[int, int] | Int[Array, "2"] = (16, 72),
    num: int = 1,
    rotate: bool = False,
    flip: bool = False,
) -> Float[Array, "b m h w c"]:
    """`num` non-semantic negatives of each image: a grid of patches of it, each cut at a random place.

    Per image and negative one patch side `d ~ U{low..high}`; each cell of the grid of `ceil(side / d)` cells is an
    independent `d x d` crop at a uniform offset in `[0, side - d]`; the last row and column are cut at the border.

    Args:
      key: typed PRNG key. Image i uses `fold_in(key, i)`, so a batch equals its images one by one.
      images: any dtype and value range; pixels are moved, never mixed.
      patch_size: smallest and largest side in pixels of `images`, both included; may be traced.
      num: negatives per image.
      rotate: turn each patch by a random multiple of 90 degrees.
      flip: mirror each patch with probability 1/2.

    Raises:
      UserError: images of another rank, sizes or a number that are not whole, or patches that are empty or larger than
        the image.
    """
    if not hasattr(images, "ndim"):
        raise UserError(f"patch_negatives: want images [b h w c] as an array, got {type(images).__name__}")
    if images.ndim != 4:
        raise UserError(f"patch_negatives: want images [b h w c], got {images.shape}")
    if not isinstance(num, int | np.integer) or num < 1:
        raise UserError(f"patch_negatives: num = {num}, want a whole number, at least 1")
    longest = max(images.shape[1:3])
    if isinstance(patch_size, Tracer):
        grid = longest  # the smallest side is not known: room for patches of one pixel
    else:
        try:
            low, high = (operator.index(side) for side in patch_size)
        except (TypeError, ValueError):
            raise UserError(f"patch_negatives: patch_size = {patch_size}, want two whole numbers of pixels") from None
        if not 1 <= low <= high <= min(images.shape[1:3]):
            raise UserError(f"patch_negatives: patch_size = {(low, high)} does not fit images {images.shape}")
        grid = -(-longest // low)
    sides = jnp.asarray(patch_size, jnp.int32)
    return _generate(key, images, sides, grid=grid, num=num, rotate=rotate, flip=flip)


def with_seams(
    key: Key[Array, ""], images: Float[Array, "b h w c"], *, patch_size: tuple[int, int], shift: int
) -> Float[Array, "b h w c"]:
    """Images with the seams of patch negatives and their own meaning: each patch stays at its place, within `shift`.

    Cut into a grid as `patch_negatives` cuts; the cell shows what lies up to `shift` pixels beside it, along either
    axis. Put into the views, such seams no longer tell negatives from positives (`config.augment.seam_shift`).
    """
    grid = -(-max(images.shape[1:3]) // patch_size[0])
    sides = jnp.asarray(patch_size, jnp.int32)
    return _generate(key, images, sides, grid=grid, num=1, rotate=False, flip=False, shift=shift)[:, 0]


@functools.partial(jax.jit, static_argnames=("grid", "num", "rotate", "flip", "shift"))
def _generate(key, images, patch_size, *, grid, num, rotate, flip, shift=None):
    def of_image(index, image):
        keys = jax.random.split(jax.random.fold_in(key, index), num)
        return jax.vmap(lambda k: _tile(k, image, patch_size, grid, rotate, flip, shift))(keys)

    return jax.vmap(of_image)(jnp.arange(len(images)), images)


def _tile(key, image, patch_size, grid, rotate, flip, shift):
    """One tiling `[h w c]` of one image: a single gather by source pixel.

    `grid`: most cells along a side. `shift`: how far a patch may come from its cell, in pixels; None: from anywhere.
    """
    height, width, channels = image.shape
    # One draw for everything: chance is most of the cost of compiling and a good part of running this.
    chance = jax.random.uniform(key, (1 + grid * grid * (2 + rotate + flip),), jnp.float32)
    side = patch_size[0] + _below(patch_size[1] - patch_size[0] + 1, chance[0])
    cells = chance[1:].reshape(-1, grid, grid)
    if shift is None:
        offset_y, offset_x = _below(height - side + 1, cells[0]), _below(width - side + 1, cells[1])
    else:
        place = side * jnp.arange(grid, dtype=jnp.int32)
        offset_y = place[:, None] - shift + _below(2 * shift + 1, cells[0])
        offset_x = place[None, :] - shift + _below(2 * shift + 1, cells[1])

    # Where each pixel lies: its cell along each axis, and its place (v, u) inside the patch.
    cell_y, v = jnp.divmod(jnp.arange(height, dtype=jnp.int32), side)
    cell_x, u = jnp.divmod(jnp.arange(width, dtype=jnp.int32), side)
    v, u = v[:, None], u[None, :]
    if flip:
        mirrored = (cells[-1] < 0.5)[cell_y][:, cell_x]
        u = jnp.where(mirrored, side - 1 - u, u)
    if rotate:
        turns = _below(4, cells[2])[cell_y][:, cell_x]
        # The pixel that a quarter turn, a half turn and three quarters bring to (v, u).
        v, u = (
            jnp.select([turns == 0, turns == 1, turns == 2], [v, u, side - 1 - v], side - 1 - u),
            jnp.select([turns == 0, turns == 1, turns == 2], [u, side - 1 - v, side - 1 - u], v),
        )
    y, x = offset_y[cell_y][:, cell_x] + v, offset_x[cell_y][:, cell_x] + u
    if shift is not None:
        y, x = jnp.clip(y, 0, height - 1), jnp.clip(x, 0, width - 1)
    source = y * width + x
    return jnp.take(image.reshape(-1, channels), source.reshape(-1), axis=0, mode="clip").reshape(image.shape)


def _below(count: Int[Array, ""] | int, chance: Float[Array, "..."]) -> Int[Array, "..."]:
    """Uniform integers in [0, count) from uniform floats in [0, 1); `count` may be traced."""
    return jnp.minimum((chance * jnp.asarray(count, jnp.float32)).astype(jnp.int32), count - 1)
