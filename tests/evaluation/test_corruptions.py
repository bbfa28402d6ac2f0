"""Corruptions as a whole: deterministic per image, right in size and kind, and their constants the published ones."""

import ast
import inspect

import jax.numpy as jnp
import numpy as np
import pytest

from ncl_jax.errors import UserError
from ncl_jax.evaluation import corruptions
from ncl_jax.evaluation.corruption_constants import CONSTANTS, constants, nearest_size

ALL = corruptions.NAMES + corruptions.EXTRA_NAMES


def pictures(count=3, side=32):
    """Smooth shapes and a little noise, uint8."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side] / side
    images = []
    for _ in range(count):
        a, b, c = rng.uniform(1, 9, (3, 3))
        image = (
            0.5
            + 0.3 * np.sin(a * x[..., None] * 3 + b * y[..., None] * 2 + c)
            + 0.02 * rng.normal(size=(side, side, 3))
        )
        images.append(image)
    return (np.clip(images, 0, 1) * 255).astype(np.uint8)


def test_names_and_constants_are_complete():
    assert len(corruptions.NAMES) == 15
    assert set(corruptions.EXTRA_NAMES) == {"speckle_noise", "gaussian_blur", "spatter", "saturate"}
    assert set(CONSTANTS) == set(ALL)
    assert all(len(per_size) == 5 for sizes in CONSTANTS.values() for per_size in sizes)
    assert all(len(sizes) == 3 for sizes in CONSTANTS.values())


def test_nearest_size_is_by_ratio():
    assert [nearest_size(s) for s in (8, 32, 45, 46, 64, 96, 119, 120, 128, 224, 600)] == [
        *(32, 32, 32, 64, 64, 64, 64, 224, 224, 224, 224)
    ]
    assert constants("contrast", 2, 32) == 0.5
    assert constants("contrast", 2, 40) == 0.5
    assert constants("gaussian_noise", 5, 64) == 0.18


@pytest.mark.parametrize("name", ALL)
def test_each_image_has_its_own_result_whatever_its_batch(name):
    images = pictures(3)
    ids = np.array([7, 1000003, 2**31 + 5])
    together = np.asarray(corruptions.corrupt(images, ids, name=name, severity=4))
    assert together.shape == images.shape
    assert together.dtype == np.uint8
    reverse = np.asarray(corruptions.corrupt(images[::-1], ids[::-1], name=name, severity=4))
    np.testing.assert_array_equal(reverse[::-1], together)
    alone = np.asarray(corruptions.corrupt(jnp.asarray(images[1:2]), ids[1:2], name=name, severity=4))
    np.testing.assert_array_equal(alone[0], together[1])
    assert 0.5 < np.abs(together.astype(float) - images).mean() < 110
    assert together.std() > 1


RANDOM = ("gaussian_noise", "shot_noise", "glass_blur", "motion_blur", "snow", "frost", "fog", "elastic_transform")


@pytest.mark.parametrize("name", RANDOM)
def test_chance_depends_on_id_seed_and_nothing_else(name):
    same = np.repeat(pictures(1), 2, axis=0)
    result = np.asarray(corruptions.corrupt(same, np.array([1, 2]), name=name, severity=5))
    assert (result[0] != result[1]).any()
    other = np.asarray(corruptions.corrupt(same, np.array([1, 2]), name=name, severity=5, seed=1))
    assert (other != result).any()


@pytest.mark.parametrize("name", ["gaussian_noise", "gaussian_blur", "fog", "contrast", "jpeg_compression", "pixelate"])
def test_severity_grows(name):
    images = pictures(4)
    errors = [
        np.abs(
            np.asarray(corruptions.corrupt(images, np.arange(4), name=name, severity=s)).astype(float) - images
        ).mean()
        for s in corruptions.SEVERITIES
    ]
    assert errors == sorted(errors)


def test_wide_images_and_other_sizes():
    image = np.random.default_rng(0).integers(0, 256, (1, 24, 40, 3)).astype(np.uint8)
    for name in ALL:
        assert corruptions.corrupt(image, np.zeros(1, int), name=name, severity=5).shape == image.shape


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "rain"}, "corruption 'rain': one of gaussian_noise, "),
        ({"severity": 6}, "severity 6 of fog: one of 1, 2, 3, 4, 5"),
        ({"images": np.zeros((2, 32, 32, 3), np.float32)}, r"uint8 \[b h w 3\] .* not float32"),
        ({"images": np.zeros((2, 32, 32, 1), np.uint8)}, r"not uint8 \[2, 32, 32, 1\]"),
        ({"ids": np.arange(3)}, "ids of 2 images to corrupt: shape "),
    ],
)
def test_bad_input_is_one_line(change, message):
    arguments = {"images": pictures(2), "ids": np.arange(2), "name": "fog", "severity": 1} | change
    with pytest.raises(UserError, match=message) as error:
        corruptions.corrupt(arguments.pop("images"), arguments.pop("ids"), **arguments)
    assert "\n" not in str(error.value)


def published_constants(function):
    """What the package's function assigns to `c`, before it picks the severity."""
    for node in ast.walk(ast.parse(inspect.getsource(function))):
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "c":
            return eval(ast.unparse(node.value.value), {"np": np})  # pyright: ignore[reportAttributeAccessIssue]
    raise AssertionError(function)


@pytest.mark.parametrize("name", [n for n in ALL if n != "elastic_transform"])  # the package has other ones there
def test_constants_of_224_pixels_equal_the_package(name):
    package = pytest.importorskip("imagecorruptions.corruptions")
    want = published_constants(getattr(package, name))
    got = CONSTANTS[name][2]
    if name == "zoom_blur":
        got = [np.arange(1, *c) for c in got]
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)
