"""Colour operations on planar images, with the meaning of torchvision's tensor transforms.

Planar means `[... 3 h w]`: the colour arithmetic then runs over long rows instead of triples, on every backend.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

# ITU-R 601 as torchvision writes it (Pillow uses 0.299).
LUMA = (0.2989, 0.587, 0.114)
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
IDENTITY_FACTORS = (1.0, 1.0, 1.0, 0.0)  # of the four operations


def luma(image: Float[Array, "3 h w"]) -> Float[Array, "h w"]:
    """The grey value of every pixel (ITU-R 601 weights)."""
    return LUMA[0] * image[0] + LUMA[1] * image[1] + LUMA[2] * image[2]


def grayscale(image: Float[Array, "3 h w"]) -> Float[Array, "3 h w"]:
    """The image with its grey value in all three channels."""
    return jnp.broadcast_to(luma(image)[None], image.shape)


def solarize(image: Float[Array, "3 h w"], threshold: float = 0.5) -> Float[Array, "3 h w"]:
    """Values at or above `threshold` inverted."""
    return jnp.where(image >= threshold, 1.0 - image, image)


def adjust_brightness(image: Float[Array, "3 h w"], factor: Float[Array, ""] | float) -> Float[Array, "3 h w"]:
    """`factor * image`, clipped to [0, 1]; a factor of 0 is black, 1 the image itself."""
    return jnp.clip(factor * image, 0.0, 1.0)


def adjust_contrast(image: Float[Array, "3 h w"], factor: Float[Array, ""] | float) -> Float[Array, "3 h w"]:
    """The image blended with its mean grey value: 0 is uniform grey, 1 the image itself."""
    return jnp.clip(factor * image + (1.0 - factor) * jnp.mean(luma(image)), 0.0, 1.0)


def adjust_saturation(image: Float[Array, "3 h w"], factor: Float[Array, ""] | float) -> Float[Array, "3 h w"]:
    """The image blended with its grey version: 0 is greyscale, 1 the image itself."""
    return _blend(image, factor, 1.0 - factor)


def adjust_hue(image: Float[Array, "3 h w"], shift: Float[Array, ""] | float) -> Float[Array, "3 h w"]:
    """The hue turned by `shift` of a full turn, in [-0.5, 0.5], at the same HSV saturation and value.

    Without a detour over HSV: a channel is `v - chroma * clip(min(k, 4 - k), 0, 1)`, where `k` is the distance on the
    colour circle, in sixths, from the corner opposite the channel.
    """
    red, green, blue = image
    value = jnp.maximum(jnp.maximum(red, green), blue)
    chroma = value - jnp.minimum(jnp.minimum(red, green), blue)
    scale = 1.0 / jnp.where(chroma == 0.0, 1.0, chroma)
    # Which is largest is not asked by `value == red`: fused, the two may be computed apart and differ in the last bit.
    sixths = jnp.where(
        (red >= green) & (red >= blue),
        (green - blue) * scale,
        jnp.where(green >= blue, 2.0 + (blue - red) * scale, 4.0 + (red - green) * scale),
    )  # in [-1, 5]
    sixths = sixths + 6.0 * shift

    def channel(corner: float) -> Float[Array, "h w"]:
        k = sixths + corner
        k = k - 6.0 * jnp.floor(k * (1.0 / 6.0))
        return value - chroma * jnp.clip(jnp.minimum(k, 4.0 - k), 0.0, 1.0)

    return jnp.stack([channel(5.0), channel(3.0), channel(1.0)])


class Jitter(NamedTuple):
    """One draw of the colour jitter.

    Attributes:
        factors: of brightness, contrast and saturation, and the hue's shift; `IDENTITY_FACTORS` change nothing.
        order: `order[k]` is the operation applied as the k-th; a permutation of 0..3.
        active: without it the image stays as it is.
    """

    factors: Float[Array, " 4"]
    order: Int[Array, " 4"]
    active: Bool[Array, ""]


def jitter(image: Float[Array, "3 h w"], draw: Jitter) -> Float[Array, "3 h w"]:
    """Brightness, contrast, saturation and hue, each applied once, in the drawn order (torchvision's ColorJitter).

    The order differs between the examples of a batch, where a branch costs the sum of its cases. Here only what an
    order can change is repeated: brightness and saturation are one blend `f x + g luma(x)` and fit any slot, and the
    mean that contrast needs (a pass over the whole image) is taken once: everything else comes before or after it.
    """
    rank = jnp.argsort(draw.order)  # operation -> its place
    before = _pointwise(_staged(image), draw.factors, rank, rank < rank[CONTRAST])
    blended = _staged(adjust_contrast(before, draw.factors[CONTRAST]))
    after = _pointwise(blended, draw.factors, rank, rank > rank[CONTRAST])
    return jnp.where(draw.active, after, image)


def _pointwise(
    image: Float[Array, "3 h w"], factors: Float[Array, " 4"], rank: Int[Array, " 4"], wanted: Bool[Array, " 4"]
) -> Float[Array, "3 h w"]:
    """Those of brightness, saturation and hue that are `wanted`, in the order of their `rank`."""
    brightness_first = rank[BRIGHTNESS] < rank[SATURATION]
    before_hue = rank < rank[HUE]
    for side in (before_hue, ~before_hue):
        use = wanted & side
        scale_b = jnp.where(use[BRIGHTNESS], factors[BRIGHTNESS], 1.0)
        scale_s = jnp.where(use[SATURATION], factors[SATURATION], 1.0)
        for first in (brightness_first, ~brightness_first):
            scale = jnp.where(first, scale_b, scale_s)
            image = _staged(_blend(image, scale, jnp.where(first, 0.0, 1.0 - scale)))
        if side is before_hue:
            image = _staged(jnp.where(wanted[HUE], adjust_hue(image, factors[HUE]), image))
    return image


def _blend(
    image: Float[Array, "3 h w"], scale: Float[Array, ""] | float, grey: Float[Array, ""] | float
) -> Float[Array, "3 h w"]:
    """`scale * image + grey * luma(image)`, clipped; in planes, which CPUs turn into vector instructions."""
    offset = grey * luma(image)
    return jnp.stack([jnp.clip(scale * plane + offset, 0.0, 1.0) for plane in image])


def _staged(image: Float[Array, "3 h w"]) -> Float[Array, "3 h w"]:
    """The image, computed once. XLA fuses chains of element-wise operations and computes them anew for every reader;
    each stage reads all three planes of the one before, so without a stop the work grows with three to the power of
    the number of stages. Not so on GPUs, where a stop is a pass through memory and nothing else."""
    return image if jax.default_backend() == "gpu" else jax.lax.optimization_barrier(image)
