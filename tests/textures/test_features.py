"""Features against a direct numpy computation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncl_jax.textures import features


def test_basis_distances_are_weighted_window_distances():
    """With all components, the squared distance of responses is the Gaussian-weighted one of the windows."""
    filters = features.basis(75, 1.6)
    one, other = np.random.default_rng(0).random((2, 5, 5, 3))
    y, x = np.mgrid[-2:3, -2:3]
    weight = np.exp(-(y**2 + x**2) / (2 * 1.6**2))
    weight /= weight.sum()
    response = np.einsum("ijc,ijcd->d", one - other, filters)
    np.testing.assert_allclose((response**2).sum(), (weight[..., None] * (one - other) ** 2).sum(), rtol=1e-4)


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

    filters = features.basis(8, 1.6).astype(np.float64)
    expected = sum(
        padded[:, reach + dy * spread + rows][:, :, reach + dx * spread + columns] @ filters[dy + 2, dx + 2]
        for dy in range(-2, 3)
        for dx in range(-2, 3)
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


def test_in_a_loop_it_is_the_same_convolution():
    generator = np.random.default_rng(0)
    cells, filters = generator.random((2, 7, 9, 12), np.float32), generator.random((3, 3, 12, 5), np.float32)
    found = jax.jit(features.convolve_in_loop)(cells, filters)
    np.testing.assert_allclose(found, features.convolve(cells, filters), rtol=1e-5)
