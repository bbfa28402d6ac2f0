"""Quilting: tiles of the image, all inside it, joined where they agree best."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncl_jax.errors import UserError
from ncl_jax.negatives import patch_negatives
from ncl_jax.negatives import quilt as quilt_negative
from ncl_jax.textures import quilting

SIDE = 48


def coordinates(batch=1):
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return np.stack([np.stack([rows, columns, np.full_like(rows, i)], -1) for i in range(batch)]).astype(np.float32)


def test_pixels_are_moved_in_tiles_of_the_pitch():
    pitch, overlap = 12, 4
    made = np.asarray(
        quilting.quilt(jax.random.key(0), coordinates(2), patch_size=(pitch, pitch), overlap=overlap, num=2)
    )
    assert made.shape == (2, 2, SIDE, SIDE, 3)
    for image, number in itertools.product(range(2), range(2)):
        quilt = made[image, number]
        assert (quilt[..., 2] == image).all()
        assert 0 <= quilt[..., :2].min() <= quilt[..., :2].max() < SIDE
        y, x = np.mgrid[:SIDE, :SIDE]
        shift = quilt[..., :2] - np.stack([y, x], -1)
        for top, left in itertools.product(range(0, SIDE, pitch), range(0, SIDE, pitch)):
            # What no other tile overlaps is one crop.
            inner = shift[top + overlap : top + pitch, left + overlap : left + pitch]
            assert (inner == inner[:1, :1]).all()
            # What does overlap belongs to this tile or to the one above, on the left, or above that one.
            seam = {tuple(s) for s in shift[top : top + pitch, left : left + pitch].reshape(-1, 2)}
            near = {
                tuple(shift[max(t, 0) + pitch - 1, max(v, 0) + pitch - 1])
                for t, v in itertools.product((top, top - pitch), (left, left - pitch))
            }
            assert seam <= near


def test_cut_is_the_cheapest():
    """Against all paths through small random strips."""
    error = np.random.default_rng(0).random((6, 3, 4)).astype(np.float32)
    found = np.asarray(quilting._cut(jnp.asarray(error)))
    for strip in range(3):
        paths = [p for p in itertools.product(range(4), repeat=6) if np.abs(np.diff(p)).max() <= 1]
        costs = [error[np.arange(6), strip, list(p)].sum() for p in paths]
        assert tuple(found[:, strip]) == paths[int(np.argmin(costs))]


def test_seams_are_fainter_than_those_of_patches():
    """A smooth image: steps across tile borders are smaller than butted tiles show."""
    rng = np.random.default_rng(0)
    image = np.cumsum(np.cumsum(rng.normal(size=(4, SIDE, SIDE, 3)), 1), 2).astype(np.float32)
    image /= image.std(axis=(1, 2, 3), keepdims=True)
    made = np.asarray(quilting.quilt(jax.random.key(0), image, patch_size=(12, 12), overlap=6, num=4))
    butted = np.asarray(patch_negatives(jax.random.key(0), image, patch_size=(12, 12), num=4))
    inside = (np.diff(image, axis=2) ** 2).mean()  # steps that the image itself has
    seams, butts = ((np.diff(x, axis=3) ** 2).mean() - inside for x in (made, butted))
    assert seams < 0.5 * butts


def test_batch_equals_one_by_one_and_keys_matter():
    images = np.random.default_rng(0).random((3, SIDE, SIDE, 3), dtype=np.float32)
    settings = quilt_negative.Settings(patch_size=(8, 16), overlap=4, num=1)
    key = jax.random.key(0)
    made = quilt_negative.generate(key, {"query": images}, settings, None)
    same = quilt_negative.generate(key, {"query": images[:1]}, settings, None)
    other = quilt_negative.generate(jax.random.key(1), {"query": images[:1]}, settings, None)
    np.testing.assert_array_equal(made[:1], same)
    assert (np.asarray(same) != np.asarray(other)).mean() > 0.5


@pytest.mark.parametrize(
    "options", [{"patch_size": (4, 16)}, {"patch_size": (16, 44)}, {"patch_size": (20, 10)}, {"overlap": 0}, {"num": 0}]
)
def test_sizes_that_do_not_fit_are_refused(options):
    with pytest.raises(UserError, match="quilt"):
        quilting.quilt(jax.random.key(0), coordinates(), **{"patch_size": (8, 16), **options})
