"""Texture negatives: the image's own patches, and exactly the query's crop and augmentation."""

import jax
import jax.numpy as jnp
import numpy as np

from ncl_jax.augment import crops
from ncl_jax.augment import views as augment_views
from ncl_jax.negatives import texture, texture_dataset
from ncl_jax.textures import levels

SIDE = 32
RECIPE = augment_views.Recipe()


@jax.jit
def seen(source, box, keys):
    """How a query is made of the undistorted image."""
    return augment_views.augment(keys, crops.crop_resize(source, box, size=SIDE), RECIPE)


def generate(kind, key, views, settings):
    return np.asarray(jax.jit(lambda k, v: kind.generate(k, v, settings, RECIPE))(jax.random.key(key), views))


def views(batch=4, extra=None):
    source = np.random.default_rng(0).integers(0, 256, (batch, SIDE, SIDE, 3), np.uint8)
    box = crops.sample_box(jax.random.split(jax.random.key(5), batch), scale=(0.2, 1.0))
    keys = jax.random.split(jax.random.key(6), batch)
    query = seen(source, box, keys)
    return {"query": query, "box": box, "query_keys": keys, "source": source} | (extra or {})


def test_an_image_that_is_its_own_texture_gives_the_query():
    """Exactly the query's crop, flip, colour and blur, for each of several textures."""
    given = views()
    given["texture"] = np.stack([given["source"], 255 - given["source"]], axis=1)
    made = generate(texture_dataset, 0, given, texture_dataset.Settings(num=2))
    assert made.shape == (4, 2, SIDE, SIDE, 3)
    np.testing.assert_allclose(made[:, 0], given["query"], atol=1e-5)  # (another batch size, other roundings)
    assert np.abs(made[:, 1] - made[:, 0]).mean() > 0.1
    first = generate(texture_dataset, 0, given, texture_dataset.Settings())
    np.testing.assert_array_equal(first[:, 0], given["query"])


def test_on_the_fly_shares_the_querys_augmentation():
    """Of one plain colour, every texture is the image, so its negative is the query."""
    given = views()
    given["source"] = np.broadcast_to(given["source"][:, :1, :1], (4, SIDE, SIDE, 3))
    query = seen(given["source"], given["box"], given["query_keys"])
    made = generate(texture, 0, given, texture.Settings(num=2, quality="draft"))
    assert made.shape == (4, 2, SIDE, SIDE, 3)
    for number in range(2):
        np.testing.assert_allclose(made[:, number], query, atol=1e-4)


def test_negatives_of_one_image_differ_and_depend_on_key_and_place_alone():
    given, settings = views(), texture.Settings(num=2, quality="draft")
    made = generate(texture, 0, given, settings)
    again = generate(texture, 0, given, settings)
    other = generate(texture, 1, given, settings)
    np.testing.assert_array_equal(made, again)
    assert (made[:, 0] != made[:, 1]).mean() > 0.5
    assert (made != other).mean() > 0.5


def test_exemplars_are_patches_the_first_one_central():
    rows, columns = np.mgrid[:20, :30]
    image = np.stack([rows, columns, rows * 0], -1)[None].astype(np.float32)
    keys = jax.random.split(jax.random.key(0), 64)
    cut = np.asarray(texture.cut_exemplars(keys, jnp.asarray(image.repeat(64, 0)), count=3, side=8))
    assert cut.shape == (64, 3, 8, 8, 3)
    np.testing.assert_array_equal(cut - cut[:, :, :1, :1], np.broadcast_to(image[0, :8, :8], cut.shape))
    np.testing.assert_array_equal(cut[:, 0, 0, 0, :2], np.broadcast_to([6, 11], (64, 2)))
    corners = cut[:, 1:, 0, 0, :2].reshape(-1, 2)
    np.testing.assert_array_equal(corners.min(0), [0, 0])
    np.testing.assert_array_equal(corners.max(0), [12, 22])


def test_sides_follow_the_image():
    assert [levels.exemplar_side(size) for size in (224, 112, 32, 8)] == [96, 48, 14, 4]
