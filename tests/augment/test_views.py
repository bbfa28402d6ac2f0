"""The recipes: what they hold, how often what happens, and that equal keys give equal changes."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncl_jax.augment import augment, blur, colour, denormalize, normalize, recipe, views
from ncl_jax.config import Augment
from ncl_jax.errors import UserError

NOTHING = views.Recipe(
    flip_probability=0.0, jitter_probability=0.0, gray_probability=0.0, blur_probability=0.0, solarize_probability=0.0
)


def keys(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


def noise(count=4, side=16):
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3)).astype(np.uint8)


def test_recipes():
    v1, v2 = recipe(Augment(recipe="moco_v1")), recipe(Augment(recipe="moco_v2"))
    assert v1.gray_first
    assert (v1.jitter, v1.jitter_probability, v1.blur_probability) == ((0.4, 0.4, 0.4, 0.4), 1.0, 0.0)
    assert (v2.jitter, v2.jitter_probability, v2.blur_probability) == ((0.4, 0.4, 0.4, 0.1), 0.8, 0.5)
    assert (v2.crop_scale, v2.gray_probability, v2.gray_first, v2.blur_sigma) == ((0.2, 1.0), 0.2, False, (0.1, 2.0))
    assert v2 == recipe(Augment(recipe="moco_v2"), view="key")
    query, key = (recipe(Augment(recipe="byol"), view=view) for view in ("query", "key"))
    assert query.jitter == key.jitter == (0.4, 0.4, 0.2, 0.1)
    assert (query.blur_probability, query.solarize_probability) == (1.0, 0.0)
    assert (key.blur_probability, key.solarize_probability) == (0.1, 0.2)


def test_config_changes_a_recipe():
    changed = recipe(Augment(crop_scale=(0.5, 0.9), jitter_strength=6.0, blur_probability=0.25))
    assert (changed.crop_scale, changed.blur_probability) == ((0.5, 0.9), 0.25)
    np.testing.assert_allclose(changed.jitter, (2.4, 2.4, 2.4, 0.5))
    assert recipe(Augment(jitter_strength=0.0)).jitter_probability == 0.0


def test_unknown_names_are_one_line():
    with pytest.raises(UserError, match=r"config.augment.recipe = 'simclr': one of moco_v1, moco_v2, byol"):
        recipe(Augment(recipe="simclr"))
    with pytest.raises(UserError, match=r"view = 'left': one of query, key"):
        recipe(Augment(), view="left")


def test_nothing_is_normalize():
    x = noise()
    want = (x / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    np.testing.assert_allclose(augment(keys(4), x, NOTHING), want, atol=2e-6)
    np.testing.assert_allclose(normalize(x), want, atol=2e-6)
    np.testing.assert_allclose(denormalize(normalize(x)), x / 255, atol=1e-6)
    np.testing.assert_allclose(normalize(x[0]), normalize(x)[0], atol=0)


@pytest.mark.parametrize("name", ["moco_v1", "moco_v2", "byol"])
@pytest.mark.parametrize("view", ["query", "key"])
def test_equals_the_operations_one_by_one(name, view):
    """The draws, applied by hand in the order that the recipe states."""
    chosen = recipe(Augment(recipe=name), view=view)
    x, k = noise(12), keys(12, seed=5)
    got = jax.jit(partial(augment, recipe=chosen))(k, x)
    draws = jax.vmap(lambda key: views.draw(key, chosen))(k)
    blurred = jax.jit(blur.blur)
    operations = (colour.adjust_brightness, colour.adjust_contrast, colour.adjust_saturation, colour.adjust_hue)
    for index in range(len(x)):
        one = jax.tree.map(lambda leaf, i=index: leaf[i], draws)
        image = jnp.asarray(np.moveaxis(x[index], -1, 0) / 255, jnp.float32)
        image = image[:, :, ::-1] if one.flip else image
        if chosen.gray_first and one.gray:
            image = colour.grayscale(image)
        if one.jitter.active:
            for place in np.asarray(one.jitter.order):
                image = operations[place](image, one.jitter.factors[place])
        if not chosen.gray_first and one.gray:
            image = colour.grayscale(image)
        image = blurred(image, one.sigma)
        if one.solarize:
            image = colour.solarize(image)
        # Solarising is a jump of up to 1 in the last bit's reach: such pixels may differ.
        error = np.abs(np.asarray(got[index]) - np.asarray(normalize(jnp.moveaxis(image, 0, -1))))
        assert np.quantile(error, 0.99) < 1e-4


def test_frequencies_and_ranges():
    chosen = views.Recipe(blur_probability=0.3, solarize_probability=0.1)
    draws = jax.jit(jax.vmap(lambda key: views.draw(key, chosen)))(keys(20000))
    sigma = np.asarray(draws.sigma)
    frequencies = [draws.flip, draws.jitter.active, draws.gray, sigma > 0, draws.solarize]
    np.testing.assert_allclose([np.mean(f) for f in frequencies], [0.5, 0.8, 0.2, 0.3, 0.1], atol=0.012)
    sigma = sigma[sigma > 0]
    np.testing.assert_allclose([sigma.min(), sigma.mean(), sigma.max()], [0.1, 1.05, 2.0], atol=0.02)
    factors = np.asarray(draws.jitter.factors)
    np.testing.assert_allclose(factors.min(0), [0.6, 0.6, 0.6, -0.1], atol=1e-3)
    np.testing.assert_allclose(factors.max(0), [1.4, 1.4, 1.4, 0.1], atol=1e-3)
    np.testing.assert_allclose(factors.mean(0), [1.0, 1.0, 1.0, 0.0], atol=0.01)
    _, counts = np.unique(np.asarray(draws.jitter.order), axis=0, return_counts=True)
    assert len(counts) == 24  # all orders
    np.testing.assert_allclose(counts / 20000, 1 / 24, atol=0.006)
    together = np.corrcoef(np.stack([np.asarray(f, float) for f in frequencies[:3]]))
    np.testing.assert_allclose(together, np.eye(3), atol=0.03)  # independent of each other


def test_strong_jitter_has_no_negative_factor():
    draws = jax.vmap(lambda key: views.draw(key, views.Recipe(jitter=(2.0, 2.0, 2.0, 0.5))))(keys(500))
    low, high = np.min(draws.jitter.factors[:, :3]), np.max(draws.jitter.factors[:, :3])
    assert 0.0 <= low < 0.05
    assert 2.9 < high <= 3.0


def test_equal_keys_equal_changes_also_across_recipes():
    image = noise(1)
    twice = np.repeat(image, 6, axis=0)
    jitted = jax.jit(partial(augment, recipe=views.Recipe()))
    same = jitted(jnp.repeat(keys(1), 6), twice)
    np.testing.assert_array_equal(same, np.broadcast_to(same[:1], same.shape))
    other = jitted(keys(6), twice)
    assert len({np.asarray(o).tobytes() for o in other}) == 6
    query, key = (recipe(Augment(recipe="byol"), view=view) for view in ("query", "key"))
    a, b = (jax.vmap(lambda k, r=r: views.draw(k, r))(keys(50)) for r in (query, key))
    jax.tree.map(np.testing.assert_array_equal, (a.flip, a.jitter, a.gray), (b.flip, b.jitter, b.gray))


def test_jit_batch_and_float_give_the_same():
    x, k = noise(5, side=8), keys(5)
    plain = augment(k, x, views.Recipe())
    jitted = jax.jit(partial(augment, recipe=views.Recipe()))
    np.testing.assert_allclose(jitted(k, x), plain, atol=2e-5)
    np.testing.assert_allclose(jitted(k, x.astype(np.float32) / 255), plain, atol=2e-5)
    one = jitted(k[3:4], x[3:4])[0]
    np.testing.assert_allclose(one, plain[3], atol=2e-5)
    assert plain.dtype == jnp.float32


def test_flip_mirrors_columns():
    x = noise(1)
    always = dataclasses.replace(NOTHING, flip_probability=1.0)
    np.testing.assert_allclose(augment(keys(1), x, always), normalize(x[:, :, ::-1]), atol=2e-6)


def test_a_gpus_way_gives_the_same_views(monkeypatch):
    """Colours without stops between them, blurs of planes in one piece: on CPU, in place of the way that CPUs take."""
    images = jax.random.randint(jax.random.key(0), (8, 16, 20, 3), 0, 256, jnp.uint8)
    keys = jax.random.split(jax.random.key(1), 8)

    def run():
        return jax.jit(lambda keys, images: augment(keys, images, recipe(Augment())))(keys, images)

    usual = run()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    np.testing.assert_allclose(run(), usual, atol=1e-5)
