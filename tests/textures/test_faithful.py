"""The reference's algorithm: one order for all, neighbours that are resolved, pixels from their sources."""

import jax
import jax.numpy as jnp
import numpy as np

from ncl_jax.textures import faithful, synthesize

SIZE = 32


def test_tables_resolve_every_pixel_from_resolved_ones():
    """Each stage resolves all earlier pixels again, then doubles them; neighbours are the nearest resolved ones."""
    resolved = np.zeros(SIZE * SIZE + 1, bool)
    updates = 0
    for number, stage in enumerate(faithful.tables(SIZE)):
        before = resolved.sum()
        for pixels, near, shift, weight in zip(*stage, strict=True):
            real = pixels < SIZE * SIZE
            updates += real.sum()
            used = weight[real] > 0
            assert resolved[near[real][used]].all()
            itself = near[real][:, 0] == pixels[real]  # the nearest, of one that is resolved again
            np.testing.assert_array_equal(itself, resolved[pixels[real]])
            if number >= 2 and resolved[pixels[0]]:  # resolved again: all earlier stages' pixels are seen
                assert used.all()
                place, there = np.divmod(pixels[real], SIZE), np.divmod(near[real], SIZE)
                np.testing.assert_array_equal(shift[real][..., 0], there[0] - place[0][:, None])
                np.testing.assert_array_equal(shift[real][..., 1], there[1] - place[1][:, None])
                known = np.flatnonzero(resolved[:-1])
                squared = (known // SIZE - place[0][0]) ** 2 + (known % SIZE - place[1][0]) ** 2
                mine = (shift[0].astype(int) ** 2).sum(-1)
                assert mine.max() <= np.sort(squared)[faithful.NEIGHBOURS - 1]
                np.testing.assert_allclose(weight[0], np.exp(-mine / mine.mean()), rtol=1e-5)
            resolved[pixels[real]] = True
        assert resolved.sum() == round(SIZE * SIZE * 0.5 ** (5 - number))
        assert resolved.sum() >= 2 * before
    assert abs(updates - SIZE * SIZE * 1.97) < 0.02 * SIZE * SIZE


def test_pixels_sources_and_keys():
    exemplars = np.random.default_rng(0).random((2, 2, 14, 14, 3), dtype=np.float32)
    key = jax.random.key(0)
    images, sources = synthesize(key, exemplars, size=SIZE, quality="faithful", return_sources=True)
    e, y, x = np.moveaxis(np.asarray(sources), -1, 0)
    np.testing.assert_array_equal(np.asarray(images), exemplars[np.arange(2)[:, None, None], e, y, x])
    assert (np.diff(np.asarray(sources), axis=2) == np.array([0, 0, 1])).all(-1).mean() > 0.3  # continued pieces
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(2))
    swapped = synthesize(keys[::-1], exemplars[::-1], size=SIZE, quality="faithful")
    np.testing.assert_array_equal(np.asarray(images), np.asarray(swapped)[::-1])
    other = synthesize(jax.random.key(1), exemplars, size=SIZE, quality="faithful")
    assert (np.asarray(other) != np.asarray(images)).mean() > 0.3


def test_blurred_is_the_tool_s_pyramid():
    """By hand: 4 px shrunk by 2 and enlarged, weights exp(-2 (d / 2)^2) of a pixel and exp(-2 d^2) of a coarse one."""
    shrink, enlarge = faithful.resampling(4, 2), faithful.resampling(2, 4)
    near = np.exp(-0.125 * np.array([1, 1, 9, 25]))  # distances 1/2, 1/2, 3/2, 5/2 from the first coarse pixel's centre
    np.testing.assert_allclose(shrink[0], near / near.sum(), rtol=1e-6)
    far = np.exp(-2 * np.array([0.25, 1.25]) ** 2)
    np.testing.assert_allclose(enlarge[0], far / far.sum(), rtol=1e-6)
    image = np.random.default_rng(0).random((1, 4, 4, 3))
    words = np.asarray(faithful.blurred(jnp.asarray(image, jnp.float32), 2.0)).reshape(1, 4, 4)
    expected = np.einsum("ih,jw,ehwc->eijc", enlarge @ shrink, enlarge @ shrink, image)
    np.testing.assert_allclose((words & 1023) / 1023, expected[..., 0], atol=1e-3)
    np.testing.assert_array_equal(
        faithful.blurred(jnp.asarray(image, jnp.float32), 1.0) & 1023, np.round(image[..., 0] * 1023).ravel()
    )
