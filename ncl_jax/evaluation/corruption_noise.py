"""Noise of the sensor: every value is hit by itself."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key


def gaussian_noise(key: Key[Array, ""], image: Float[Array, "3 h w"], scale: float) -> Float[Array, "3 h w"]:
    """The image and normal noise of standard deviation `scale`."""
    return image + scale * jax.random.normal(key, image.shape)


def speckle_noise(key: Key[Array, ""], image: Float[Array, "3 h w"], scale: float) -> Float[Array, "3 h w"]:
    """Normal noise that grows with the value."""
    return image + image * scale * jax.random.normal(key, image.shape)


def impulse_noise(key: Key[Array, ""], image: Float[Array, "3 h w"], amount: float) -> Float[Array, "3 h w"]:
    """A share of the values set to 0 or 1, each as often."""
    hit = jax.random.uniform(key, image.shape)
    return jnp.where(hit < amount / 2, 0.0, jnp.where(hit < amount, 1.0, image))


def shot_noise(key: Key[Array, ""], image: Float[Array, "3 h w"], photons: int) -> Float[Array, "3 h w"]:
    """Poisson noise where a white pixel catches `photons` on average.

    Drawn by inversion: 8-bit images have 256 means, whose distribution functions are a small table, and a binary
    search in it takes a tenth of the time of a general Poisson sampler.
    """
    table = jnp.asarray(_poisson_cdf(photons))
    counts = table.shape[1]
    row = jnp.round(image * 255.0).astype(jnp.int32) * counts
    chance = jax.random.uniform(key, image.shape)
    low = jnp.zeros(image.shape, jnp.int32)
    step = 1 << (counts.bit_length() - 1)
    while step:
        probe = low + step
        inside = probe <= counts - 1
        passed = chance >= table.reshape(-1)[row + jnp.minimum(probe, counts - 1) - 1]
        low = jnp.where(inside & passed, probe, low)
        step //= 2
    return low.astype(jnp.float32) / photons


@lru_cache
def _poisson_cdf(photons: int) -> np.ndarray:
    """`[256 counts]`: the probability of at most so many photons, float32, for means `photons * value / 255`."""
    most = int(photons + 8 * photons**0.5 + 16)
    means = photons * np.arange(256) / 255
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, most + 1)))])
    with np.errstate(divide="ignore", invalid="ignore"):
        log_mean = np.log(means)[:, None]
        log_probability = np.where(means[:, None] > 0, np.arange(most + 1) * log_mean - means[:, None], -np.inf)
    log_probability[0, 0] = 0.0
    return np.cumsum(np.exp(log_probability - log_factorial), axis=1).astype(np.float32)
