"""Gaussian blur as two small matrix products."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def gaussian_matrix(size: int, sigma: Float[Array, ""] | float) -> Float[Array, "size size"]:
    """The matrix that blurs a signal of `size` samples with standard deviation `sigma` (samples, above 0).

    The signal is continued by reflection without repeating its ends, as torchvision does, and the kernel is the
    Gaussian itself, cut only at `size - 1` samples (further, reflection would need a second copy of the signal).
    """
    position = jnp.arange(size, dtype=jnp.float32)
    last = size - 1

    def density(distance: Float[Array, "size size"]) -> Float[Array, "size size"]:
        inside = jnp.abs(distance) <= last
        return jnp.where(inside, jnp.exp(-0.5 * jnp.square(distance / sigma)), 0.0)

    target, source = position[:, None], position[None, :]
    weights = (
        density(target - source)
        + jnp.where(source > 0, density(target + source), 0.0)
        + jnp.where(source < last, density(2.0 * last - source - target), 0.0)
    )
    return weights / jnp.sum(weights, axis=1, keepdims=True)


def blur(image: Float[Array, "3 h w"], sigma: Float[Array, ""] | float) -> Float[Array, "3 h w"]:
    """A planar image blurred by a Gaussian of standard deviation `sigma` pixels, reflected at the border.

    A `sigma` of 0 returns the image. MoCo's reference calls Pillow, whose GaussianBlur approximates this kernel by
    three box filters; BYOL's and torchvision's kernel of 23 taps is this one cut at 11 pixels (5.5 sigma and more).
    """
    _, height, width = image.shape
    sigma = jnp.asarray(sigma, jnp.float32)
    safe = jnp.maximum(sigma, 1e-3)  # so narrow that the matrix is the identity, without a division by 0
    precision = jax.lax.Precision.HIGHEST  # accelerators round float32 products to 8 bits otherwise
    rows = jnp.einsum("ij,cjw->ciw", gaussian_matrix(height, safe), image, precision=precision)
    return jnp.einsum("ciw,jw->cij", rows, gaussian_matrix(width, safe), precision=precision)
