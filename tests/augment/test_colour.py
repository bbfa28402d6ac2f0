"""Colour operations against torchvision, Pillow and colorsys."""

import colorsys
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from torchvision_reference import import_torchvision

from ncl_jax.augment import colour

OPERATIONS = [
    ("adjust_brightness", (0.0, 0.6, 1.0, 1.4)),
    ("adjust_contrast", (0.0, 0.6, 1.0, 1.4)),
    ("adjust_saturation", (0.0, 0.6, 1.0, 1.4)),
    ("adjust_hue", (-0.5, -0.1, 0.0, 0.07, 0.5)),
]


def planar(images):
    return jnp.asarray(np.moveaxis(images, -1, 1), jnp.float32) / 255


@pytest.mark.parametrize(("name", "factors"), OPERATIONS)
def test_operation_equals_torchvision(name, factors, images):
    functional = import_torchvision().transforms.functional
    import torch

    x = planar(images)
    for factor in factors:
        got = jax.vmap(lambda image, f=factor: getattr(colour, name)(image, f))(x)
        want = getattr(functional, name)(torch.tensor(np.asarray(x)), factor).numpy()
        np.testing.assert_allclose(got, want, atol=2e-5)


def test_grayscale_and_solarize_equal_torchvision(images):
    functional = import_torchvision().transforms.functional
    import torch

    x = planar(images)
    reference = torch.tensor(np.asarray(x))
    want = functional.rgb_to_grayscale(reference, 3).numpy()
    np.testing.assert_allclose(jax.vmap(colour.grayscale)(x), want, atol=1e-6)
    np.testing.assert_allclose(jax.vmap(colour.solarize)(x), functional.solarize(reference, 0.5).numpy(), atol=1e-7)


def test_hue_equals_colorsys():
    rng = np.random.default_rng(3)
    pixels = np.concatenate([rng.random((60, 3)), rng.choice([0.0, 0.5, 1.0], (60, 3))])
    for shift in (-0.4, 0.0, 0.25):
        want = []
        for pixel in pixels:
            hue, saturation, value = colorsys.rgb_to_hsv(*pixel)
            want.append(colorsys.hsv_to_rgb((hue + shift) % 1.0, saturation, value))
        got = colour.adjust_hue(jnp.asarray(pixels.T[:, :, None], jnp.float32), shift)
        np.testing.assert_allclose(np.asarray(got)[:, :, 0].T, want, atol=1e-5)


def test_hue_is_near_pillow(images):
    """Pillow holds hue, saturation and value in 8 bits each, which alone is worth several grey levels."""
    for image in images:
        hsv = np.array(Image.fromarray(image).convert("HSV"))
        hsv[..., 0] += np.uint8(26)  # wraps around
        want = _from_hsv(hsv)
        got = np.asarray(colour.adjust_hue(planar(image[None])[0], 26 / 255)) * 255
        error = np.abs(np.moveaxis(got, 0, -1) - want)
        assert error.mean() < 2.0
        assert np.quantile(error, 0.99) < 10.0


def _from_hsv(hsv):
    return np.asarray(Image.merge("HSV", [Image.fromarray(hsv[..., c]) for c in range(3)]).convert("RGB"))


def test_jitter_equals_the_operations_in_each_of_the_24_orders(images):
    x = planar(images)[0]
    apply = [getattr(colour, name) for name, _ in OPERATIONS]
    factors = jnp.asarray([1.35, 0.7, 1.4, -0.08])
    orders = list(itertools.permutations(range(4)))
    draws = colour.Jitter(jnp.broadcast_to(factors, (24, 4)), jnp.asarray(orders), jnp.ones(24, bool))
    got = jax.jit(jax.vmap(colour.jitter, in_axes=(None, 0)))(x, draws)
    for order, result in zip(orders, got, strict=True):
        want = x
        for operation in order:
            want = apply[operation](want, factors[operation])
        np.testing.assert_allclose(result, want, atol=2e-5)
    assert len({np.asarray(g).round(4).tobytes() for g in got}) > 12  # the order matters


def test_jitter_that_is_not_active_changes_no_bit(images):
    x = planar(images)[0]
    draw = colour.Jitter(jnp.asarray([1.35, 0.7, 1.4, -0.08]), jnp.arange(4), jnp.asarray(False))
    np.testing.assert_array_equal(colour.jitter(x, draw), x)
    identity = colour.Jitter(jnp.asarray(colour.IDENTITY_FACTORS), jnp.arange(4), jnp.asarray(True))
    np.testing.assert_allclose(colour.jitter(x, identity), x, atol=2e-6)


def test_by_hand():
    image = jnp.asarray([[[1.0, 0.0]], [[0.0, 0.0]], [[0.0, 1.0]]])  # red, blue
    np.testing.assert_allclose(colour.luma(image), [[0.2989, 0.114]], atol=1e-6)
    np.testing.assert_allclose(colour.adjust_contrast(image, 0.0), np.full((3, 1, 2), (0.2989 + 0.114) / 2), atol=1e-6)
    turned = colour.adjust_hue(image, 1 / 3)  # red to green, blue to red
    np.testing.assert_allclose(turned, [[[0.0, 1.0]], [[1.0, 0.0]], [[0.0, 0.0]]], atol=1e-5)
