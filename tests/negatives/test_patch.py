"""Patch negatives: what a tile is made of, how large it is, and that chance is the key's alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncl_jax.errors import UserError
from ncl_jax.negatives import patch_negatives
from ncl_jax.negatives.patch import with_seams

SIDE = 32


def coordinates(batch=1):
    """Images whose pixels say where they are: channels (row, column, image)."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return np.stack([np.stack([rows, columns, np.full_like(rows, i)], -1) for i in range(batch)]).astype(np.float32)


def patch_side(tiled):
    """The patch side of a tiling of `coordinates`: where columns first stop to run on, in any row of tiles."""
    breaks = np.flatnonzero((np.diff(tiled[:, :, 1], axis=1) != 1).any(axis=0))
    return breaks[0] + 1 if len(breaks) else SIDE


@pytest.mark.parametrize("side", [1, 3, 8, 10, 31, 32])
def test_every_pixel_comes_from_its_tile(side):
    """A tile's pixels are the query's at the tile's offset, and all offsets lie inside."""
    tiled = np.asarray(patch_negatives(jax.random.key(side), coordinates(2), patch_size=(side, side), num=2))
    assert tiled.shape == (2, 2, SIDE, SIDE, 3)
    for image in range(2):
        for negative in tiled[image]:
            assert (negative[..., 2] == image).all()  # of its own image only
            for top in range(0, SIDE, side):
                for left in range(0, SIDE, side):
                    tile = negative[top : top + side, left : left + side]
                    v, u = np.mgrid[: tile.shape[0], : tile.shape[1]]
                    np.testing.assert_array_equal(tile[..., 0] - v, tile[0, 0, 0])
                    np.testing.assert_array_equal(tile[..., 1] - u, tile[0, 0, 1])
                    assert tile[0, 0, :2].min() >= 0
                    assert tile[0, 0, :2].max() <= SIDE - side


def test_sides_and_offsets_are_uniform_over_the_inclusive_range():
    draws = 4000
    tiled = np.asarray(patch_negatives(jax.random.key(0), coordinates(1), patch_size=(3, 10), num=draws))[0]
    sides = np.array([patch_side(t) for t in tiled])
    counts = np.bincount(sides, minlength=11)[3:11]
    expected = draws / 8
    assert set(np.flatnonzero(counts)) == set(range(8))
    assert ((counts - expected) ** 2 / expected).sum() < 40  # chi-squared, 7 degrees of freedom


def test_offsets_are_uniform_over_the_inclusive_range():
    tiled = np.asarray(patch_negatives(jax.random.key(0), coordinates(1), patch_size=(10, 10), num=500))[0]
    offsets = tiled[:, ::10, ::10, :2].reshape(-1, 2).astype(int)  # of 500 x 16 tiles
    for axis in range(2):
        counts = np.bincount(offsets[:, axis])
        expected = len(offsets) / (SIDE - 10 + 1)
        assert len(counts) == SIDE - 10 + 1
        assert ((counts - expected) ** 2 / expected).sum() < 50  # chi-squared, 22 degrees of freedom


def test_same_key_same_image_and_other_key_another():
    images = coordinates(2)
    one, again, other = (patch_negatives(jax.random.key(k), images, patch_size=(3, 10)) for k in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)
    assert not np.array_equal(one[0, ..., :2], one[1, ..., :2])


def test_batch_equals_its_images_and_jit_changes_nothing():
    images = coordinates(3)
    key = jax.random.key(7)
    whole = patch_negatives(key, images, patch_size=(3, 10), num=2)
    jitted = jax.jit(lambda k, x: patch_negatives(k, x, patch_size=(3, 10), num=2))(key, images)
    np.testing.assert_array_equal(whole, jitted)
    prefix = patch_negatives(key, images[:2], patch_size=(3, 10), num=2)
    np.testing.assert_array_equal(whole[:2], prefix)
    keys = jax.random.split(key, 3)
    mapped = jax.vmap(lambda k, x: patch_negatives(k, x[None], patch_size=(3, 10))[0])(keys, images)
    single = [patch_negatives(k, x[None], patch_size=(3, 10))[0] for k, x in zip(keys, images, strict=True)]
    np.testing.assert_array_equal(mapped, jnp.stack(single))


def test_traced_patch_size():
    images = coordinates(2)
    tiled = jax.jit(lambda size: patch_negatives(jax.random.key(0), images, patch_size=size))(jnp.array([5, 5]))
    assert {patch_side(np.asarray(t[0])) for t in tiled} == {5}


def test_turns_and_mirrors_keep_the_tile_and_reach_all_orientations():
    side = 4
    tiled = patch_negatives(jax.random.key(3), coordinates(1), patch_size=(side, side), rotate=True, flip=True)
    tiled = np.asarray(tiled)[0, 0]
    seen = set()
    v, u = np.mgrid[:side, :side]
    plain = np.stack([v, u], -1)
    turns = {(k, f): np.rot90(plain[:, ::-1] if f else plain, k) for k in range(4) for f in (False, True)}
    for top in range(0, SIDE, side):
        for left in range(0, SIDE, side):
            tile = tiled[top : top + side, left : left + side, :2]
            tile = tile - tile.min((0, 1))
            matches = [name for name, turned in turns.items() if np.array_equal(tile, turned)]
            assert len(matches) == 1
            seen.add(matches[0])
    assert seen == set(turns)


@pytest.mark.parametrize("shift", [0, 1, 3])
def test_seams_keep_every_patch_near_its_place(shift):
    """Cells of 5 pixels, the last ones cut; without a shift nothing moves, with one all distances up to it occur."""
    images = coordinates(40)
    seamed = np.asarray(with_seams(jax.random.key(0), images, patch_size=(5, 5), shift=shift))
    moved = (seamed - images)[..., :2]
    assert set(np.unique(moved)) == set(range(-shift, shift + 1))
    assert (seamed[..., 2] == images[..., 2]).all()
    inner = moved[:, :30, :30].reshape(40, 6, 5, 6, 5, 2)[:, 1:-1, :, 1:-1]  # away from the border whole patches move
    assert (inner == inner[:, :, :1, :, :1]).all()


@pytest.mark.parametrize(
    ("shape", "size", "message"),
    [
        ((2, 32, 32, 3), (3, 40), r"patch_size = \(3, 40\) does not fit images"),
        ((2, 32, 32, 3), (0, 4), "does not fit"),
        ((2, 32, 32, 3), (5, 4), "does not fit"),
        ((32, 32, 3), (3, 10), r"want images \[b h w c\], got \(32, 32, 3\)"),
        ((2, 32, 32, 3), 8, "patch_size = 8, want two whole numbers"),
        ((2, 32, 32, 3), (8,), r"patch_size = \(8,\), want two whole numbers"),
        ((2, 32, 32, 3), (4.7, 8.2), "want two whole numbers"),
    ],
)
def test_bad_input_is_one_line(shape, size, message):
    with pytest.raises(UserError, match=message):
        patch_negatives(jax.random.key(0), jnp.zeros(shape), patch_size=size)


def test_what_is_no_array_is_one_line():
    with pytest.raises(UserError, match=r"want images \[b h w c\] as an array, got list"):
        patch_negatives(jax.random.key(0), [jnp.zeros((32, 32, 3))])


@pytest.mark.parametrize("num", [0, 1.5])
def test_a_number_is_whole(num):
    with pytest.raises(UserError, match=f"num = {num}, want a whole number"):
        patch_negatives(jax.random.key(0), jnp.zeros((2, 32, 32, 3)), patch_size=(3, 10), num=num)


def test_the_same_patches_in_64_bits_and_under_strict_promotion():
    images = jax.random.uniform(jax.random.key(1), (2, 24, 20, 3))
    make = lambda: patch_negatives(jax.random.key(0), images, patch_size=(3, 9), num=2, rotate=True, flip=True)  # noqa: E731
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        wide = make()
    assert wide.dtype == jnp.float32
    np.testing.assert_array_equal(wide, make())
