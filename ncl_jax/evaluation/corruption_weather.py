"""Fog, snow and frost."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from ncl_jax.evaluation.corruption_constants import SIZES, nearest_size
from ncl_jax.evaluation.corruption_filters import linear_zoom, motion, stage


def fog(key: Key[Array, ""], image: Float[Array, "3 h w"], constants: tuple[float, float]) -> Float[Array, "3 h w"]:
    """A fractal cloud over the image, which is darkened to keep its brightest value."""
    density, decay = constants
    _, height, width = image.shape
    side = 1 << (max(height, width) - 1).bit_length()
    brightest = jnp.max(image)
    cloud = density * plasma(key, side, decay)[:height, :width]
    return (image + cloud[None]) * brightest / (brightest + density)


def plasma(key: Key[Array, ""], side: int, decay: Float[Array, ""] | float) -> Float[Array, "side side"]:
    """A periodic height map in [0, 1] by the diamond-square algorithm; `side` is a power of two.

    A level halves the grid: the middles of the squares, then the middles of the edges, are the mean of their four
    neighbours and uniform noise, whose width falls by `decay` squared from level to level.
    """
    noise = jax.random.uniform(key, (side * side - 1,), minval=-1.0, maxval=1.0)  # one draw: each takes long to compile
    corner = jnp.zeros((1, 1))
    wobble: Any = 100.0 * 100.0
    while len(corner) < side:
        count = corner.size
        wobbles = wobble * noise[count - 1 : 4 * count - 1].reshape(3, *corner.shape)
        below = corner + jnp.roll(corner, -1, 0)
        middle = (below + jnp.roll(below, -1, 1)) / 4 + wobbles[0]
        top = (middle + jnp.roll(middle, 1, 0) + corner + jnp.roll(corner, -1, 1)) / 4 + wobbles[1]
        left = (middle + jnp.roll(middle, 1, 1) + corner + jnp.roll(corner, -1, 0)) / 4 + wobbles[2]
        even = jnp.stack([corner, top], -1).reshape(len(corner), -1)
        odd = jnp.stack([left, middle], -1).reshape(len(corner), -1)
        corner = stage(jnp.stack([even, odd], 1).reshape(2 * len(corner), -1))
        wobble = wobble / decay**2
    corner = corner - jnp.min(corner)
    return corner / jnp.max(corner)


def snow(key: Key[Array, ""], image: Float[Array, "3 h w"], constants: tuple[float, ...]) -> Float[Array, "3 h w"]:
    """Flakes falling through a whitened image, once as drawn and once turned by 180 degrees."""
    mean, deviation, zoom, threshold, radius, sigma, weight = constants
    _, height, width = image.shape
    draw = jax.random.normal(key, (height * width + 1,))
    flakes = linear_zoom(mean + deviation * draw[1:].reshape(height, width), zoom)
    flakes = jnp.where(flakes < threshold, 0.0, jnp.clip(flakes, 0.0, 1.0))
    angle = -135.0 + 90.0 * jax.scipy.stats.norm.cdf(draw[0])  # uniform
    flakes = motion(jnp.floor(flakes * 255.0) / 255.0, angle, radius=int(radius), sigma=sigma)
    flakes = stage(jnp.round(flakes * 255.0) / 255.0)
    grey = 0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2]
    image = weight * image + (1.0 - weight) * jnp.maximum(image, grey[None] * 1.5 + 0.5)
    return image + (flakes + flakes[::-1, ::-1])[None]


# The published frost is cut from five photographs of windows, which we may not ship. These are their mean colour and
# standard deviation (RGB, 0..255) and the slope of their power spectrum (log power over log frequency) at 32, 64
# and 224 pixels, where they are shown at a fifth, three tenths and eleven tenths of their size.
FROST = (
    ((78, 149, 166), (27, 16, 15), (-1.2, -1.5, -2.4)),
    ((201, 205, 215), (21, 22, 22), (-0.8, -1.0, -1.5)),
    ((201, 205, 215), (21, 22, 22), (-0.8, -1.0, -1.5)),  # the second photograph is there twice
    ((138, 153, 165), (28, 28, 30), (-0.3, -0.5, -1.0)),
    ((112, 123, 135), (44, 43, 41), (-0.9, -1.2, -1.7)),
)
NEEDLES = 4  # directions of ice crystals in one image


def frost(key: Key[Array, ""], image: Float[Array, "3 h w"], constants: tuple[float, float]) -> Float[Array, "3 h w"]:
    """The image under a pane with ice, `a image + b ice`.

    **Not the published pixels**: the ice is procedural, with colour, contrast and spectrum of the photographs.
    """
    image_weight, ice_weight = constants
    photograph_key, ice_key = jax.random.split(key)
    photograph = jax.random.randint(photograph_key, (), 0, len(FROST))
    return image_weight * image + ice_weight * ice(ice_key, photograph, image.shape[1], image.shape[2])


def ice(key: Key[Array, ""], photograph: Int[Array, ""] | int, height: int, width: int) -> Float[Array, "3 h w"]:
    """Procedural frost in [0, 1]: noise with the spectrum of one of the photographs (a row of `FROST`), made of needles
    that lie in another direction from place to place."""
    area = height * width
    draw = jax.random.normal(key, (2 * NEEDLES * area + NEEDLES + 1,))
    fields = draw[: 2 * NEEDLES * area].reshape(2, NEEDLES, height, width)
    uniform = jax.scipy.stats.norm.cdf(draw[2 * NEEDLES * area + 1 :])
    scale = SIZES.index(nearest_size(min(height, width)))
    mean, deviation = (jnp.asarray([f[i] for f in FROST], jnp.float32)[photograph] / 255.0 for i in (0, 1))
    slope = jnp.asarray([f[2][scale] for f in FROST], jnp.float32)[photograph]

    fy = jnp.fft.fftfreq(height)[:, None] * height
    fx = jnp.fft.rfftfreq(width)[None, :] * width
    frequency = jnp.sqrt(jnp.square(fy) + jnp.square(fx))
    safe = jnp.maximum(frequency, 1.0)
    amplitude = jnp.where(frequency == 0, 0.0, jnp.exp(0.5 * slope * jnp.log(safe)))
    angle = jnp.pi * uniform[:, None, None]
    across = (fy[None] * jnp.sin(angle) + fx[None] * jnp.cos(angle)) / safe[None]  # 1: waves across the needle
    needle = amplitude[None] * jnp.exp(-0.5 * jnp.square((1.0 - jnp.abs(across)) / 0.1))
    smooth = jnp.where((frequency > 0) & (frequency < 8), 1.0 / safe, 0.0)

    def filtered(field: Float[Array, "n h w"], response: Float[Array, "..."]) -> Float[Array, "n h w"]:
        waves = jnp.fft.irfft2(jnp.fft.rfft2(field) * response, s=(height, width))
        return waves / jnp.std(waves, axis=(1, 2), keepdims=True)

    share = jax.nn.softmax(3.0 * filtered(fields[0], smooth[None]), axis=0)
    texture = jnp.sum(share * filtered(fields[1], needle), axis=0)
    texture = (texture - jnp.mean(texture)) / jnp.std(texture)
    level = 0.04 * draw[2 * NEEDLES * area]  # crops of one photograph differ by about 10 grey levels
    return jnp.clip(mean[:, None, None] + deviation[:, None, None] * texture[None] + level, 0.0, 1.0)
