"""Line drawings of images: Canny's edges (Canny 1986), which leave the outlines and nothing of the surface."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, UInt8

from ncl_jax.evaluation.corruption_filters import correlate, linked

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
_KEPT, _STRONG = 0.80, 0.92  # quantiles of an image's gradient: edges continue above the first, start above the second
_STEPS = ((0, 1), (1, 1), (1, 0), (1, -1))  # (down, right): the direction of the gradient in steps of 45 degrees


@jax.jit
def draw_edges(images: UInt8[Array, "b s s 3"]) -> UInt8[Array, "b s s 3"]:
    """Black lines, a pixel wide, on white: Canny's edges of the luma of each image.

    The thresholds are quantiles of the image's own gradient, so that pale images get lines too; an image without any
    gradient stays white. The blur before is of a standard deviation of 1 px at up to 64 a side, in proportion beyond,
    at most 2.
    """
    sigma = float(np.clip(images.shape[1] / 64, 1.0, 2.0))
    lines = jax.vmap(functools.partial(_canny, sigma=sigma))(jnp.asarray(images).astype(jnp.float32) @ LUMA / 255)
    drawn = jnp.where(lines, 0, 255).astype(jnp.uint8)
    return jnp.broadcast_to(drawn[..., None], images.shape)


def _canny(luma: Float[Array, "h w"], *, sigma: float) -> Bool[Array, "h w"]:
    reach = int(np.ceil(3 * sigma))
    kernel = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).astype(np.float32)
    smooth, slope = np.array([0.25, 0.5, 0.25], np.float32), np.array([-0.5, 0.0, 0.5], np.float32)
    along = functools.partial(correlate, mode="symmetric")
    luma = along(along(luma, kernel, 0), kernel, 1)
    down, right = along(along(luma, slope, 0), smooth, 1), along(along(luma, slope, 1), smooth, 0)
    size = jnp.sqrt(jnp.square(down) + jnp.square(right))

    # Thin: a pixel stays where neither neighbour along its gradient is larger.
    padded = jnp.pad(size, 1)

    def shifted(y: int, x: int) -> Float[Array, "h w"]:
        return jax.lax.dynamic_slice(padded, (1 + y, 1 + x), size.shape)

    sector = jnp.round(jnp.arctan2(down, right) / (np.pi / 4)).astype(jnp.int32) % 4
    ahead = jnp.stack([shifted(y, x) for y, x in _STEPS])
    behind = jnp.stack([shifted(-y, -x) for y, x in _STEPS])
    ahead, behind = (jnp.take_along_axis(side, sector[None], axis=0)[0] for side in (ahead, behind))
    thin = (size >= behind) & (size > ahead) & (size > 1e-3)

    # What is linked to a strong pixel is an edge.
    weak = thin & (size >= jnp.quantile(size, _KEPT))
    return linked(weak, weak & (size >= jnp.quantile(size, _STRONG)))
