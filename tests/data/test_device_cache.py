"""The cache's promises: every image once an epoch, the same batches on any number of devices, resumed to the bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncl_jax import parallel
from ncl_jax.augment import crops
from ncl_jax.data import device_cache
from ncl_jax.data.cached_steps import CachedSteps, Loop
from ncl_jax.data.device_cache import Sampler
from ncl_jax.errors import UserError

COUNT, SIDE, BATCH = 37, 12, 8


def meshed(devices):
    return parallel.data_mesh(jax.devices()[:devices])


def pictures():
    return np.random.default_rng(0).integers(0, 256, (COUNT, SIDE, SIDE, 3), np.uint8)


def filled(mesh):
    images = np.concatenate([pictures(), np.zeros((mesh.size, SIDE, SIDE, 3), np.uint8)])
    labels, aspects = np.arange(COUNT, dtype=np.int32) % 5, np.linspace(0.5, 2.0, COUNT, dtype=np.float32)
    return device_cache.place(
        lambda low, high: images[low:high], lambda: (labels, aspects), count=COUNT, side=SIDE, mesh=mesh
    )


def sampler(**changes):
    options = {"count": COUNT, "batch": BATCH, "image_size": 8, "seed": 3, "fields": ("source", "id")}
    return Sampler(**options | changes)


def batches(mesh, drawn, epoch, steps):
    cache = filled(mesh)

    @jax.jit
    def wire(step):
        return drawn.wire(cache, drawn.order(jnp.int32(epoch)), jnp.int32(epoch), step, mesh)

    return [jax.device_get(wire(jnp.int32(step))) for step in range(steps)]


@pytest.mark.parametrize("shuffled", [False, True])
def test_the_same_batches_on_one_device_and_on_eight(shuffled):
    drawn = sampler(shuffle_keys=shuffled, key_blocks=2)
    one, eight = (batches(meshed(devices), drawn, 1, 4) for devices in (1, 8))
    for a, b in zip(one, eight, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            if a[name].dtype == np.float32:  # two programs, which round in different places
                np.testing.assert_allclose(a[name], b[name], rtol=1e-5, atol=1e-5, err_msg=name)
            else:
                np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_an_epoch_shows_every_image_at_most_once_in_a_new_order():
    drawn = sampler()
    epochs = [np.concatenate([batch["id"] for batch in batches(meshed(8), drawn, epoch, 4)]) for epoch in (0, 1)]
    for ids in epochs:
        assert len(set(ids)) == 32
    assert (epochs[0] != epochs[1]).any()
    assert (drawn.order(jnp.int32(0)) != sampler(seed=4).order(jnp.int32(0))).any()


def test_fields_are_of_their_image():
    drawn = sampler(shuffle_keys=True, key_blocks=2)
    for batch in batches(meshed(8), drawn, 0, 2):
        images = jnp.asarray(pictures()[batch["id"]])
        aspects = jnp.linspace(0.5, 2.0, COUNT, dtype=jnp.float32)[batch["id"]]
        query, key = drawn.boxes(jnp.int32(0), jnp.asarray(batch["id"]), aspects)
        np.testing.assert_allclose(batch["box"], query, atol=1e-6)
        np.testing.assert_allclose(batch["query"], crops.crop_resize(images, query, size=8), atol=1e-5)
        keys = np.asarray(crops.crop_resize(images, key, size=8))
        np.testing.assert_allclose(batch["key"], keys[batch["key_order"]], atol=1e-5)
        assert np.abs(keys - batch["query"]).max() > 0.1
        np.testing.assert_array_equal(batch["label"], batch["id"] % 5)
        assert batch["source"].shape == (8, 8, 8, 3)
        # Keys are shuffled within their half.
        np.testing.assert_array_equal(np.sort(batch["key_order"].reshape(2, 4)), [[0, 1, 2, 3], [4, 5, 6, 7]])
        assert (batch["key_order"] != np.arange(8)).any()


def test_crops_of_an_image_change_with_the_seed_and_the_epoch_and_not_with_its_place():
    drawn, ids, aspects = sampler(), jnp.arange(6), jnp.ones(6)
    query, key = drawn.boxes(jnp.int32(0), ids, aspects)
    reverse, _ = drawn.boxes(jnp.int32(0), ids[::-1], aspects)
    np.testing.assert_array_equal(reverse[::-1], query)
    assert (drawn.boxes(jnp.int32(1), ids, aspects)[0] != query).any()
    assert (sampler(seed=4).boxes(jnp.int32(0), ids, aspects)[0] != query).any()
    assert (key != query).any()


def add_up(state, batch):
    """A step whose state depends on every batch and on their order."""
    seen = jnp.sum(batch["query"] * 100) + jnp.sum(batch["key"] * batch["key"]) + jnp.sum(batch["id"])
    return {"sum": state["sum"] * 0.5 + seen, "step": state["step"] + 1}, {"seen": seen, "step": state["step"]}


def fresh(mesh):
    start = {"sum": jnp.zeros(()), "step": jnp.zeros((), jnp.int32)}
    return jax.device_put(start, parallel.replicated(mesh))


@pytest.mark.parametrize("looped", [False, True])
def test_many_steps_a_call_equal_one_a_call_and_resume_to_the_bit(looped):
    mesh, drawn = meshed(8), sampler(shuffle_keys=True)
    cache = filled(mesh)
    loop = Loop(add_up, drawn, mesh, fresh(mesh), cache, looped=looped)

    def steps(position=None):
        return CachedSteps(lambda: loop, cache, drawn, position)

    whole = steps()
    state, means, count = whole.take(fresh(mesh), 100)
    assert count == 4  # the end of the epoch
    assert whole.position == {"epoch": 1, "offset": 0}
    assert float(means["step"]) == 1.5
    state, _, count = whole.take(state, 3)
    assert (count, int(state["step"])) == (3, 7)

    single = steps()
    other = fresh(mesh)
    for _ in range(3):
        other, _, _ = single.take(other, 1)
    resumed = steps(single.position)
    for _ in range(4):
        other, _, count = resumed.take(other, 1)
        assert count == 1
    assert resumed.position == whole.position == {"epoch": 1, "offset": 24}
    np.testing.assert_array_equal(np.asarray(other["sum"]), np.asarray(state["sum"]))


@pytest.mark.parametrize("looped", [False, True])
def test_a_loop_is_compiled_before_there_are_arrays_and_takes_them(looped):
    mesh, drawn = meshed(8), sampler()
    shapes = jax.eval_shape(lambda: fresh(meshed(1)))
    loop = Loop(add_up, drawn, mesh, shapes, device_cache.abstract(COUNT, SIDE, mesh), looped=looped)
    other = Loop(add_up, drawn, mesh, fresh(mesh), filled(mesh), looped=looped)
    results = [jax.device_get(each(fresh(mesh), filled(mesh), 0, 1, 3)) for each in (loop, other)]
    jax.tree.map(np.testing.assert_array_equal, *results)
    with pytest.raises(TypeError):  # compiled for one dataset's shapes
        loop(fresh(mesh), device_cache.abstract(COUNT + 8, SIDE, mesh), 0, 1, 3)


def test_only_the_batch_moves_between_devices():
    mesh = meshed(8)
    cache = filled(mesh)
    program = jax.jit(lambda images, ids: device_cache.fetch(images, ids, mesh))
    text = program.lower(cache.images, jnp.arange(BATCH)).compile().as_text()
    assert "reduce-scatter" in text or "all-reduce" in text
    assert "all-gather" not in text
    ids = np.array([36, 0, 5, 5, 17, 18, 30, 2])
    np.testing.assert_array_equal(program(cache.images, jnp.asarray(ids)), pictures()[ids])


def test_too_large_is_refused_with_the_sizes(monkeypatch):
    mesh = meshed(8)
    with pytest.raises(UserError, match="on each of 8 devices"):
        device_cache.check_fits(10**12, 64, mesh)  # asks the machine
    monkeypatch.setattr(device_cache, "free_bytes", lambda mesh: 2**30)
    device_cache.check_fits(1000, 160, mesh)
    monkeypatch.setattr(device_cache, "free_bytes", lambda mesh: 16 * 10**9)
    with pytest.raises(UserError, match=r"98\.4 GB, 12\.3 GB on each of 8 devices, and of 16 GB"):
        device_cache.check_fits(1_281_167, 160, mesh)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fields": ("texture",)}, "'texture'"),
        ({"batch": 64}, "fewer than one batch"),
        ({"key_blocks": 3}, "key blocks"),
    ],
)
def test_what_it_cannot_do_is_refused(changes, words):
    with pytest.raises(UserError, match=words):
        sampler(**changes)


@pytest.mark.parametrize(
    "position", [{"epoch": -1, "offset": 0}, {"epoch": 0, "offset": 3}, {"epoch": 0, "offset": 40}]
)
def test_a_position_of_another_run_is_refused(position):
    mesh = meshed(1)
    with pytest.raises(UserError, match="position"):
        CachedSteps(lambda: pytest.fail("no step is taken"), filled(mesh), sampler(), position)
