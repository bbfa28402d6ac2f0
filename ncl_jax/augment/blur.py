"""Gaussian blur."""

import math
from functools import reduce

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def gaussian_kernel(sigma: Float[Array, ""] | float, radius: int) -> Float[Array, " taps"]:
    """The `2 radius + 1` weights of a Gaussian of standard deviation `sigma` (samples), of sum 1; 0 gives one tap."""
    sigma = jnp.maximum(
        jnp.asarray(sigma, jnp.float32), 1e-3
    )  # so narrow that it is the identity, without dividing by 0
    weights = jnp.exp(-0.5 * jnp.square(jnp.arange(-radius, radius + 1, dtype=jnp.float32) / sigma))
    return weights / jnp.sum(weights)


def blur(
    image: Float[Array, "3 h w"], sigma: Float[Array, ""] | float, *, max_sigma: float = 2.0
) -> Float[Array, "3 h w"]:
    """A planar image blurred by a Gaussian of standard deviation `sigma` pixels, reflected at the border.

    The reflection does not repeat the border's pixel. A `sigma` of 0 returns the image. The kernel ends at
    `5 max_sigma`, or where the image has no more pixels to reflect. MoCo's reference calls Pillow, whose GaussianBlur
    approximates this kernel by three box filters; BYOL's and torchvision's has 23 taps, which at sigma <= 2 is the
    same to float precision.

    Args:
        sigma: pixels; may differ between the images of a vmap.
        max_sigma: static; the largest sigma that occurs.
    """
    radii = [min(side - 1, math.ceil(5.0 * max_sigma)) for side in image.shape[1:]]
    for axis, radius in zip((1, 2), radii, strict=True):
        # Shifted copies in one fused sum: on a CPU several times faster than a convolution or a banded matrix product.
        # Worked out once: else by every pixel for every shift, and a GPU's compiler takes minutes over that.
        weights = jax.lax.optimization_barrier(gaussian_kernel(sigma, radius))
        padded = jnp.pad(image, [(radius, radius) if a == axis else (0, 0) for a in range(3)], mode="reflect")
        padded = _kept(padded)  # not made again for every shift
        length = image.shape[axis]
        shifted = (jax.lax.slice_in_dim(padded, k, k + length, axis=axis) for k in range(2 * radius + 1))
        image = _kept(reduce(jnp.add, (weight * part for weight, part in zip(weights, shifted, strict=True))))
    return image


def _kept(planes: Float[Array, "3 h w"]) -> Float[Array, "3 h w"]:
    """The planes, computed once; on GPUs also laid out as planes, for their compiler may choose pixels of three, whose
    blur takes four times as long. (CPUs keep them so, and take a third longer at 224 px where they are told to.)"""
    if jax.default_backend() == "gpu":
        return jax.lax.optimization_barrier(planes.reshape(-1)).reshape(planes.shape)
    return jax.lax.optimization_barrier(planes)
