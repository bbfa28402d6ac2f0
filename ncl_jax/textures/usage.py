"""What a source place costs where it, or its colour, is used more than its share: textures keep all of their exemplars.

Without it plain areas, which continue each other at no cost, grow over everything else, or one exemplar does.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32

from ncl_jax.textures.positions import Space

_BAND = 0.03  # of the exemplars' variance: squared deviation within which colours count as alike
_LEAST = 0.05  # the relative use below which a colour hardly gets any cheaper


def colour_neighbours(exemplars: Float[Array, "b e h w 3"], space: Space) -> Float[Array, "b r r"]:
    """How alike the mean colours of all regions are, scaled so that even use gives every region a share of 1.

    A row times the counts of use, in shares of all pixels, is how often colours like the region's are used relative
    to how often the exemplars have them.
    """
    rows, columns = _members(exemplars.shape[2], space.rows, space), _members(exemplars.shape[3], space.columns, space)
    area = np.tile(np.outer(rows.sum(1), columns.sum(1)).ravel(), space.count)
    rows, columns = (m / np.maximum(m.sum(1, keepdims=True), 1) for m in (rows, columns))
    colours = jnp.einsum("ih,behwc,jw->beijc", rows, exemplars, columns).reshape(len(exemplars), -1, 3)
    variance = jnp.sum(jnp.var(exemplars, axis=(1, 2, 3)), axis=-1)
    squared = sum((colours[:, :, None, c] - colours[:, None, :, c]) ** 2 for c in range(3))
    alike = jnp.exp(-squared / (2 * _BAND * variance + 1e-9)[:, None, None])
    return alike / jnp.einsum("bij,j->bi", alike, jnp.asarray(area / area.sum(), jnp.float32))[..., None]


def _members(length: int, steps: int, space: Space) -> np.ndarray:
    """Which pixels along a side are in which region: `[bins, length]`, 0 or 1."""
    region = np.arange(length) // space.step * space.bins // steps
    return (region == np.arange(space.bins)[:, None]).astype(np.float32)


def prices(
    quad: Int32[Array, "b 2 2 i j"], space: Space, *, crowding: float, tone: float, neighbours: Array | None
) -> Float[Array, "b r"]:
    """The price of each region: `crowding` times its use relative to even use, and `tone` times about the logarithm of
    how often colours like its are used relative to how often the exemplars have them. None is negative.

    Args:
        neighbours: what `colour_neighbours` gives; used where `tone` is not 0.
    """
    row, column = space.region(quad.reshape(len(quad), -1))
    rows, columns = jax.nn.one_hot(row, space.count * space.bins), jax.nn.one_hot(column, space.bins)
    share = jnp.einsum("bpi,bpj->bij", rows, columns).reshape(len(quad), -1) / row.shape[1]
    price = crowding * share.shape[1] * share
    if neighbours is not None:
        price += tone * jnp.log1p(jnp.einsum("bij,bj->bi", neighbours, share) / _LEAST)
    return price
