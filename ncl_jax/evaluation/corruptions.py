"""The 15 + 4 common corruptions of ImageNet-C, computed: any dataset becomes its own -C set without a download.

Hendrycks & Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations" (2019). All run
jitted and batched on the device, except JPEG, which is Pillow's. Chance depends on (seed, corruption, severity, id)
alone. What differs from the published code: `frost` is procedural (its photographs cannot be shipped), motion is ours
where theirs calls ImageMagick, and results are not stored as JPEG afterwards, as ImageNet-C is (quality 85).
"""

import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, UInt8

from ncl_jax.errors import UserError
from ncl_jax.evaluation import (
    corruption_blur,
    corruption_digital,
    corruption_noise,
    corruption_spatter,
    corruption_weather,
)
from ncl_jax.evaluation.corruption_constants import constants

# (key, image [3 h w] in [0, 1], constants) -> image, of which values outside [0, 1] are cut off.
_OPERATIONS = {
    "gaussian_noise": corruption_noise.gaussian_noise,
    "shot_noise": corruption_noise.shot_noise,
    "impulse_noise": corruption_noise.impulse_noise,
    "defocus_blur": corruption_blur.defocus_blur,
    "glass_blur": corruption_blur.glass_blur,
    "motion_blur": corruption_blur.motion_blur,
    "zoom_blur": corruption_blur.zoom_blur,
    "snow": corruption_weather.snow,
    "frost": corruption_weather.frost,
    "fog": corruption_weather.fog,
    "brightness": corruption_digital.brightness,
    "contrast": corruption_digital.contrast,
    "elastic_transform": corruption_digital.elastic_transform,
    "pixelate": corruption_digital.pixelate,
    "jpeg_compression": None,  # on the host
    "speckle_noise": corruption_noise.speckle_noise,
    "gaussian_blur": corruption_blur.gaussian_blur,
    "spatter": corruption_spatter.spatter,
    "saturate": corruption_digital.saturate,
}
NAMES = tuple(_OPERATIONS)[:15]  # those that ImageNet-C's mean is taken over, in the paper's order
EXTRA_NAMES = tuple(_OPERATIONS)[15:]
# Their constants are numbers that the program takes: one compilation does for all severities.
_ONE_PROGRAM = frozenset(
    ("gaussian_noise", "impulse_noise", "speckle_noise", "frost", "fog", "brightness", "contrast", "saturate")
)
SEVERITIES = (1, 2, 3, 4, 5)


def corrupt(
    images: UInt8[Any, "b h w 3"], ids: Int[Any, " b"], *, name: str, severity: int, seed: int = 0
) -> UInt8[Any, "b h w 3"]:
    """The images with one corruption.

    An image's result depends on its pixels, its id, the severity and the seed, and on no other image of the batch.
    Sides other than 32, 64 and 224 get the constants of the nearest of them by ratio (`corruption_constants`).

    Args:
        images: uint8 RGB, at least 8 pixels a side; arrays of NumPy or of JAX.
        ids: what tells the images of a dataset apart, e.g. their running number; taken modulo 2**32.
        name: one of NAMES or EXTRA_NAMES.
        severity: 1 to 5.
        seed: of the chance.

    Returns:
        uint8 of the same shape: a JAX array, of NumPy for `jpeg_compression`.

    Raises UserError for an unknown name or severity, and images that are not as said.
    """
    if name not in _OPERATIONS:
        raise UserError(f"corruption {name!r}: one of {', '.join(_OPERATIONS)}")
    if severity not in SEVERITIES:
        raise UserError(f"severity {severity!r} of {name}: one of 1, 2, 3, 4, 5")
    shape = np.shape(images)
    if len(shape) != 4 or shape[3] != 3 or min(shape[1:3]) < 8 or images.dtype != np.uint8:
        raise UserError(f"images to corrupt: uint8 [b h w 3] of 8 pixels or more, not {images.dtype} {list(shape)}")
    if np.shape(ids) != shape[:1]:
        raise UserError(f"ids of {shape[0]} images to corrupt: shape {list(np.shape(ids))}; give one per image")
    if name == "jpeg_compression":
        return corruption_digital.jpeg_compression(np.asarray(images), constants(name, severity, min(shape[1:3])))
    chosen = constants(name, severity, min(shape[1:3]))
    key = jax.random.key(zlib.crc32(f"{seed} {name} {severity}".encode()))
    numbers = jnp.asarray(np.asarray(ids).astype(np.int64).astype(np.uint32))
    run = _traced if name in _ONE_PROGRAM else _static
    return run(key, jnp.asarray(images), numbers, chosen, name=name)


def _corrupt(
    base: Key[Array, ""], images: UInt8[Array, "b h w 3"], ids: Int[Array, " b"], chosen: Any, *, name: str
) -> UInt8[Array, "b h w 3"]:
    operation = _OPERATIONS[name]

    def one(image: UInt8[Array, "h w 3"], number: Int[Array, ""]) -> UInt8[Array, "h w 3"]:
        key: Key[Array, ""] = jax.random.fold_in(base, number)
        planar: Float[Array, "3 h w"] = jnp.moveaxis(image, -1, 0).astype(jnp.float32) / 255.0
        result = operation(key, jax.lax.optimization_barrier(planar), chosen)
        # Values are cut down to whole numbers, as published; the hair keeps 254.99999 from becoming 254.
        return jnp.moveaxis(jnp.floor(jnp.clip(result, 0.0, 1.0) * 255.0 + 1e-3).astype(jnp.uint8), 0, -1)

    return jax.vmap(one)(images, ids)


_static = jax.jit(_corrupt, static_argnames=("chosen", "name"))
_traced = jax.jit(_corrupt, static_argnames="name")
