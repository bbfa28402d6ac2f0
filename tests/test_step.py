"""The step: the same numbers on 1 and on 8 devices, no image on the wire between them, one compilation."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_step import SIDE, TINY, batch, flat, make, settings

from ncl_jax import config as config_lib
from ncl_jax import methods, optim, parallel, state, step
from ncl_jax.errors import UserError
from ncl_jax.step import make_views

pytestmark = pytest.mark.usefixtures("two_stages")


@functools.cache
def _made(**changes):
    return make(1, **changes)


def on_one_device(**changes):
    """`make`, once for all tests; a step takes the buffers of the state that it gets. Colour, most of what is compiled,
    is none of what they ask."""
    run, fresh = _made(**{"augment.jitter_strength": 0.0, **changes})
    return run, jax.tree.map(jnp.copy, fresh)


@pytest.mark.parametrize("groups", [1, 8])
def test_one_device_equals_eight(groups, compilations):
    """Step by step from the same state: a ReLU that rounding turns over in one is magnified by all further ones."""
    (one, current), (eight, fresh) = (make(devices, **{"model.bn_groups": groups}) for devices in (1, 8))
    spread = jax.tree.map(lambda x: x.sharding, fresh)
    for number in range(3):
        wire, moved = batch(number, permuted=groups > 1), jax.device_put(jax.tree.map(jnp.copy, current), spread)
        current, metrics = one(current, wire)
        other, others = eight(moved, wire)
        np.testing.assert_allclose(float(metrics["loss"]), float(others["loss"]), rtol=1e-5)
        for part in ("params", "extra"):
            got, expected = (flat(getattr(each, part)) for each in (other, current))
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=2e-6, err_msg=part)
        if number == 0:
            compiled = len(compilations)
    assert len(compilations) == compiled > 0  # the first call compiles, no later one


def test_a_seeds_fresh_state_is_the_same_on_any_devices():
    """Made on the first device, as on a GPU's host, it must get to devices that are others."""
    config = settings()
    method, optimizer = methods.build(config, 8), optim.optimizer(config, 4)
    expected, moved = (
        state.create(config, method, optimizer, num_classes=10, mesh=parallel.data_mesh(devices))
        for devices in (jax.devices()[:1], jax.devices()[4:])
    )
    assert all(leaf.sharding.device_set == set(jax.devices()[4:]) for leaf in jax.tree.leaves(moved))
    np.testing.assert_array_equal(*(jax.random.key_data(made.key) for made in (moved, expected)))
    for tree in ("params", "extra", "optimizer", "probe"):
        jax.tree.map(np.testing.assert_array_equal, getattr(moved, tree), getattr(expected, tree))


def test_eight_devices_move_no_images():
    run, current = make(8, **{"model.bn_groups": 8})
    program = run.lower(current, batch(0, permuted=True)).compile().as_text()
    collectives = re.findall(r"= (.*?) (all-gather|all-to-all|collective-permute|reduce-scatter)(?:-start)?\(", program)
    moved = [
        int(np.prod([int(n) for n in dims.split(",") if n]))
        for shape, _ in collectives
        for dims in re.findall(r"\[([\d,]*)\]", shape)
    ]
    assert moved, "embeddings of the keys must be gathered for the queue: the pattern above finds nothing"
    # The largest thing gathered is [b, d] (or its like): one image alone has 768 numbers, the batch 12,288.
    assert max(moved) <= 16 * 8 * 4


@pytest.mark.parametrize(
    "method", [{}, {"symmetric": True}, {"name": "byol", "hidden_dim": 16, "embedding_dim": 8}], ids=str
)
def test_key_order_puts_embeddings_back(method):
    """With batch norm over the whole batch, the order in which key views come changes nothing."""
    config = config_lib.parse(TINY | {"method": method if "name" in method else TINY["method"] | method})
    method = methods.build(config, 8)
    params, extra = method.init(jax.random.key(0), np.zeros((2, SIDE, SIDE, 3), np.float32))
    rng = np.random.default_rng(0)
    query, keys = rng.normal(size=(2, 16, SIDE, SIDE, 3)).astype(np.float32)
    order = rng.permutation(16)
    loss = jax.jit(lambda views: method.loss(params, extra, views, jax.random.key(0)))
    results = []
    for chosen in (np.arange(16), order):
        views = {"query": query, "key": keys[chosen], "key_order": chosen.astype(np.int32)}
        results.append(loss(views | {"non_semantic": None, "alpha": np.zeros(0, np.float32)}))
    (one, aux), (two, shuffled) = results
    np.testing.assert_allclose(one, two, rtol=1e-5)
    if "keys" in aux:
        np.testing.assert_allclose(aux["keys"], shuffled["keys"], atol=1e-5)
        assert np.abs(np.asarray(aux["keys"])[0] - np.asarray(aux["keys"])[1]).max() > 1e-3


def test_queue_turns_and_holds_the_newest_keys():
    run, current = on_one_device()
    before = np.asarray(current.extra["queue"])
    for number in range(5):
        old = np.asarray(current.extra["queue"])
        pointer = int(current.extra["pointer"])
        assert pointer == 16 * number % 64
        current, _ = run(current, batch(number))
        new = np.asarray(current.extra["queue"])
        changed = np.flatnonzero((old != new).any(1))
        np.testing.assert_array_equal(changed, np.arange(pointer, pointer + 16))
        np.testing.assert_allclose(np.linalg.norm(new, axis=1), 1, rtol=1e-5)
    assert not np.array_equal(before, new)


def test_target_is_the_moving_average_of_the_online_encoder():
    run, current = on_one_device()
    target, start = flat(current.extra["target"]["params"]), flat(current.params)
    np.testing.assert_array_equal(target, start)
    current, _ = run(current, batch(0))
    expected = 0.9 * target + 0.1 * flat(current.params)
    np.testing.assert_allclose(flat(current.extra["target"]["params"]), expected, atol=1e-6)
    assert np.abs(flat(current.params) - start).max() > 1e-3


def test_without_negatives_it_is_plain_moco():
    run, current = on_one_device(negatives=())
    _, metrics = run(current, batch(0))
    assert "similarity_ns" not in metrics
    assert float(metrics["chance_loss"]) == pytest.approx(np.log(1 + 64))


@pytest.mark.parametrize("changes", [{"method.symmetric": True}, {"method.non_semantic_encoder": "online"}])
def test_options_run_and_change_the_loss(changes):
    base, state_a = on_one_device()
    other, state_b = on_one_device(**changes)
    for number in range(2):
        state_a, one = base(state_a, batch(number))
        state_b, two = other(state_b, batch(number))
        if "method.symmetric" in changes:  # both views' keys go into the queue
            assert int(state_b.extra["pointer"]) == 32 * (number + 1) % 64
    assert np.isfinite(float(two["loss"]))
    assert float(one["loss"]) != float(two["loss"])


def test_alpha_rises_over_its_epochs_and_stays():
    """Over the four steps of a warm-up of one epoch, as the method gets it."""
    config = settings(alpha_warmup_epochs=1.0, **{"negatives.patch.alpha": 3.0, "augment.jitter_strength": 0.0})

    def loss(params, extra, views, key):
        del extra, key
        return jnp.sum(params["backbone"]), {
            "metrics": {"alpha": views["alpha"]},
            "embeddings": params["backbone"][None],
        }

    start = {"backbone": jnp.ones(4)}, {"batch_stats": {"backbone": {}}}
    method = methods.Method(lambda key, images: start, loss, lambda params, extra, aux, step: extra)
    optimizer, mesh = optim.optimizer(config, 4), parallel.data_mesh(jax.devices()[:1])
    fresh = state.create(config, method, optimizer, num_classes=1, mesh=mesh)
    run = jax.jit(step.make_step(config, method, optimizer, steps_per_epoch=4))
    given = [run(dataclasses.replace(fresh, step=np.int32(number)), batch(0))[1]["alpha"] for number in (0, 1, 3, 4, 7)]
    np.testing.assert_allclose(given, np.outer([0, 0.75, 2.25, 3, 3], [1, 1]), rtol=1e-6)  # of two negatives


def test_seams_are_those_of_the_patch_negatives():
    """In the views too, whose seams are to tell nothing; or of a size of their own."""

    def query(**changes):
        config = settings(**{"augment.seam_shift": 1, "augment.jitter_strength": 0.0, **changes})
        return np.asarray(make_views(config, jax.random.key(0), batch(0))["query"])

    small, large = ({"negatives.patch.patch_size": sides} for sides in ((2, 5), (8, 8)))
    assert np.abs(query(**small) - query(**large)).max() > 0.1
    np.testing.assert_array_equal(query(**large), query(**small, **{"augment.seam_patch_size": (8, 8)}))
    np.testing.assert_array_equal(query(**large), query(negatives={}, **{"augment.seam_patch_size": (8, 8)}))


@pytest.mark.parametrize(("classes", "told"), [(1, False), (2, True)])
def test_a_probe_of_one_class_has_no_accuracy(classes, told):
    """Unlabelled images in a folder are of one class."""
    config = settings()
    method, optimizer = methods.build(config, 8), optim.optimizer(config, 4)
    abstract = state.abstract(config, method, optimizer, num_classes=classes)
    _, metrics = jax.eval_shape(step.make_step(config, method, optimizer, steps_per_epoch=4), abstract, batch(0))
    assert ("online_top1" in metrics) is told


@pytest.mark.parametrize(
    ("start", "missing"),
    [
        (({"body": {}}, {"batch_stats": {"backbone": {}}}), "params"),
        (({"backbone": {}}, {}), r"extra\['batch_stats'\]"),
    ],
)
def test_a_method_whose_backbone_is_not_found_is_one_line_before_any_step(start, missing):
    config = settings()
    method = methods.Method(lambda key, images: start, lambda *_: None, lambda *_: None)
    with pytest.raises(UserError, match=rf"init gives no {missing}\['backbone'\], by which a run is evaluated"):
        state.abstract(config, method, optim.optimizer(config, 4), num_classes=10)
