"""Weighted kNN against scikit-learn."""

import jax
import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from ncl_jax import parallel
from ncl_jax.errors import UserError
from ncl_jax.evaluation import knn


def blobs(n, seed):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 7, n)
    centres = np.random.default_rng(99).normal(size=(7, 24))
    return (centres[label] + 1.5 * rng.normal(size=(n, 24))).astype(np.float32), label.astype(np.int32)


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.1), (20, 0.1), (200, 0.02), (200, 5.0)])
def test_equals_sklearn(k, temperature, monkeypatch):
    monkeypatch.setattr(knn, "_SCORES", 500 * 64)  # several chunks, the last one padded
    x, y = blobs(500, 0)
    queries, truth = blobs(301, 1)
    # On unit vectors the Euclidean order is the cosine order, and similarity = 1 - distance² / 2.
    reference = KNeighborsClassifier(
        k, weights=lambda d: np.exp((1 - d**2 / 2) / temperature), algorithm="brute", metric="euclidean"
    )

    def unit(v):
        return v.astype(np.float64) / np.linalg.norm(v, axis=1, keepdims=True)

    reference.fit(unit(x), y)
    got = knn.predict(x, y, queries, num_classes=7, k=k, temperature=temperature)
    np.testing.assert_allclose(got, reference.predict_proba(unit(queries)), atol=2e-4)
    score = knn.accuracy(
        {"features": x, "label": y}, {"features": queries, "label": truth}, num_classes=7, k=k, temperature=temperature
    )
    assert score == pytest.approx(reference.score(unit(queries), truth), abs=1e-9)
    assert 0.5 < score < 1.0


def test_does_not_depend_on_the_cut(monkeypatch):
    x, y = blobs(300, 0)
    queries, _ = blobs(50, 1)
    whole = knn.predict(x, y, queries, num_classes=7, k=30)
    monkeypatch.setattr(knn, "_SCORES", 300 * 7)
    np.testing.assert_allclose(knn.predict(x, y, queries, num_classes=7, k=30), whole, atol=1e-6)
    np.testing.assert_allclose(whole.sum(axis=1), 1.0, rtol=1e-5)


def test_does_not_depend_on_the_devices():
    x, y = blobs(301, 0)
    x[200:] = x[100:201]  # equals, which lie on different devices
    queries, _ = blobs(50, 1)
    one, eight = (
        knn.predict(x, y, queries, num_classes=7, k=60, mesh=parallel.data_mesh(jax.devices()[:count]))
        for count in (1, 8)
    )
    np.testing.assert_allclose(eight, one, atol=1e-6)


def test_images_without_a_label_are_refused():
    x, y = blobs(30, 0)
    test = {"features": x, "label": np.where(np.arange(30) == 3, -1, y)}
    with pytest.raises(UserError, match="labels from -1 to 6: expected 0 to 6; is the dataset labelled"):
        knn.accuracy({"features": x, "label": y}, test, num_classes=7, k=3, temperature=0.1)


def test_small_temperature_does_not_overflow():
    x = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    got = knn.predict(x, np.array([2, 0, 1]), np.array([[1.0, 0.0]]), num_classes=3, k=3, temperature=1e-3)
    assert np.isfinite(got).all()
    assert got[0].argmax() == 2


def test_bad_input():
    x, y = blobs(20, 0)
    with pytest.raises(UserError, match="knn_k = 21: there are only 20 training examples"):
        knn.predict(x, y, x, num_classes=7, k=21)
    with pytest.raises(UserError, match="labels from -1 to"):
        knn.predict(x, np.full(20, -1), x, num_classes=7, k=5)
