"""Random resized crops: the box, and the antialiased resize of what it holds."""

import math
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, Num

TRIES = 10
RATIO = (3 / 4, 4 / 3)  # least and largest width / height of a crop, in pixels


def sample_box(
    key: Key[Array, "*batch"], *, scale: tuple[float, float], aspect: Float[Array, "*batch"] | float = 1.0
) -> Float[Array, "*batch 4"]:
    """A crop box `(y0, x0, y1, x1)` in [0, 1] per key, drawn as torchvision's RandomResizedCrop draws it.

    Area uniform in `scale` (share of the image's), width / height log-uniform in `RATIO`, ten tries to fit, then the
    largest central crop whose shape is in `RATIO`. Boxes are not rounded to pixels.

    Args:
        key: typed PRNG keys of any shape.
        scale: least and largest area.
        aspect: width / height of the image, one for all or one per key.
    """
    sample = partial(_sample_box, scale=scale)
    for _ in range(key.ndim):
        sample = jax.vmap(sample)
    return sample(key, jnp.broadcast_to(jnp.asarray(aspect, jnp.float32), key.shape))


def _sample_box(key, aspect, *, scale):
    draws = jax.random.uniform(key, (TRIES + 1, 2))
    area = scale[0] + (scale[1] - scale[0]) * draws[:TRIES, 0]
    log_ratio = math.log(RATIO[0]) + (math.log(RATIO[1]) - math.log(RATIO[0])) * draws[:TRIES, 1]
    shape = jnp.exp(log_ratio) / aspect  # width / height in shares of the image's sides
    widths, heights = jnp.sqrt(area * shape), jnp.sqrt(area / shape)
    fits = (widths <= 1.0) & (heights <= 1.0)
    first = jnp.argmax(fits)
    found = fits[first]
    fallback = jnp.clip(aspect, *RATIO) / aspect
    width = jnp.where(found, widths[first], jnp.minimum(fallback, 1.0))
    height = jnp.where(found, heights[first], jnp.minimum(1.0 / fallback, 1.0))
    corner = jnp.where(found, draws[TRIES], 0.5)
    y0, x0 = corner[0] * (1.0 - height), corner[1] * (1.0 - width)
    return jnp.stack([y0, x0, jnp.minimum(y0 + height, 1.0), jnp.minimum(x0 + width, 1.0)])


def resize_matrix(
    length: int, size: int, start: Float[Array, ""] | float, stop: Float[Array, ""] | float
) -> Float[Array, "size length"]:
    """The matrix that resizes the part `[start, stop]` (in [0, 1]) of a signal to `size` samples.

    Bilinear with antialiasing, as Pillow and torchvision do it: a triangle as wide as the step where the signal
    shrinks, two samples wide where it grows. Nothing outside the part is read; a sample that the part only touches
    counts by the share that is inside.
    """
    start, stop = jnp.asarray(start, jnp.float32) * length, jnp.asarray(stop, jnp.float32) * length
    step = (stop - start) / size
    centre = start + (jnp.arange(size, dtype=jnp.float32) + 0.5) * step
    left = jnp.arange(length, dtype=jnp.float32)
    distance = (left[None, :] + 0.5 - centre[:, None]) / jnp.maximum(step, 1.0)
    inside = jnp.clip(jnp.minimum(left + 1.0, stop) - jnp.maximum(left, start), 0.0, 1.0)
    weights = jnp.maximum(1.0 - jnp.abs(distance), 0.0) * inside[None, :]
    return weights / jnp.maximum(jnp.sum(weights, axis=1, keepdims=True), 1e-12)


@partial(jax.jit, static_argnames="size")
def crop_resize(
    images: Num[Array, "b h w c"], boxes: Float[Array, "b 4"], *, size: int | tuple[int, int]
) -> Float[Array, "b s t c"]:
    """The boxes' content resized to `size` (a side, or height and width), antialiased bilinear.

    Args:
        images: uint8, or float in any range, which stays.
        boxes: `(y0, x0, y1, x1)` in [0, 1].
        size: pixels.

    Returns:
        float32; of uint8 images in [0, 1].
    """
    height, width = (size, size) if isinstance(size, int) else size
    unit = 1.0 / 255.0 if images.dtype == jnp.uint8 else 1.0

    def one(image, box):
        rows = resize_matrix(image.shape[0], height, box[0], box[2]) * unit
        columns = resize_matrix(image.shape[1], width, box[1], box[3])
        precision = jax.lax.Precision.HIGHEST
        planar = jnp.moveaxis(image, -1, 0).astype(jnp.float32)
        planar = jnp.einsum("ij,cjw->ciw", rows, planar, precision=precision)
        return jnp.moveaxis(jnp.einsum("ciw,jw->cij", planar, columns, precision=precision), 0, -1)

    return jax.vmap(one)(images, boxes)
