"""Prices of use: even use costs the same everywhere, and what is used too much costs more, as do colours like it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncl_jax.textures import positions, usage


def everywhere(space):
    """Each source position once, as a grid `[1, 2, 2, i, j]`."""
    e, y, x = np.meshgrid(*(np.arange(n) for n in (space.count, space.rows, space.columns)), indexing="ij")
    words = (e << positions.EXEMPLAR) | (y * space.step << positions.ROW) | (x * space.step)
    return jnp.asarray(words.reshape(1, 2, 2, space.count, -1), jnp.int32)


@pytest.mark.parametrize(("count", "side"), [(1, 24), (2, 24), (3, 22), (2, 8)])
def test_even_use_costs_the_same_everywhere(count, side):
    exemplars = jax.random.uniform(jax.random.key(0), (1, count, 2 * side, 2 * side, 3))
    space = positions.Space(count, side, side, 2, 4)
    neighbours = usage.colour_neighbours(exemplars, space)
    price = usage.prices(everywhere(space), space, crowding=0.0, tone=1.0, neighbours=neighbours)
    np.testing.assert_allclose(np.asarray(price), np.log(1 + 1 / 0.05), rtol=1e-4)


def test_a_colour_used_too_much_is_dear_wherever_it_is():
    exemplars = jnp.zeros((1, 2, 24, 24, 3)).at[:, :, :, 12:].set(1.0)  # black left halves, white right halves
    space = positions.Space(2, 24, 24, 1, 4)
    quad = jnp.zeros((1, 2, 2, 4, 4), jnp.int32)  # all from one black corner
    neighbours = usage.colour_neighbours(exemplars, space)
    price = usage.prices(quad, space, crowding=0.0, tone=1.0, neighbours=neighbours)
    price = np.asarray(price).reshape(2, space.bins, space.bins)
    assert price.min() >= 0
    assert (price[:, :, :6] > 3).all()  # black, in both exemplars
    assert (price[:, :, 6:] < 0.1).all()
    price = np.asarray(usage.prices(quad, space, crowding=1.0, tone=0.0, neighbours=None))
    assert price[0, 0] == space.count * space.bins**2
    assert (price[0, 1:] == 0).all()
