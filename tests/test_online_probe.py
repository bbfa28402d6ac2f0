"""The probe that follows pretraining: it learns, and what has no label leaves no trace."""

import jax
import numpy as np

from ncl_jax import online_probe

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 3, 12).astype(np.int32)
FEATURES = (3 * np.eye(3)[LABELS] + RNG.normal(size=(12, 3))).astype(np.float32)


def assert_same(one, two):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), one, two)


def test_it_learns_and_tells_its_accuracy_before_the_step():
    update, probe = jax.jit(online_probe.update), online_probe.init(3, 3)
    probe, first = update(probe, FEATURES, LABELS)
    assert first == np.mean(LABELS == 0)  # zero weights choose the first class
    for _ in range(30):
        probe, top1 = update(probe, FEATURES, LABELS)
    kernel, bias = jax.device_get((probe["params"]["kernel"], probe["params"]["bias"]))
    assert top1 > 0.9
    assert np.mean(np.argmax(FEATURES @ kernel + bias, axis=1) == LABELS) >= top1


def test_images_without_a_label_count_for_nothing():
    probe, _ = online_probe.update(online_probe.init(3, 3), FEATURES, LABELS)
    labels = np.where(np.arange(12) % 3 == 0, -1, LABELS).astype(np.int32)
    known = labels >= 0
    got, top1 = online_probe.update(probe, FEATURES, labels)
    want, among_known = online_probe.update(probe, FEATURES[known], labels[known])
    assert_same(got, want)
    np.testing.assert_allclose(top1, among_known)
    fresh = online_probe.init(3, 3)
    nothing, top1 = online_probe.update(fresh, FEATURES, np.full(12, -1, np.int32))
    assert_same(nothing["params"], fresh["params"])
    assert top1 == 0


def test_no_gradient_reaches_the_features():
    probe, _ = online_probe.update(online_probe.init(3, 3), FEATURES, LABELS)
    gradient = jax.grad(lambda x: online_probe.update(probe, x, LABELS)[0]["params"]["kernel"].sum())(FEATURES)
    np.testing.assert_array_equal(gradient, np.zeros_like(FEATURES))
