"""What is evaluated: its programs are compiled once, its views belong together, its probe sees what it should."""

import dataclasses
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from ncl_jax import config as config_lib
from ncl_jax import methods, parallel
from ncl_jax.evaluation import linear_probe, protocol, training_views
from ncl_jax.evaluation.sets import feature_statistics, similarity


@pytest.fixture(scope="module")
def encoder(drawn):
    """Of a tiny MoCo with two groups of batch norm, whose keys are therefore shuffled."""
    config = config_lib.parse(
        {
            "batch": 8,
            "data": {"name": f"folder:{drawn}/data", "test_split": "test", "image_size": 32},
            "model": {"name": "resnet10", "width": 0.125, "stem": "medium", "bn_groups": 2},
            "method": {"name": "moco", "queue_size": 16, "hidden_dim": 8, "embedding_dim": 8},
            "evaluation": {
                "knn_k": 5,
                "resize": 32,
                "batch": 16,
                "sets": {"edges": {}, "feature_statistics": {}, "similarity": {"images": 16}},
            },
        }
    )
    return protocol.Encoder(config, parallel.data_mesh(jax.devices()[:2]))


@pytest.fixture(scope="module")
def current(encoder):
    """The state before the first step."""
    init = methods.build(encoder.config, 1).init
    made = jax.jit(init)(jax.random.key(0), np.zeros((8, 32, 32, 3), np.float32))
    params, extra = jax.device_put(made, parallel.replicated(encoder.mesh))
    return SimpleNamespace(params=params, extra=extra, step=0)


@pytest.fixture
def make(encoder, current):
    return lambda: protocol.subject_of(encoder, current)


def test_a_later_evaluation_compiles_nothing(make, compilations):
    first = protocol.evaluate(make())
    assert first["skipped"] == {}
    compiled = len(compilations)
    assert compiled > 0
    assert protocol.evaluate(make()) == first
    assert len(compilations) == compiled


def test_views_of_an_image_meet_again(make, monkeypatch):
    """Keys come shuffled over the groups of batch norm: where each is its query's own view, they must align."""
    view, orders = training_views.make_views, []

    def twins(config, key, batch):
        views = view(config, key, batch)
        return views | {"key": views["query"][views["key_order"]]}

    def recorded(*arguments, **keywords):
        for views in batches(*arguments, **keywords):
            orders.append(np.asarray(views["key_order"]))
            yield views

    batches = training_views.batches
    monkeypatch.setattr(training_views, "make_views", twins)
    monkeypatch.setattr(training_views, "batches", recorded)
    subject = make()
    monkeypatch.setattr(subject.encoder, "_programs", {})
    queries, keys = feature_statistics._views(subject, 16)
    assert len(queries) == 16
    assert all(sorted(order) == [*range(8)] and (order != np.arange(8)).any() for order in orders)
    np.testing.assert_allclose(queries, keys, rtol=1e-5, atol=1e-6)
    assert np.abs(queries - queries[[1, *range(15)]]).max(axis=1).min() > 1e-3  # of other images they do not


@pytest.mark.parametrize("queued", [True, False])
def test_cosines_are_of_the_right_pairs(encoder, queued, monkeypatch):
    config = SimpleNamespace(negatives={"patch": SimpleNamespace(num=2), "quilt": SimpleNamespace(num=1)})
    query = np.eye(4, dtype=np.float32)
    of_kind = np.stack([query, 0 * query, -query], axis=1)
    aux = {"query": query, "positive": 3 * query, "non_semantic": of_kind}
    monkeypatch.setattr(similarity, "_QUEUED", 2)
    queue = np.stack([query[0], query[1], -query[0], query[1]])  # every second one is compared
    got = similarity._cosines(config, aux, queue if queued else None)
    assert [*got] == ["positive", "queue" if queued else "batch", "patch", "quilt"]
    np.testing.assert_array_equal(got["positive"], np.ones(4))
    np.testing.assert_array_equal(got["patch"].reshape(4, 2), [[1, 0]] * 4)
    np.testing.assert_array_equal(got["quilt"], -np.ones(4))
    if queued:
        np.testing.assert_array_equal(got["queue"].reshape(4, 2), [[1, -1], [0, 0], [0, 0], [0, 0]])
    else:
        np.testing.assert_array_equal(got["batch"], np.zeros(12))


def test_the_papers_probe_sees_crops_and_their_mirror_images(make, monkeypatch):
    """As the frozen encoder sees all others: normalised, batch norm in eval mode; and learns from them."""
    fit, seen = linear_probe.fit_augmented, []

    def recorded(encode, batches, **keywords):
        def encoded(images):
            features = encode(images)
            seen.append((np.asarray(images), np.asarray(features)))
            return features

        return fit(encoded, batches, **keywords)

    monkeypatch.setattr(linear_probe, "fit_augmented", recorded)
    subject = make()
    chosen = dataclasses.replace(subject.config.evaluation, probe="augmented", probe_epochs=20, probe_batch=20)
    subject.config = dataclasses.replace(subject.config, evaluation=chosen)
    assert subject.probe.accuracy(subject.train["features"], subject.train["label"]) > 0.4  # chance: a third
    assert 0 <= subject.linear() <= 1
    assert len(seen) == 20 * 3  # epochs of 60 images in batches of 20
    flipped = []
    for images, features in seen[::6]:
        plain, mirrored = (
            np.asarray(subject.encoder.encode(subject.variables, view)) for view in (images, images[:, :, ::-1])
        )
        same, turned = (np.abs(features - view).max(axis=1) < 1e-4 for view in (plain, mirrored))
        assert (same | turned).all()
        flipped.append(np.mean(turned & ~same))
    assert 0.3 < np.mean(flipped) < 0.7
    assert len({images.tobytes() for images, _ in seen}) == len(seen)
