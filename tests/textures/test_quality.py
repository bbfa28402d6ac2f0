"""Quality measures on textures whose values are known."""

import numpy as np
import pytest

from ncl_jax.textures import quality


def noise(*shape, seed=0):
    return np.random.default_rng(seed).random((*shape, 3), dtype=np.float32)


def test_a_copy_is_near_and_copied_and_one_island():
    exemplars = noise(2, 48, 48)
    y, x = np.mgrid[:48, :48]
    found = quality.measure(exemplars[1], exemplars, np.stack([np.ones_like(y), y, x], -1))
    assert found.nn7 == 0
    assert found.nn7_p95 == 0
    assert found.copy32 == 1
    assert found.island == 48
    assert found.cov7 > 0.1  # the first exemplar is left out
    assert not found.collapsed


def test_windows_find_their_nearest_among_all():
    images, others = noise(1, 12, 12), noise(2, 11, 13, seed=1)
    rng = np.random.default_rng(3)
    found = quality.window_distances(images, others, np.random.default_rng(3), side=5, count=9)
    places = [divmod(n, 8) for n in rng.integers(0, 64, 9)]
    for (row, column), value in zip(places, found, strict=True):
        window = images[0, row : row + 5, column : column + 5]
        best = min(
            np.sqrt(((others[e, y : y + 5, x : x + 5] - window) ** 2).mean())
            for e in range(2)
            for y in range(7)
            for x in range(9)
        )
        np.testing.assert_allclose(value, best, rtol=1e-4)


@pytest.mark.parametrize(("amount", "share"), [(2, 1.0), (5, 0.0)])
@pytest.mark.parametrize("bounds", [1, quality.BOUNDS])  # windows one by one, and all at a time
def test_copies_are_told_by_their_distance(amount, share, bounds, monkeypatch):
    monkeypatch.setattr(quality, "BOUNDS", bounds)
    exemplars = noise(1, 60, 60) * 0.9
    near = exemplars[0, 5:55, 3:53] + np.float32(amount / 255) * np.sign(noise(50, 50, seed=2) - 0.5)
    assert quality.copied_share(near, exemplars) == share


def test_wasserstein_of_a_shift():
    """Colours moved by v: every direction's distance is |<v, direction>|, on average |v| / 2 over the sphere."""
    image = noise(8, 8)
    moved = quality.sliced_wasserstein(image + np.float32(0.2), image[None], np.random.default_rng(0), directions=1000)
    np.testing.assert_allclose(moved, 0.2 * np.sqrt(3) / 2, rtol=0.06)


def test_island_side_weighs_by_area():
    y, x = np.mgrid[:10, :10]
    sources = np.stack([y * 0, y, x], -1)
    sources[:, 4:, 1] += 20  # two pieces: 40 and 60 pixels
    np.testing.assert_allclose(quality.island_side(sources), np.sqrt((40**2 + 60**2) / 100))


def test_plain_areas_where_the_exemplars_have_none_are_a_collapse():
    exemplars = noise(2, 32, 32)
    found = quality.measure(np.full((48, 48, 3), 0.4, np.float32), exemplars)
    assert found.plain == 1
    assert found.collapsed
    assert np.isnan(found.island)


def test_exemplars_smaller_than_a_window_are_measured_by_smaller_ones():
    exemplars = noise(2, 4, 4)
    found = quality.measure(np.tile(exemplars[0], (2, 2, 1)), exemplars)
    assert 0 < found.nn7 < 0.5
    assert found.copy32 == 0


def test_builtin_exemplars_are_fixed_and_textured():
    exemplars = quality.builtin_exemplars(48)
    assert exemplars.shape == (4, 2, 48, 48, 3)
    assert exemplars.dtype == np.float32
    np.testing.assert_array_equal(exemplars, quality.builtin_exemplars(48))
    assert exemplars.min() >= 0
    assert exemplars.max() <= 1
    assert (exemplars.std((2, 3, 4)) > 0.05).all()
    assert (exemplars[:, 0] != exemplars[:, 1]).any((1, 2, 3)).all()


def test_report_and_sheet():
    exemplars = quality.builtin_exemplars(40)[:2]
    y, x = np.mgrid[:40, :40]
    sources = np.broadcast_to(np.stack([y * 0, y, x], -1), (2, 40, 40, 3))
    rows = quality.report(exemplars, exemplars[:, 1], {"copy": lambda e: (e[:, 0], sources)})
    again = quality.report(
        exemplars, None, {"twice": lambda e: (np.tile(e[:, 0], (2, 1, 1, 1)), np.tile(sources, (2, 1, 1, 1)))}
    )
    assert again[0]["nn7"] == 0
    assert again[0]["of"] == 4
    assert [row["textures"] for row in rows] == ["reference", "copy"]
    assert rows[1]["nn7"] == 0
    assert rows[1]["island"] == 40
    sheet = quality.contact_sheet(exemplars, exemplars[:, 1], {"copy": exemplars[:, 0]})
    assert sheet.dtype == np.uint8
    assert sheet.shape[1] == 2 * 44
    np.testing.assert_array_equal(sheet[-44:-4, :40], np.round(exemplars[0, 0] * 255))
