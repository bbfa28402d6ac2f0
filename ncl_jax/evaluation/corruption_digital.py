"""What processing does to an image: brightness, contrast, saturation, pixels, JPEG, elastic deformation."""

import io

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, UInt8
from PIL import Image

from ncl_jax.evaluation.corruption_filters import box_resize, sample


def contrast(key: Key[Array, ""], image: Float[Array, "3 h w"], share: float) -> Float[Array, "3 h w"]:
    """A share of the distance to the image's mean colour."""
    mean = jnp.mean(image, axis=(1, 2), keepdims=True)
    return (image - mean) * share + mean


def brightness(key: Key[Array, ""], image: Float[Array, "3 h w"], added: float) -> Float[Array, "3 h w"]:
    """More of HSV's value, at the same hue and saturation."""
    value = jnp.max(image, axis=0)
    brighter = jnp.clip(value + added, 0.0, 1.0)
    scaled = image * (brighter / jnp.where(value == 0.0, 1.0, value))[None]
    return jnp.where(value[None] == 0.0, brighter[None], scaled)  # black has no colour: it becomes grey


def saturate(
    key: Key[Array, ""], image: Float[Array, "3 h w"], constants: tuple[float, float]
) -> Float[Array, "3 h w"]:
    """HSV's saturation times a factor and an offset. Grey counts as red (hue 0), so an offset colours it."""
    factor, offset = constants
    value, least = jnp.max(image, axis=0), jnp.min(image, axis=0)
    chroma = value - least
    grey = chroma == 0.0
    saturation = chroma / jnp.where(value == 0.0, 1.0, value)
    wanted = jnp.clip(saturation * factor + offset, 0.0, 1.0)
    ratio = wanted / jnp.where(grey, 1.0, saturation)
    coloured = value[None] - (value[None] - image) * ratio[None]
    reddish = value * (1.0 - wanted)
    return jnp.where(grey[None], jnp.stack([value, reddish, reddish]), coloured)


def pixelate(key: Key[Array, ""], image: Float[Array, "3 h w"], share: float) -> Float[Array, "3 h w"]:
    """Shrunk to a share of its sides and enlarged again, both by Pillow's box filter."""
    _, height, width = image.shape
    small = box_resize(image * 255.0, (max(int(height * share), 1), max(int(width * share), 1)))
    return box_resize(small, (height, width)) / 255.0


def elastic_transform(
    key: Key[Array, ""], image: Float[Array, "3 h w"], constants: tuple[float, float, float]
) -> Float[Array, "3 h w"]:
    """A random affine map, then a smooth random displacement.

    Lengths are shares of the shorter side; at 224 pixels the published code takes 244 for it, and so does this.
    """
    _, height, width = image.shape
    side = min(height, width)
    side = side * 244 / 224 if side >= 120 else side
    amplitude, sigma, reach = (side * value for value in constants)
    chance = jax.random.uniform(key, (6 + 2 * height * width,), minval=-1.0, maxval=1.0)
    third = min(height, width) // 3
    corners = np.array([[third, third], [third, -third], [-third, -third]], np.float32)
    corners += np.array([height // 2, width // 2], np.float32)[None]  # taken for (x, y), as published
    moved = jnp.asarray(corners) + reach * chance[:6].reshape(3, 2)
    rows, columns = (g.astype(jnp.float32) for g in jnp.mgrid[:height, :width])
    x, y = _affine(moved, corners, columns, rows)
    image = sample(image, y, x, "reflect")
    if amplitude == 0.0:
        return image

    smooth_rows, smooth_columns = (jnp.asarray(_smoothing(n, sigma), jnp.float32) for n in (height, width))

    noise = chance[6:].reshape(2, height, width)
    highest = jax.lax.Precision.HIGHEST
    down, right = amplitude * jnp.einsum("ij,njk,lk->nil", smooth_rows, noise, smooth_columns, precision=highest)
    return sample(image, rows + down, columns + right, "symmetric")


def _affine(
    source: Float[Array, "3 2"], target: np.ndarray, x: Float[Array, "h w"], y: Float[Array, "h w"]
) -> tuple[Float[Array, "h w"], Float[Array, "h w"]]:
    """The points (x, y) under the affine map that takes three source points to three target points."""
    a, b = source[0] - source[2], source[1] - source[2]
    determinant = a[0] * b[1] - a[1] * b[0]
    u = ((x - source[2, 0]) * b[1] - (y - source[2, 1]) * b[0]) / determinant
    v = ((y - source[2, 1]) * a[0] - (x - source[2, 0]) * a[1]) / determinant
    c, d = target[0] - target[2], target[1] - target[2]
    return u * c[0] + v * d[0] + target[2, 0], u * c[1] + v * d[1] + target[2, 1]


def _smoothing(length: int, sigma: float) -> np.ndarray:
    """`[length length]`: SciPy's Gaussian filter of `sigma` samples, cut at 3 sigma, reflected as often as it takes."""
    radius = int(3.0 * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    weights /= weights.sum()
    source = (np.arange(length)[:, None] + np.arange(-radius, radius + 1)[None, :]) % (2 * length)
    source = np.minimum(source, 2 * length - 1 - source)
    matrix = np.zeros((length, length))
    np.add.at(matrix, (np.arange(length)[:, None], source), weights[None, :])
    return matrix


def jpeg_compression(images: UInt8[np.ndarray, "b h w 3"], quality: int) -> UInt8[np.ndarray, "b h w 3"]:
    """Through Pillow's JPEG and back, on the host."""
    result = np.empty_like(images)
    for index, image in enumerate(images):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=quality)
        result[index] = np.asarray(Image.open(buffer).convert("RGB"))
    return result
