"""The corruptions' pixels against the published implementation (`imagecorruptions`), OpenCV, SciPy and loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage, stats

from ncl_jax.evaluation import (
    corruption_blur,
    corruption_digital,
    corruption_filters,
    corruption_noise,
    corruption_spatter,
    corruption_weather,
    corruptions,
)

KEY = jax.random.key(0)


def picture(side=224, seed=0):
    """A picture with edges, gradients, texture, greys and black, uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side
    image = np.stack([x, y, 0.5 + 0.5 * np.sin(20 * x * y)], -1)
    image[(x - 0.5) ** 2 + (y - 0.4) ** 2 < 0.06] = [0.9, 0.2, 0.1]
    image[: side // 8] = np.linspace(0, 1, side)[None, :, None]
    image[side // 2 :, : side // 3] += 0.2 * rng.normal(size=(side - side // 2, side // 3, 1))
    image[-side // 8 :, -side // 8 :] = 0.0
    return (np.clip(image, 0, 1) * 255).astype(np.uint8)


def corrupted(image, name, severity, number=0):
    result = corruptions.corrupt(image[None], np.array([number]), name=name, severity=severity)
    return np.asarray(result)[0].astype(float)


def published(image, name, severity):
    package = pytest.importorskip("imagecorruptions.corruptions")
    result = getattr(package, name)(Image.fromarray(image), severity)
    # With our hair, before they are cut down: on flat parts sums end 1e-7 below a whole number, or not, by processor.
    return np.uint8(np.asarray(result) + 1e-3).astype(float)


@pytest.mark.parametrize("severity", [1, 3, 5])
@pytest.mark.parametrize(
    ("name", "worst"),
    [
        ("contrast", 1),
        ("brightness", 1),
        ("saturate", 1),
        ("jpeg_compression", 0),
        ("gaussian_blur", 1),
        ("defocus_blur", 1),
        ("pixelate", 0),
    ],
)
def test_equals_the_package(name, worst, severity):
    image = picture()
    error = np.abs(corrupted(image, name, severity) - published(image, name, severity))
    assert error.max() <= worst
    assert error.mean() < 0.02


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_zoom_blur_is_near_the_package(severity):
    """The package does not trim enlarged images to their centre, as the published code does: half a pixel off."""
    image = picture()
    error = np.abs(corrupted(image, "zoom_blur", severity) - published(image, "zoom_blur", severity))
    assert error.mean() < 1.5


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [("gaussian_noise", 0.01), ("shot_noise", 0.01), ("impulse_noise", 0.015), ("speckle_noise", 0.01)],
)
@pytest.mark.parametrize("severity", [1, 5])
def test_noise_has_the_packages_moments(name, tolerance, severity):
    image = picture()
    got, want = corrupted(image, name, severity) / 255, published(image, name, severity) / 255
    dark, light = image < 80, image > 170
    for part in (dark, light):
        np.testing.assert_allclose(got[part].mean(), want[part].mean(), atol=tolerance)
        np.testing.assert_allclose((got - image / 255)[part].std(), (want - image / 255)[part].std(), atol=tolerance)


@pytest.mark.parametrize(("name", "mean", "spread"), [("snow", 6, 6), ("fog", 12, 10), ("spatter", 4, 4),
                                                      ("glass_blur", 0.5, 0.5), ("motion_blur", 0.5, 1)])  # fmt: skip
@pytest.mark.parametrize("severity", [1, 3, 5])
def test_random_images_have_the_packages_statistics(name, mean, spread, severity):
    image = picture()
    np.random.seed(severity)  # which the package draws by; without one in some hundred runs missed the bound
    got = np.stack([corrupted(image, name, severity, number) for number in range(12)])
    want = np.stack([published(image, name, severity) for _ in range(12)])
    assert abs(got.mean() - want.mean()) < mean
    assert abs(got.std((1, 2)).mean() - want.std((1, 2)).mean()) < spread
    change = [np.abs(np.diff(images, axis=2)).mean() for images in (got, want)]  # how rough
    np.testing.assert_allclose(*change, rtol=0.15, atol=0.3)


@pytest.mark.parametrize("photons", [3, 60, 500])
def test_shot_noise_is_poisson(photons):
    image = jnp.full((3, 200, 200), 180 / 255)
    counts = np.round(np.asarray(corruption_noise.shot_noise(KEY, image, photons)) * photons).astype(int).ravel()
    law = stats.poisson(photons * 180 / 255)
    inner = np.arange(law.ppf(0.001), law.ppf(0.999) + 1)
    observed = np.array([(counts == k).sum() for k in inner])
    expected = law.pmf(inner) * counts.size
    many = expected > 20
    assert stats.chisquare(observed[many], expected[many] * observed[many].sum() / expected[many].sum()).pvalue > 1e-3


@pytest.mark.parametrize("reach", [1, 2, 4])
def test_glass_copies_as_the_published_loop_does(reach):
    height, width = 20, 24
    move = np.random.default_rng(reach).integers(-reach, reach, (2, height, width))
    want = np.arange(height * width).reshape(height, width)
    for y in range(height - reach, reach, -1):
        for x in range(width - reach, reach, -1):
            want[y, x] = want[y + move[0, y, x], x + move[1, y, x]]
    np.testing.assert_array_equal(corruption_blur.copied_from(jnp.asarray(move), reach), want)


@pytest.mark.parametrize("angle", [-45.0, -20.0, 0.0, 33.0, 45.0, -90.0, -135.0])
def test_motion_equals_the_package(angle):
    package = pytest.importorskip("imagecorruptions.corruptions")
    image = picture(64).astype(np.float32)
    got = corruption_filters.motion(jnp.asarray(np.moveaxis(image, -1, 0)), jnp.float32(angle), radius=12, sigma=5)
    want = package._motion_blur(image, radius=12, sigma=5, angle=angle)
    error = np.abs(np.moveaxis(np.asarray(got), 0, -1) - want)
    assert np.mean(error) < 0.35  # where an offset lies on a half, rounding may take the other pixel


def test_motion_by_hand():
    """A point leaves a trail of half a Gaussian."""
    image = np.zeros((1, 9, 15), np.float32)
    image[0, 4, 10] = 1.0
    got = np.asarray(corruption_filters.motion(jnp.asarray(image), jnp.float32(0.0), radius=2, sigma=1.0))
    weights = np.exp(-0.5 * np.arange(5) ** 2)
    want = np.zeros_like(image)
    want[0, 4, 6:11] = (weights / weights.sum())[::-1]
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_linear_zoom_equals_scipy():
    image = np.random.default_rng(0).random((3, 40, 40)).astype(np.float32)
    for zoom in (1.0, 1.03, 1.75, 2.25, 4.0):
        cut = int(np.ceil(40 / zoom))
        start = (40 - cut) // 2
        inner = image[:, start : start + cut, start : start + cut]
        large = ndimage.zoom(inner, (1, zoom, zoom), order=1)
        trim = (large.shape[1] - 40) // 2
        want = large[:, trim : trim + 40, trim : trim + 40]
        np.testing.assert_allclose(corruption_filters.linear_zoom(jnp.asarray(image), zoom), want, atol=1e-5)


@pytest.mark.parametrize(("mode", "name"), [("reflect", "mirror"), ("symmetric", "reflect")])
def test_sample_equals_scipy(mode, name):
    rng = np.random.default_rng(0)
    image = rng.random((2, 12, 17)).astype(np.float32)
    rows, columns = rng.uniform(-15, 25, (2, 9, 9)).astype(np.float32)
    got = corruption_filters.sample(jnp.asarray(image), jnp.asarray(rows), jnp.asarray(columns), mode)
    want = [ndimage.map_coordinates(plane, (rows, columns), order=1, mode=name) for plane in image]
    np.testing.assert_allclose(got, want, atol=1e-5)


@pytest.mark.parametrize("sigma", [1.5, 8.0, 30.0])
def test_smoothing_equals_scipy(sigma):
    noise = np.random.default_rng(0).normal(size=(20, 3))
    want = ndimage.gaussian_filter1d(noise, sigma, axis=0, mode="reflect", truncate=3)
    np.testing.assert_allclose(corruption_digital._smoothing(20, sigma) @ noise, want, atol=1e-10)


def test_elastic_affine_takes_corners_to_corners():
    source = jnp.asarray([[20.0, 21.0], [19.0, 2.0], [1.0, 3.0]])
    target = np.array([[18, 18], [18, 4], [4, 4]], np.float32)
    x, y = corruption_digital._affine(source, target, source[:, 0], source[:, 1])
    np.testing.assert_allclose(np.stack([x, y], 1), target, atol=1e-5)


def test_elastic_without_amplitudes_returns_the_image():
    image = jnp.asarray(np.random.default_rng(0).random((3, 16, 16)), jnp.float32)
    got = corruption_digital.elastic_transform(KEY, image, (0.0, 0.0, 0.0))
    np.testing.assert_allclose(got, image, atol=1e-5)


def test_pixelate_equals_pillow():
    for side, share in ((32, 0.95), (64, 0.7), (224, 0.3)):
        image = picture(side)
        small = Image.fromarray(image).resize((int(side * share),) * 2, Image.Resampling.BOX)
        want = np.asarray(small.resize((side, side), Image.Resampling.BOX))
        got = corruption_digital.pixelate(KEY, jnp.asarray(np.moveaxis(image, -1, 0) / 255, jnp.float32), share)
        np.testing.assert_allclose(np.moveaxis(np.asarray(got), 0, -1) * 255, want, atol=0.01)


def liquid(seed, sigma=3.0):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(0.65, 0.3, (96, 96)), sigma, mode="nearest")
    return np.where(noise < 0.68, 0, np.clip(noise, 0, 1) * 255).astype(np.uint8)


@pytest.mark.parametrize("seed", [0, 1])
def test_spatter_uses_opencvs_operations(seed):
    cv2 = pytest.importorskip("cv2")
    image = liquid(seed)
    rim = cv2.Canny(image, 50, 150)
    got = np.asarray(corruption_spatter.edges(jnp.asarray(image, jnp.float32)))
    assert ((rim > 0) != got).mean() < 0.002
    distance = np.minimum(cv2.distanceTransform(255 - rim, cv2.DIST_L2, 5), 20)
    mine = np.minimum(corruption_spatter.rim_distance(jnp.asarray(rim > 0)), 20)
    np.testing.assert_allclose(mine, distance, atol=2e-3)
    level = distance.astype(np.uint8)
    want = cv2.equalizeHist(level)
    assert np.abs(np.asarray(corruption_spatter.equalize(jnp.asarray(level, jnp.float32))) - want).max() <= 1


def test_equalize_by_hand():
    level = jnp.asarray([[3.0, 3.0, 7.0, 9.0]])
    np.testing.assert_array_equal(corruption_spatter.equalize(level), [[0, 0, 128, 255]])
    np.testing.assert_array_equal(corruption_spatter.equalize(level[:, :2]), [[3, 3]])


def test_rim_distance_by_hand():
    rim = jnp.zeros((5, 6), bool).at[0, 0].set(True)
    got = np.asarray(corruption_spatter.rim_distance(rim))
    np.testing.assert_allclose(got[0, :4], [0, 1, 2, 3])
    np.testing.assert_allclose([got[1, 1], got[1, 2], got[4, 2], got[4, 5]], [1.4, 2.1969, 4.3938, 6.3969], atol=1e-4)


def test_plasma_spans_0_to_1_and_is_smoother_for_a_greater_decay():
    maps = [np.asarray(corruption_weather.plasma(KEY, 64, decay)) for decay in (1.4, 3.0)]
    for values in maps:
        assert values.shape == (64, 64)
        assert (values.min(), values.max()) == (0.0, 1.0)
    rough, smooth = (np.abs(np.diff(values, axis=0)).mean() for values in maps)
    assert rough > 2 * smooth


@pytest.mark.parametrize("side", [32, 64, 224])
def test_ice_has_the_photographs_colours_and_spectrum(side):
    window = np.outer(np.hanning(side), np.hanning(side))
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side) * side, np.fft.fftfreq(side) * side))
    bands = [(frequency >= k) & (frequency < 1.5 * k) for k in (3, 5, 8, 12)]
    many = jax.jit(jax.vmap(lambda key, which: corruption_weather.ice(key, which, side, side), in_axes=(0, None)))
    for photograph in (0, 3, 4):
        mean, deviation, slopes = corruption_weather.FROST[photograph]
        planes = np.asarray(many(jax.random.split(KEY, 12), photograph))
        assert planes.min() >= 0
        assert planes.max() <= 1
        np.testing.assert_allclose(planes.mean((0, 2, 3)), np.array(mean) / 255, atol=0.05)
        assert 0.01 < planes.mean((1, 2, 3)).std() < 0.08  # crops of one photograph differ
        np.testing.assert_allclose(planes.std((2, 3)).mean(0), np.array(deviation) / 255, rtol=0.12)
        grey = planes.mean(1)
        power = np.mean([np.abs(np.fft.fft2((p - p.mean()) * window)) ** 2 for p in grey], axis=0)
        slope = np.polyfit(np.log([3, 5, 8, 12]), np.log([power[band].mean() for band in bands]), 1)[0]
        assert abs(slope - slopes[(32, 64, 224).index(side)]) < 0.5
