"""Line drawings, by hand."""

import jax.numpy as jnp
import numpy as np

from ncl_jax.data import drawing
from ncl_jax.evaluation import edges


def test_a_square_becomes_its_outline_and_a_plain_image_stays_white():
    image = np.zeros((2, 48, 48, 3), np.uint8) + 90
    image[0, 12:36, 12:36] = (250, 40, 40)
    drawn = np.asarray(edges.draw_edges(image))
    assert drawn.dtype == np.uint8
    assert set(np.unique(drawn)) == {0, 255}
    assert (drawn[1] == 255).all()
    black = drawn[0, :, :, 0] == 0
    near = np.zeros((48, 48), bool)
    near[10:38, 10:38] = True
    near[14:34, 14:34] = False
    assert not black[~near].any()
    # A pixel wide on every line across each side, but near the corners.
    assert (black[18:30].sum(axis=1) == 2).all()
    assert (black[:, 18:30].sum(axis=0) == 2).all()


def test_the_outline_of_a_drawn_shape_is_found_whatever_its_contrast():
    image = drawing.draw(3, "circle", "dots", 64).astype(np.float32)
    pale = (118 + 0.08 * image).astype(np.uint8)
    strong, weak = (np.asarray(edges.draw_edges(x.astype(np.uint8)[None]))[0, :, :, 0] == 0 for x in (image, pale))
    assert 0.02 < strong.mean() < 0.25
    assert np.sum(strong & weak) > 0.7 * np.sum(strong)


def test_an_image_does_not_depend_on_the_others():
    images = np.stack([drawing.draw(i, i, i, 32) for i in range(5)])
    together = edges.draw_edges(images)
    apart = jnp.concatenate([edges.draw_edges(images[i : i + 1]) for i in range(5)])
    np.testing.assert_array_equal(together, apart)
