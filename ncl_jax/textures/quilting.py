"""Image quilting: random tiles of an image joined where they differ least (Efros and Freeman, 2001)."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from ncl_jax.errors import UserError


def quilt(
    key: Key[Array, ""],
    images: Float[Array, "b h w c"],
    *,
    patch_size: tuple[int, int] = (16, 72),
    overlap: int = 8,
    num: int = 1,
    choices: int = 8,
) -> Float[Array, "b m h w c"]:
    """Each image cut into random square tiles that are joined along least-error cuts: patches with fainter seams.

    Per image and quilt one tile pitch `d ~ U{low..high}`; the tiles of the grid of that pitch are crops of side
    `d + overlap` at random offsets: of `choices` uniform ones per tile the one that goes best with the four tiles
    around (chosen for one colour of a chessboard, then for the other). Where two tiles overlap, a cut of least squared
    difference decides which one is seen: first between the tiles of a row, then between rows.

    Args:
        key: typed PRNG key. Image i uses `fold_in(key, i)`, so that a batch equals its images one by one.
        images: any floating dtype and range; pixels are moved, never mixed.
        patch_size: smallest and largest pitch in pixels of `images`, both included.
        overlap: pixels, at least 1; pitch and overlap together must fit into the image, and the pitch is at least the
            overlap.
        num: quilts per image.
        choices: random offsets per tile to choose from; 1: no choice.

    Raises:
        UserError: images of another rank, sizes that do not fit.
    """
    if images.ndim != 4:
        raise UserError(f"quilt: want images [b h w c], got {tuple(images.shape)}")
    low, high = (int(side) for side in patch_size)
    if not 1 <= overlap <= low <= high <= min(images.shape[1:3]) - overlap:
        raise UserError(
            f"quilt: patch_size = {(low, high)} with overlap = {overlap} does not fit images {tuple(images.shape)}; "
            f"want overlap <= smallest <= largest <= side - overlap"
        )
    if num < 1 or choices < 1:
        raise UserError(f"quilt: num = {num} and choices = {choices}, want at least 1 of each")
    return _quilt(key, images, low=low, high=high, overlap=overlap, num=num, choices=choices)


@functools.partial(jax.jit, static_argnames=("low", "high", "overlap", "num", "choices"))
def _quilt(key, images, *, low, high, overlap, num, choices):
    def of_image(index, image):
        keys = jax.random.split(jax.random.fold_in(key, index), num)
        return jax.vmap(lambda k: _one(k, image, low, high, overlap, choices))(keys)

    return jax.vmap(of_image)(jnp.arange(len(images)), images)


def _one(key, image, low, high, overlap, choices):
    """One quilt `[h w c]`. The pitch is traced: tables have room for the most tiles, of the smallest pitch."""
    height, width, channels = image.shape
    rows, columns = -(-height // low), -(-width // low)
    pitch_key, offset_key = jax.random.split(key)
    pitch = jax.random.randint(pitch_key, (), low, high + 1)
    room = jnp.stack([height, width]) - pitch - overlap + 1
    options = jax.random.randint(offset_key, (choices, rows, columns, 2), 0, room[None, None, None, :])
    flat = image.reshape(-1, channels)
    offsets = _choose(options, flat, width, pitch, overlap)

    # Along a row: at line y of row r, tile c takes over from tile c - 1 at column c * pitch + cut. Every output line
    # belongs to row y // pitch, and its first `overlap` lines are also made as a continuation of the row above.
    def line(row, inner, column):
        """Sources of the pixels at line `inner` (< pitch + overlap) and `column` of the quilted rows."""
        tile, right = jnp.divmod(column, pitch)
        cut = cuts_across[row, inner, tile]
        earlier = (tile > 0) & (right < cut)
        tile, right = jnp.where(earlier, tile - 1, tile), jnp.where(earlier, right + pitch, right)
        place = offsets[row, tile]
        return (place[..., 0] + inner) * width + place[..., 1] + right

    reach = min(high + overlap, height)
    inner, here = jnp.arange(reach), jnp.arange(overlap)
    left, right = offsets[:, :-1], offsets[:, 1:]

    def vertical(tiles, start):
        """Strips `[rows, columns - 1, reach, overlap, c]`."""
        row = jnp.minimum(tiles[:, :, None, None, 0] + inner[None, None, :, None], height - 1)
        return flat[row * width + tiles[:, :, None, None, 1] + (start + here)[None, None, None, :]]

    error = jnp.sum((vertical(left, pitch) - vertical(right, 0)) ** 2, axis=-1).astype(jnp.float32)
    error = jnp.where(inner[None, None, :, None] < pitch + overlap, error, 0.0)  # lines that no tile has
    cuts_across = jnp.pad(jnp.moveaxis(_cut(jnp.moveaxis(error, 2, 0)), 0, 1), ((0, 0), (0, 0), (1, 0)))

    # Between rows: at column x, row r takes over from row r - 1 at line r * pitch + cut.
    across = jnp.arange(width)
    upper = flat[line(jnp.arange(rows - 1)[:, None, None], pitch + here[None, :, None], across[None, None, :])]
    lower = flat[line(jnp.arange(1, rows)[:, None, None], here[None, :, None], across[None, None, :])]
    error = jnp.sum((upper - lower) ** 2, axis=-1).astype(jnp.float32)
    cuts_down = jnp.pad(jnp.moveaxis(_cut(jnp.moveaxis(error, 2, 0)), 0, 1), ((1, 0), (0, 0)))

    row, down = jnp.divmod(jnp.arange(height), pitch)
    row, down = row[:, None], down[:, None]
    earlier = (row > 0) & (down < cuts_down[row, across[None, :]])
    row, down = jnp.where(earlier, row - 1, row), jnp.where(earlier, down + pitch, down)
    return flat[line(row, down, across[None, :])]


def _choose(options: Int[Array, "n rows columns 2"], flat, width, pitch, overlap) -> Int[Array, "rows columns 2"]:
    """Of each tile's offsets the one that goes best with its neighbours, read at a few points amid each overlap."""
    along, near = (2 * jnp.arange(8) + 1) * pitch // 16, jnp.full((8,), overlap // 2)
    far = near + pitch
    # Points (down, right) of a tile on its four sides, and the same points of the neighbours there.
    mine = jnp.stack([jnp.stack(p, -1) for p in ((along, near), (along, far), (near, along), (far, along))])
    theirs = jnp.stack([jnp.stack(p, -1) for p in ((along, far), (along, near), (far, along), (near, along))])
    rolls = ((1, 1), (-1, 1), (1, 0), (-1, 0))  # bring the left, right, upper and lower neighbour here

    def seen(tiles, points):
        """Colours of `tiles [... 2]` at `points [4 8 2]`: `[... 4 8 c]`."""
        place = tiles[..., None, None, :] + points.reshape(*(1,) * (tiles.ndim - 1), *points.shape)
        return flat[place[..., 0] * width + place[..., 1]]

    colour = jnp.sum(jnp.indices(options.shape[1:3]), axis=0) % 2
    chosen, shown = options[0], seen(options, mine)
    for turn in (1, 0):
        around = seen(chosen, theirs)
        around = jnp.stack([jnp.roll(around[:, :, side], *roll) for side, roll in enumerate(rolls)], axis=2)
        best = jnp.sum((shown - around[None]) ** 2, axis=(3, 4, 5)).argmin(0)
        fitting = jnp.take_along_axis(options, best[None, ..., None], axis=0)[0]
        chosen = jnp.where((colour == turn)[..., None], fitting, chosen)
    return chosen


def _cut(error: Float[Array, "length *batch overlap"]) -> Int[Array, "length *batch"]:
    """The cut of least summed error through a strip: a place per line, neighbours at most one apart.

    At its place the strip changes from the first image to the second; dynamic programming along `length`.
    """

    def neighbours(total):
        far = jnp.full((*total.shape[:-1], 1), jnp.inf)
        return jnp.stack(
            [jnp.concatenate([far, total[..., :-1]], -1), total, jnp.concatenate([total[..., 1:], far], -1)], -1
        )

    def down(total, line):
        options = neighbours(total)
        return line + options.min(-1), options.argmin(-1) - 1

    total, moves = jax.lax.scan(down, error[0], error[1:])
    last = total.argmin(-1)

    def up(place, move):
        before = place + jnp.take_along_axis(move, place[..., None], axis=-1)[..., 0]
        return before, before

    _, places = jax.lax.scan(up, last, moves, reverse=True)
    return jnp.concatenate([places, last[None]])
