"""Blur of the lens, of movement and of frosted glass."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from ncl_jax.evaluation.corruption_filters import gaussian, linear_zoom, motion, stage


def gaussian_blur(key: Key[Array, ""], image: Float[Array, "3 h w"], sigma: float) -> Float[Array, "3 h w"]:
    """A Gaussian of `sigma` pixels."""
    return gaussian(image, sigma)


def defocus_blur(
    key: Key[Array, ""], image: Float[Array, "3 h w"], constants: tuple[float, float]
) -> Float[Array, "3 h w"]:
    """The disk that an unfocused lens makes of a point."""
    kernel = disk(*constants)
    radius = min(len(kernel) // 2, min(image.shape[1:]) - 1)
    centre = len(kernel) // 2
    kernel = kernel[centre - radius : centre + radius + 1, centre - radius : centre + radius + 1]
    pad = [(0, 0), (radius, radius), (radius, radius)]
    padded = jnp.pad(image, pad, mode="reflect")[:, None]
    weights = jnp.asarray(kernel, jnp.float32)[None, None]
    precision = jax.lax.Precision.HIGHEST
    return jax.lax.conv_general_dilated(padded, weights, (1, 1), "VALID", precision=precision)[:, 0]


def disk(radius: float, sigma: float) -> np.ndarray:
    """A disk of sum 1, its edge softened by a Gaussian of 3 or 5 taps; no larger than its non-zero part."""
    reach = np.arange(-8, 9) if radius <= 8 else np.arange(-radius, radius + 1)
    inside = (reach[None, :] ** 2 + reach[:, None] ** 2 <= radius**2).astype(np.float64)
    inside /= inside.sum()
    half = 1 if radius <= 8 else 2
    taps = np.exp(-0.5 * (np.arange(-half, half + 1) / sigma) ** 2)
    taps /= taps.sum()
    for axis in (0, 1):
        padded = np.pad(inside, [(half, half) if a == axis else (0, 0) for a in (0, 1)], mode="reflect")
        inside = np.apply_along_axis(lambda line: np.convolve(line, taps, mode="valid"), axis, padded)
    used = np.flatnonzero(inside.max(0) > 1e-12)
    return inside[used[0] : used[-1] + 1, used[0] : used[-1] + 1]


def motion_blur(
    key: Key[Array, ""], image: Float[Array, "3 h w"], constants: tuple[int, float]
) -> Float[Array, "3 h w"]:
    """Movement along an angle of -45 to 45 degrees."""
    angle = jax.random.uniform(key, (), minval=-45.0, maxval=45.0)
    return motion(image, angle, radius=constants[0], sigma=constants[1])


def zoom_blur(
    key: Key[Array, ""], image: Float[Array, "3 h w"], constants: tuple[float, float]
) -> Float[Array, "3 h w"]:
    """The mean of the image and its enlargements, from 1 on in steps to below `stop`."""
    stop, step = constants
    zooms = np.arange(1, stop, step)
    total = image
    for zoom in zooms:
        total = stage(total + linear_zoom(image, float(zoom)))
    return total / (len(zooms) + 1)


def glass_blur(
    key: Key[Array, ""], image: Float[Array, "3 h w"], constants: tuple[float, int, int]
) -> Float[Array, "3 h w"]:
    """Blurred, pixels moved about, and blurred again.

    The published loop goes over the pixels from the last to the first and means to exchange each with a random
    neighbour; as its pixels are views of one array, it *copies* the neighbour, which may be a copy already. So does
    this function, for it is what the published images show, but without a loop: a pixel either copies an original or
    points to a pixel that was overwritten before it, and such chains are followed in doubling strides.
    """
    sigma, reach, rounds = constants
    image = jnp.floor(gaussian(image, sigma) * 255.0 + 1e-3)
    chance = jax.random.uniform(key, (rounds, 2, *image.shape[1:]))
    for move in jnp.floor(chance * (2 * reach)).astype(jnp.int32) - reach:
        source = copied_from(move, reach)
        image = image.reshape(3, -1)[:, source.reshape(-1)].reshape(image.shape)
    return gaussian(image / 255.0, sigma)


def copied_from(move: Int[Array, "2 h w"], reach: int) -> Int[Array, "h w"]:
    """For every pixel the number (row times width plus column) of the pixel whose value it ends up with.

    `move` is how far (down, right) the neighbour is that a pixel copies, in [-reach, reach).
    """
    _, height, width = move.shape
    row, column = jnp.mgrid[:height, :width]
    number = row * width + column

    def visited(y: Array, x: Array) -> Array:
        return (y > reach) & (y <= height - reach) & (x > reach) & (x <= width - reach)

    y, x = jnp.clip(row + move[0], 0, height - 1), jnp.clip(column + move[1], 0, width - 1)
    moves = visited(row, column)
    target = jnp.where(moves, y * width + x, number).reshape(-1)
    overwritten = moves & visited(y, x) & (target.reshape(height, width) > number)
    # Nodes 0..n-1 are pixels as overwritten, n..2n-1 originals, which point to themselves.
    count = height * width
    pointer = jnp.concatenate([jnp.where(overwritten.reshape(-1), target, target + count), count + jnp.arange(count)])
    pointer = jax.lax.fori_loop(0, count.bit_length(), lambda _, p: p[p], pointer)
    return (pointer[:count] - count).reshape(height, width)
