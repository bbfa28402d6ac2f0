"""Features against a direct numpy computation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncl_jax.textures import features, parity


def test_basis_distances_are_weighted_window_distances():
    """With all components, the squared distance of responses is the Gaussian-weighted one of the windows."""
    filters = features.basis(75, 1.6)
    assert [part.shape for part in filters] == [(5, 5, 25)] * 3
    one, other = np.random.default_rng(0).random((2, 5, 5, 3))
    y, x = np.mgrid[-2:3, -2:3]
    weight = np.exp(-(y**2 + x**2) / (2 * 1.6**2))
    weight /= weight.sum()
    response = np.einsum("ijc,cijd->cd", (one - other) @ features.COMPONENTS, filters)
    np.testing.assert_allclose((response**2).sum(), (weight[..., None] * (one - other) ** 2).sum(), rtol=1e-4)


@pytest.mark.parametrize("count", [1, 16, 20, 28])
def test_basis_is_that_of_windows_in_colour(count):
    """The principal components of all 75 numbers of a window: none of them mixes place and colour."""
    y, x = (axis.ravel() for axis in np.mgrid[-2:3, -2:3])
    weight = np.exp(-(y**2 + x**2) / (2 * 1.6**2))
    root = np.sqrt(np.repeat(weight / weight.sum(), 3))
    distance = np.hypot(y[:, None] - y[None], x[:, None] - x[None])
    covariance = root[:, None] * np.kron(0.97**distance, features._COLOUR) * root[None]
    filters = np.zeros((25, 3, count))
    ends = np.cumsum([0, *(part.shape[-1] for part in features.basis(count, 1.6))])
    for component, part in enumerate(features.basis(count, 1.6)):
        columns = np.einsum("tn,c->tcn", part.reshape(25, -1), features.COMPONENTS[:, component])
        filters[..., ends[component] : ends[component + 1]] = columns
    assert ends[-1] == count
    vectors = filters.reshape(75, count) / root[:, None]
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(count), atol=1e-5)
    explained = np.sort(np.einsum("ik,ij,jk->k", vectors, covariance, vectors))[::-1]
    np.testing.assert_allclose(explained, np.linalg.eigvalsh(covariance)[::-1][:count], rtol=1e-3, atol=1e-8)


@pytest.mark.parametrize(("spread", "step", "blur"), [(1, 1, 0.0), (2, 1, 1.2), (4, 2, 2.4), (8, 2, 4.8)])
def test_maps_equal_direct_filtering(spread, step, blur):
    exemplars = np.random.default_rng(0).random((2, 26, 33, 3), dtype=np.float32)
    maps = jax.jit(lambda x: features.exemplar_maps(x, spread=spread, step=step, features=8, sigma=1.6, blur=blur))
    colours, words, scale = maps(exemplars)

    reach = 3 * spread + 20
    padded = np.pad(exemplars.astype(np.float64), ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="reflect")
    if blur:
        offsets = np.arange(-np.ceil(3 * blur), np.ceil(3 * blur) + 1)
        kernel = np.exp(-(offsets**2) / (2 * blur**2))
        for axis in (1, 2):
            padded = np.apply_along_axis(lambda v: np.convolve(v, kernel / kernel.sum(), "same"), axis, padded)
    rows, columns = np.arange(0, 26, step), np.arange(0, 33, step)
    np.testing.assert_allclose(colours, padded[:, reach + rows][:, :, reach + columns], atol=1e-5)

    shifted = {
        (dy + 2, dx + 2): padded[:, reach + dy * spread + rows][:, :, reach + dx * spread + columns]
        for dy in range(-2, 3)
        for dx in range(-2, 3)
    }
    expected = np.concatenate(
        [
            sum(part[..., component, None] * filters[place] for place, part in shifted.items())
            for component, filters in enumerate(features.basis(8, 1.6))
        ],
        axis=-1,
    )
    e, y, x = np.meshgrid(np.arange(2), np.arange(len(rows)), np.arange(len(columns)), indexing="ij")
    index = features.table_index(
        *(jnp.asarray(v) for v in (e, y, x)), sides=(len(rows), len(columns)), rate=spread // step
    )
    table = np.concatenate([np.asarray(part) for part in features.unpack(words.reshape(-1, 2))], axis=-1)
    found = table[np.asarray(index)] * np.asarray(scale)
    assert (np.abs(found - expected) <= 0.5001 * np.asarray(scale)).all()  # rounded to the nearest step
    assert np.abs(expected).max() > 20 * np.asarray(scale).max()


def test_reflection_repeats_no_end():
    np.testing.assert_array_equal(features.reflect(np.arange(-4, 8), 4), [2, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1])


def test_products_are_convolutions():
    generator = np.random.default_rng(0)
    cells = generator.random((3, 2, 7, 9, 4), np.float32)
    filters = [generator.random((3, 3, 4, count), np.float32) for count in (5, 0, 2)]
    for found, component in zip(features.convolve(cells, filters), (0, 2), strict=True):
        wanted = jax.lax.conv_general_dilated(
            cells[component], filters[component], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        assert found.shape == (2, 5, 7, (5, 0, 2)[component])
        np.testing.assert_allclose(found, wanted, rtol=1e-5)


@pytest.mark.parametrize(("a", "b"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_sums_of_planes_are_products_of_windows(a, b):
    cells = np.random.default_rng(0).standard_normal((3, 2, 7, 9, 4), np.float32)
    beside = parity.beside(lambda p, q: jnp.asarray(cells)[..., 2 * p + q], jnp.int32(a), jnp.int32(b))
    responses = features.respond(beside, 24, 1.6)
    assert len(responses) == 24
    parts = features.convolve(cells, [quad[a, b] for quad in features.quad_basis(24, 1.6)])
    wanted = jnp.moveaxis(jnp.concatenate(parts, axis=-1), -1, 0)
    np.testing.assert_allclose(jnp.stack(responses), wanted, atol=1e-6)
