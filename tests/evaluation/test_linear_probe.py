"""The linear probes against scikit-learn and against SGD written out in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from ncl_jax.errors import UserError
from ncl_jax.evaluation import linear_probe


def blobs(n, seed, spread=3.0, classes=10, dim=32):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, classes, n)
    centres = np.random.default_rng(99).normal(size=(classes, dim))
    # Columns of very different scale and offset, as the features of a ReLU network have them.
    x = (centres[label] + spread * rng.normal(size=(n, dim))) * np.logspace(-2, 2, dim)[None, :] + 5.0
    return x.astype(np.float32), label.astype(np.int32)


TRAIN, TEST = blobs(1500, 0), blobs(2000, 1)


@pytest.mark.parametrize("penalty", [1e-3, 1e-1])
def test_solution_is_sklearns_for_the_same_penalty(penalty):
    x, y = TRAIN
    mean, scale = x.mean(0), x.std(0)
    reference = LogisticRegression(C=1 / (penalty * len(x)), tol=1e-8, max_iter=5000).fit((x - mean) / scale, y)
    probe = linear_probe.fit(x, y, num_classes=10, penalties=(penalty,))
    want = reference.predict_proba((TEST[0] - mean) / scale)
    np.testing.assert_allclose(probe.predict(TEST[0]), want, atol=2e-3)
    np.testing.assert_allclose(probe.predict(TEST[0]).sum(axis=1), 1.0, rtol=1e-5)
    assert abs(probe.accuracy(*TEST) - reference.score((TEST[0] - mean) / scale, TEST[1])) <= 0.003
    assert 0.5 < probe.accuracy(*TEST) < 0.95


def test_chosen_penalty_reaches_sklearns_default():
    x, y = TRAIN
    mean, scale = x.mean(0), x.std(0)
    reference = LogisticRegression(max_iter=5000).fit((x - mean) / scale, y)
    probe = linear_probe.fit(x, y, num_classes=10)
    assert probe.penalty is not None
    assert probe.accuracy(*TEST) >= reference.score((TEST[0] - mean) / scale, TEST[1]) - 0.003


def test_penalty_is_chosen_on_examples_held_out():
    """A fifth of the labels is wrong: the weakest penalty fits them all, and only held-out examples tell."""
    rng = np.random.default_rng(3)
    y = rng.integers(0, 2, 250).astype(np.int32)
    x = (rng.normal(size=(250, 180)) + 0.2 * (2 * y - 1)[:, None]).astype(np.float32)
    y = np.where(rng.random(250) < 0.2, 1 - y, y).astype(np.int32)
    probe = linear_probe.fit(x, y, num_classes=2, penalties=(1e-6, 3.0))
    weak = linear_probe.fit(x, y, num_classes=2, penalties=(1e-6,))
    assert weak.accuracy(x, y) == 1.0
    assert probe.penalty == 3.0
    again = linear_probe.fit(x, y, num_classes=2, penalties=(1e-6, 3.0))
    np.testing.assert_array_equal(probe.kernel, again.kernel)


@pytest.mark.parametrize(("chunk", "shared"), [(400, 2**28), (401, 0)])
def test_solution_does_not_depend_on_chunks_and_devices(monkeypatch, chunk, shared):
    x, y = TRAIN
    whole = linear_probe.fit(x, y, num_classes=10, penalties=(1e-2,)).predict(TEST[0])
    monkeypatch.setattr(linear_probe, "_CHUNK", chunk)
    monkeypatch.setattr(linear_probe, "_SHARED", shared)
    np.testing.assert_allclose(
        linear_probe.fit(x, y, num_classes=10, penalties=(1e-2,)).predict(TEST[0]), whole, atol=1e-3
    )


def test_a_constant_feature_and_a_class_that_never_comes_do_no_harm():
    x, y = TRAIN
    x = np.concatenate([x, np.full((len(x), 1), 7.0, np.float32)], axis=1)
    probe = linear_probe.fit(x, y, num_classes=12, penalties=(1e-2,))
    assert np.isfinite(probe.kernel).all()
    assert probe.predict(x)[:, 10:].max() < 0.05


def test_bad_labels_are_one_line():
    x, y = TRAIN
    with pytest.raises(UserError, match="all training images have the same label"):
        linear_probe.fit(x, np.zeros_like(y), num_classes=10)
    with pytest.raises(UserError, match="labels from 0 to 9: expected 0 to 4"):
        linear_probe.fit(x, y, num_classes=5)


@pytest.mark.parametrize(("drops", "epochs"), [((1 / 2, 2 / 3, 5 / 6), (3, 4, 5)), ((1 / 3,), (2,))])
def test_augmented_probe_is_the_papers_sgd(drops, epochs):
    """SGD with momentum in float64: rate 10, tenfold lower after 1/2, 2/3 and 5/6 of the epochs, or after others."""
    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (24, 8, 2, 2, 3), np.uint8)
    labels = rng.integers(0, 3, (24, 8))

    def encode(x):
        return jnp.asarray(x, jnp.float32).reshape(len(x), -1) / 2550.0

    batches = ({"query": image, "label": label} for image, label in zip(images, labels, strict=True))
    probe = linear_probe.fit_augmented(
        encode, batches, num_classes=3, epochs=6, steps_per_epoch=4, learning_rate=10.0, drops=drops, seed=1
    )

    start = 0.01 * jax.random.normal(jax.random.key(1), (12, 3))
    kernel, bias = np.asarray(start, np.float64), np.zeros(3)
    velocity = [np.zeros_like(kernel), np.zeros_like(bias)]
    for step in range(24):
        rate = 10.0 * 0.1 ** sum(step // 4 >= epoch for epoch in epochs)
        x = images[step].reshape(8, -1) / 2550.0
        scores = x @ kernel + bias
        p = np.exp(scores - scores.max(1, keepdims=True))
        p = p / p.sum(1, keepdims=True) - np.eye(3)[labels[step]]
        for i, grad in enumerate((x.T @ p / 8, p.mean(0))):
            velocity[i] = 0.9 * velocity[i] + grad
        kernel, bias = kernel - rate * velocity[0], bias - rate * velocity[1]
    np.testing.assert_allclose(probe.kernel, kernel, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(probe.bias, bias, rtol=1e-3, atol=1e-3)
    assert probe.predict(np.zeros((1, 12))).shape == (1, 3)
