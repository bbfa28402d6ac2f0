"""Filters that the corruptions share, on planar images `[... h w]`, as scikit-image, SciPy and OpenCV define them."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

stage = jax.lax.optimization_barrier  # ends a fusion: XLA would compute what comes before anew for every reader


def correlate(image: Float[Array, "*c h w"], weights: Any, axis: int, mode: str) -> Float[Array, "*c h w"]:
    """The image correlated along one axis with an odd number of weights; `mode` as in `jnp.pad`.

    Weights may be traced. Constant zeros at the kernel's end cost nothing.
    """
    radius = len(weights) // 2
    length = image.shape[axis]
    padded = jnp.pad(image, [(radius, radius) if a == axis % image.ndim else (0, 0) for a in range(image.ndim)], mode)
    padded = stage(padded)
    parts = (weights[k] * jax.lax.slice_in_dim(padded, k, k + length, axis=axis) for k in range(2 * radius + 1))
    return stage(sum(parts))


def gaussian(image: Float[Array, "*c h w"], sigma: float) -> Float[Array, "*c h w"]:
    """scikit-image's `filters.gaussian`: borders repeated, cut at 4 sigma. `sigma` is static."""
    radius = int(4.0 * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / max(sigma, 1e-9)) ** 2)
    weights = [float(w) for w in weights / weights.sum()]
    if radius == 0:
        return image
    return correlate(correlate(image, weights, -2, "edge"), weights, -1, "edge")


def linked(weak: Bool[Array, "h w"], strong: Bool[Array, "h w"]) -> Bool[Array, "h w"]:
    """Canny's last step: of the weak pixels those that are strong, or that weak ones link to a strong one."""

    def grow(state: tuple[Bool[Array, "h w"], Bool[Array, ""]]) -> tuple[Bool[Array, "h w"], Bool[Array, ""]]:
        lines, _ = state
        grown = weak & jax.lax.reduce_window(lines, False, jnp.logical_or, (3, 3), (1, 1), "SAME")
        return grown, jnp.any(grown != lines)

    return jax.lax.while_loop(lambda state: state[1], grow, (strong, jnp.asarray(True)))[0]


def take(image: Float[Array, "*c h w"], index: np.ndarray, weight: np.ndarray, axis: int) -> Float[Array, "*c h w"]:
    """Every output line a weighted sum of input lines: static `index` and `weight`, both `[lines taps]`."""
    shape = [1] * image.ndim
    shape[axis] = len(index)
    total = 0.0
    for lines, weights in zip(index.T, weight.T, strict=True):
        total = total + jnp.take(image, lines, axis=axis) * jnp.asarray(weights.reshape(shape), image.dtype)
    return stage(jnp.asarray(total))


def linear_zoom(image: Float[Array, "*c h w"], zoom: float) -> Float[Array, "*c h w"]:
    """The image's centre enlarged by `zoom` to the image's size (the published `clipped_zoom`; SciPy's linear zoom).

    The first and last sample of the cut lie on the first and last of the result, which is then trimmed to the size.
    """
    for axis in (-2, -1):
        length = image.shape[axis]
        cut = math.ceil(length / zoom)
        grown = round(cut * zoom)
        position = np.arange(grown) * ((cut - 1) / max(grown - 1, 1))
        trim = (grown - length) // 2
        position = position[trim : trim + length]
        low = np.minimum(np.floor(position + 1e-9).astype(int), max(cut - 2, 0))
        share = position - low
        start = (length - cut) // 2
        high = np.minimum(low + 1, cut - 1)
        image = take(image, start + np.stack([low, high], 1), np.stack([1 - share, share], 1), axis)
    return image


def box_resize(image: Float[Array, "c h w"], size: tuple[int, int]) -> Float[Array, "c s t"]:
    """Pillow's box filter on values 0..255, rounded to whole numbers after each direction, width first."""
    for axis, new in ((-1, size[1]), (-2, size[0])):
        length = image.shape[axis]
        scale = length / new
        support = 0.5 * max(scale, 1.0)
        taps = [[x for x in range(length) if -support < x + 0.5 - (i + 0.5) * scale <= support] for i in range(new)]
        most = max(map(len, taps))
        index = np.array([t + [t[-1]] * (most - len(t)) for t in taps])
        weight = np.array([[1 / len(t)] * len(t) + [0.0] * (most - len(t)) for t in taps])
        image = jnp.floor(take(image, index, weight, axis) + 0.5)
    return image


def sample(
    image: Float[Array, "c h w"], rows: Float[Array, "s t"], columns: Float[Array, "s t"], mode: str
) -> Float[Array, "c s t"]:
    """Bilinear values at real positions. Beyond the border `mode` reflects:

    `"reflect"` without the border pixel (`c b a b c`), `"symmetric"` with it (`b a a b c`), as `jnp.pad` names them.
    """
    height, width = image.shape[1:]
    y0, x0 = jnp.floor(rows), jnp.floor(columns)
    fy, fx = rows - y0, columns - x0

    def at(dy: int, dx: int) -> Float[Array, "c s t"]:
        y = _reflect(y0.astype(jnp.int32) + dy, height, mode)
        x = _reflect(x0.astype(jnp.int32) + dx, width, mode)
        return image.reshape(image.shape[0], -1)[:, y * width + x]

    top = (1 - fx)[None] * at(0, 0) + fx[None] * at(0, 1)
    bottom = (1 - fx)[None] * at(1, 0) + fx[None] * at(1, 1)
    return stage((1 - fy)[None] * top + fy[None] * bottom)


def _reflect(index: Any, length: int, mode: str) -> Any:
    if mode == "symmetric":
        index = index % (2 * length)
        return jnp.minimum(index, 2 * length - 1 - index)
    period = max(2 * (length - 1), 1)
    index = index % period
    return jnp.minimum(index, period - index)


def motion(
    image: Float[Array, "*c h w"], angle: Float[Array, ""], *, radius: int, sigma: float
) -> Float[Array, "*c h w"]:
    """Blur along `angle` (degrees) by half a Gaussian of `2 radius + 1` steps, as ImageMagick's `motion-blur` does.

    A step is rounded to whole pixels; borders are repeated.
    """
    steps = 2 * radius + 1
    weights = np.exp(-0.5 * (np.arange(steps) / sigma) ** 2)
    weights /= weights.sum()
    lead = image.ndim - 2
    padded = stage(jnp.pad(image, [(0, 0)] * lead + [(steps, steps), (steps, steps)], mode="edge"))
    sine, cosine = jnp.sin(jnp.deg2rad(angle)), jnp.cos(jnp.deg2rad(angle))
    # A loop: the offsets are traced, and one program per step would take long to compile.
    along = jnp.stack([sine, cosine])

    def add(total: Float[Array, "*c h w"], step_weight: tuple[Any, Any]) -> tuple[Any, None]:
        step, weight = step_weight
        # The published shift is -ceil(step * direction - 1/2), and shifting by n reads n pixels back.
        offset = jnp.ceil(step * along - 0.5).astype(jnp.int32) + steps
        start = [jnp.int32(0)] * lead + [offset[0], offset[1]]
        return total + weight * jax.lax.dynamic_slice(padded, start, image.shape), None

    steps_weights = (jnp.arange(steps, dtype=jnp.float32), jnp.asarray(weights, jnp.float32))
    return jax.lax.scan(add, jnp.zeros_like(image), steps_weights)[0]
