"""The blur against torchvision's kernel of 23 taps, scipy-like sums by hand and Pillow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageFilter
from torchvision_reference import import_torchvision

from ncl_jax.augment import blur


def planar(images):
    return jnp.asarray(np.moveaxis(images, -1, 1), jnp.float32) / 255


@pytest.mark.parametrize("sigma", [0.1, 0.7, 2.0])
def test_equals_torchvision(sigma, images):
    functional = import_torchvision().transforms.functional
    import torch

    x = planar(images)
    got = jax.jit(jax.vmap(blur.blur, in_axes=(0, None)))(x, jnp.float32(sigma))
    want = functional.gaussian_blur(torch.tensor(np.asarray(x)), [23, 23], [sigma, sigma]).numpy()
    np.testing.assert_allclose(got, want, atol=5e-6)


@pytest.mark.parametrize("sigma", [0.8, 1.7])
def test_is_near_pillow_inside(sigma, images):
    """Pillow blurs by three boxes, and repeats the border."""
    inner = slice(8, -8)
    for image in images:
        want = np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(sigma)), np.float32)
        got = np.moveaxis(np.asarray(blur.blur(planar(image[None])[0], sigma)), 0, -1) * 255
        assert np.abs(got - want)[inner, inner].mean() < 6.0  # as much only in white noise


def test_sigma_0_returns_the_image(images):
    x = planar(images)[0]
    np.testing.assert_array_equal(blur.blur(x, 0.0), x)


@pytest.mark.parametrize("side", [2, 5, 9])
def test_images_smaller_than_the_kernel(side):
    """The kernel then ends where the reflection does."""
    sigma, radius = 2.0, side - 1
    x = np.random.default_rng(0).random((3, side, side))
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    weights /= weights.sum()
    want = x
    for axis in (1, 2):
        padded = np.pad(want, [(radius, radius) if a == axis else (0, 0) for a in range(3)], mode="reflect")
        want = np.apply_along_axis(lambda line: np.convolve(line, weights, mode="valid"), axis, padded)
    np.testing.assert_allclose(blur.blur(jnp.asarray(x, jnp.float32), sigma), want, atol=1e-6)


def test_kernel_by_hand():
    kernel = np.asarray(blur.gaussian_kernel(1.0, 1))
    np.testing.assert_allclose(kernel, np.array([1, np.e**0.5, 1]) / (2 + np.e**0.5), rtol=1e-6)
