"""Crops: the boxes' distribution and the resize against torchvision and Pillow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from torchvision_reference import import_torchvision

from ncl_jax.augment import crops


@pytest.mark.parametrize("size", [16, 32, (60, 24)])
@pytest.mark.parametrize("box", [(0, 0, 40, 52), (3, 5, 22, 50), (30, 1, 38, 9)])
def test_equals_torchvision_on_whole_pixels(size, box, images):
    functional = import_torchvision().transforms.functional
    import torch

    y0, x0, y1, x1 = box
    height, width = images.shape[1:3]
    boxes = jnp.broadcast_to(jnp.asarray([y0 / height, x0 / width, y1 / height, x1 / width]), (len(images), 4))
    got = crops.crop_resize(images, boxes, size=size)
    tensor = torch.tensor(np.moveaxis(images, -1, 1)).float() / 255
    target = [size, size] if isinstance(size, int) else list(size)
    want = functional.resized_crop(tensor, y0, x0, y1 - y0, x1 - x0, target, antialias=True)
    np.testing.assert_allclose(np.moveaxis(np.asarray(got), -1, 1), want.numpy(), atol=3e-5)


def test_equals_pillow(images):
    height, width = images.shape[1:3]
    whole = jnp.broadcast_to(jnp.asarray([0.0, 0.0, 1.0, 1.0]), (len(images), 4))
    got = np.asarray(crops.crop_resize(images, whole, size=(height // 3, width // 2))) * 255
    for image, result in zip(images, got, strict=True):
        resized = Image.fromarray(image).resize((width // 2, height // 3), Image.Resampling.BILINEAR)
        np.testing.assert_allclose(result, np.asarray(resized), atol=1.01)  # Pillow rounds after both directions


def test_keeps_images_of_the_same_size_and_floats_in_their_range():
    image = jnp.asarray(np.random.default_rng(0).normal(size=(1, 8, 8, 3)) * 50, jnp.float32)
    whole = jnp.asarray([[0.0, 0.0, 1.0, 1.0]])
    np.testing.assert_allclose(crops.crop_resize(image, whole, size=8), image, rtol=1e-5)


def test_reads_nothing_outside_the_box():
    image = np.zeros((1, 16, 16, 3), np.float32)
    image[:, 4:12, 4:12] = 1.0
    box = jnp.asarray([[0.25, 0.25, 0.75, 0.75]])
    for size in (3, 8, 20):
        np.testing.assert_allclose(crops.crop_resize(jnp.asarray(image), box, size=size), 1.0, rtol=1e-5)


def test_box_within_a_pixel_is_finite():
    image = jnp.asarray(np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1))
    tiny = jnp.asarray([[0.30, 0.55, 0.31, 0.56]])  # inside pixel (1, 2)
    np.testing.assert_allclose(crops.crop_resize(image, tiny, size=3), 6.0, rtol=1e-5)


def draw(count=20000, **options):
    return np.asarray(crops.sample_box(jax.random.split(jax.random.key(0), count), **options))


def test_boxes_of_a_square_image_are_those_of_torchvision():
    transforms = import_torchvision().transforms
    import torch

    torch.manual_seed(0)
    canvas = torch.zeros(3, 1000, 1000)
    reference = [transforms.RandomResizedCrop.get_params(canvas, [0.2, 1.0], [3 / 4, 4 / 3]) for _ in range(6000)]
    top, left, height, width = np.asarray(reference, float).T / 1000
    y0, x0, y1, x1 = draw(scale=(0.2, 1.0)).T
    for got, want in ((y0, top), (x0, left), (y1 - y0, height), (x1 - x0, width)):
        quantiles = np.linspace(0.05, 0.95, 10)
        np.testing.assert_allclose(np.quantile(got, quantiles), np.quantile(want, quantiles), atol=0.03)


def test_boxes_of_a_wide_image():
    y0, x0, y1, x1 = draw(scale=(0.1, 0.3), aspect=2.0).T
    area, shape = (y1 - y0) * (x1 - x0), 2.0 * (x1 - x0) / (y1 - y0)
    assert ((y0 >= 0) & (x0 >= 0) & (y1 <= 1) & (x1 <= 1)).all()
    np.testing.assert_allclose([area.min(), area.mean(), area.max()], [0.1, 0.2, 0.3], atol=0.002)
    np.testing.assert_allclose([shape.min(), np.log(shape).mean(), shape.max()], [0.75, 0.0, 4 / 3], atol=0.01)
    corner = y0 / (1 - (y1 - y0))
    np.testing.assert_allclose(np.histogram(corner, 10, (0, 1))[0] / len(corner), 0.1, atol=0.01)


@pytest.mark.parametrize(
    ("aspect", "box"), [(4.0, (0, 1 / 3, 1, 2 / 3)), (0.25, (1 / 3, 0, 2 / 3, 1)), (1.0, (0, 0, 1, 1))]
)
def test_fallback_is_the_largest_central_crop_in_ratio(aspect, box):
    got = draw(3, scale=(1.5, 1.5), aspect=aspect)
    np.testing.assert_allclose(got, np.broadcast_to(box, (3, 4)), atol=1e-6)


def test_keys_of_any_shape():
    keys = jax.random.split(jax.random.key(1), (2, 3))
    boxes = crops.sample_box(keys, scale=(0.2, 1.0))
    assert boxes.shape == (2, 3, 4)
    np.testing.assert_array_equal(boxes[1, 2], crops.sample_box(keys[1, 2], scale=(0.2, 1.0)))
