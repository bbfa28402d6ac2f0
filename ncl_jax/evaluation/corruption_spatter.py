"""Spatter: drops of water or mud on the lens. Its water is drawn with a handful of OpenCV's operations."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from ncl_jax.evaluation.corruption_filters import correlate, gaussian, linked, stage

WATER = (175, 238, 238)  # pale turquoise, RGB
MUD = (63, 42, 20)
LOW, HIGH = 50.0, 150.0  # thresholds of Canny's edges
REACH = 20  # pixels: farther from a rim is as bright


def spatter(key: Key[Array, ""], image: Float[Array, "3 h w"], constants: tuple[float, ...]) -> Float[Array, "3 h w"]:
    """Smooth noise above a threshold is liquid: bright water, thickest at its rim, or brown mud."""
    mean, deviation, sigma, threshold, strength, mud = constants
    liquid = gaussian(mean + deviation * jax.random.normal(key, image.shape[1:]), sigma)
    if mud:
        cover = gaussian((liquid > threshold).astype(jnp.float32), strength)
        cover = jnp.where(cover < 0.8, 0.0, cover)[None]
        return image * (1.0 - cover) + cover * _colour(MUD)
    liquid = jnp.where(liquid < threshold, 0.0, liquid)
    return image + strength * water(jnp.floor(liquid * 255.0))[None] * _colour(WATER)


def _colour(rgb: tuple[int, int, int]) -> Float[Array, "3 1 1"]:
    return jnp.asarray(rgb, jnp.float32)[:, None, None] / 255.0


def water(liquid: Float[Array, "h w"]) -> Float[Array, "h w"]:
    """How bright the drops shine, in [0, 1], for their thickness in whole numbers 0..255.

    The distance from the rims, its histogram made flat, embossed, smoothed, times the thickness.
    """
    distance = jnp.minimum(rim_distance(edges(liquid)), float(REACH))
    level = equalize(jnp.floor(_box(distance) + 1e-4))
    emboss = jnp.asarray([[-2.0, -1.0, 0.0], [-1.0, 1.0, 1.0], [0.0, 1.0, 2.0]])
    padded = jnp.pad(level, 1, mode="reflect")
    height, width = level.shape
    parts = [emboss[i, j] * padded[i : i + height, j : j + width] for i in range(3) for j in range(3)]
    level = stage(jnp.clip(sum(parts), 0.0, 255.0))
    shine = liquid * jnp.round(_box(level))
    return shine / jnp.maximum(jnp.max(shine), 1.0)


def _box(image: Float[Array, "h w"]) -> Float[Array, "h w"]:
    """Mean of 3x3 pixels."""
    third = [1 / 3] * 3
    return correlate(correlate(image, third, 0, "reflect"), third, 1, "reflect")


def edges(image: Float[Array, "h w"]) -> Bool[Array, "h w"]:
    """Canny's edges as OpenCV finds them: Sobel, sum of magnitudes, thinned, weak ones kept beside strong ones."""
    smooth, difference = [1.0, 2.0, 1.0], [-1.0, 0.0, 1.0]
    dx = correlate(correlate(image, smooth, 0, "edge"), difference, 1, "edge")
    dy = correlate(correlate(image, difference, 0, "edge"), smooth, 1, "edge")
    size = jnp.abs(dx) + jnp.abs(dy)
    around = jnp.pad(size, 1)
    height, width = image.shape

    def at(y: int, x: int) -> Float[Array, "h w"]:
        return around[1 + y : 1 + y + height, 1 + x : 1 + x + width]

    flat = jnp.abs(dy) < jnp.tan(jnp.pi / 8) * jnp.abs(dx)
    steep = jnp.abs(dy) > (jnp.tan(jnp.pi / 8) + 2.0) * jnp.abs(dx)
    falling = dx * dy < 0
    top = jnp.where(
        flat,
        (size > at(0, -1)) & (size >= at(0, 1)),
        jnp.where(
            steep,
            (size > at(-1, 0)) & (size >= at(1, 0)),
            jnp.where(falling, (size > at(-1, 1)) & (size > at(1, -1)), (size > at(-1, -1)) & (size > at(1, 1))),
        ),
    )
    return linked(top & (size > LOW), top & (size > HIGH))


def rim_distance(rim: Bool[Array, "h w"]) -> Float[Array, "h w"]:
    """Distance to the nearest rim pixel in OpenCV's 5x5 metric, right up to REACH, at least that beyond it.

    A path of steps to neighbours (1), diagonal neighbours (1.4) and knight's moves (2.1969).
    """
    steps = {(0, 1): 1.0, (1, 1): 1.4, (1, 2): 2.1969}
    moves = [
        (sign_a * y, sign_b * x, cost)
        for (a, b), cost in steps.items()
        for y, x in {(a, b), (b, a)}
        for sign_a in ((-1, 1) if y else (1,))
        for sign_b in ((-1, 1) if x else (1,))
    ]
    far = jnp.float32(2 * REACH + 2)
    height, width = rim.shape

    def relax(_: Array, distance: Float[Array, "h w"]) -> Float[Array, "h w"]:
        padded = jnp.pad(distance, 2, constant_values=far)
        for y, x, cost in moves:
            distance = jnp.minimum(distance, padded[2 + y : 2 + y + height, 2 + x : 2 + x + width] + cost)
        return distance

    return jax.lax.fori_loop(0, REACH, relax, jnp.where(rim, 0.0, far))


def equalize(level: Float[Array, "h w"]) -> Float[Array, "h w"]:
    """Whole numbers 0..255 mapped so that their histogram is as flat as it can be (OpenCV's `equalizeHist`)."""
    index = level.astype(jnp.int32)
    histogram = jnp.zeros(256, jnp.int32).at[index.reshape(-1)].add(1)
    first = jnp.argmax(histogram > 0)
    others = level.size - histogram[first]
    up_to = jnp.cumsum(histogram) - histogram[first]
    table = jnp.round(up_to * (255.0 / jnp.maximum(others, 1)))
    return jnp.where(others == 0, level, jnp.maximum(table, 0.0)[index])
