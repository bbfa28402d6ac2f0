"""Synthesis: pixels come from where it says, chance is the key's alone, and textures look like their exemplars."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncl_jax.errors import UserError
from ncl_jax.textures import synthesis, synthesize
from ncl_jax.textures.levels import QUALITIES, plan


def noise(batch=2, count=2, side=24, seed=0, width=None):
    shape = (batch, count, side, width or side, 3)
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def looked_up(exemplars, sources):
    batch = np.arange(len(sources))[:, None, None]
    e, y, x = np.moveaxis(np.asarray(sources), -1, 0)
    return np.asarray(exemplars)[batch, e, y, x]


@pytest.mark.parametrize("quality", ["standard", "fast", "draft"])
def test_every_pixel_is_its_source_pixel(quality):
    exemplars = noise()
    images, sources = synthesize(jax.random.key(0), exemplars, size=40, quality=quality, return_sources=True)
    assert images.shape == (2, 40, 40, 3)
    assert sources.shape == (2, 40, 40, 3)
    np.testing.assert_array_equal(np.asarray(images), looked_up(exemplars, sources))


@pytest.mark.parametrize(
    ("count", "side", "width", "size"),
    [(1, 14, 14, 32), (4, 17, 33, 31), (3, 4, 9, 5), (2, 48, 48, 64)],
)
def test_any_count_and_sides(count, side, width, size):
    exemplars = noise(1, count, side, width=width)
    images, sources = synthesize(jax.random.key(1), exemplars, size=size, quality="draft", return_sources=True)
    np.testing.assert_array_equal(np.asarray(images), looked_up(exemplars, sources))
    assert sources.min() >= 0
    assert len(np.unique(np.asarray(sources)[..., 0])) == count  # noise: no exemplar is left out


def test_constant_exemplars_give_their_colour():
    exemplars = np.full((2, 2, 24, 24, 3), 0.3, np.float32)
    np.testing.assert_array_equal(np.asarray(synthesize(jax.random.key(0), exemplars, size=40)), np.float32(0.3))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_short_floats_stay_what_they_are(dtype):
    exemplars = jnp.asarray(noise(), dtype)
    images, sources = synthesize(jax.random.key(0), exemplars, size=32, quality="draft", return_sources=True)
    assert images.dtype == dtype
    np.testing.assert_array_equal(np.asarray(images), looked_up(exemplars, sources))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_64_bits_change_nothing_but_the_pixels_dtype(dtype):
    exemplars = noise().astype(np.float64) + 1e-9  # more digits than float32 has
    options = {"size": 32, "quality": "draft", "return_sources": True}
    _, want = synthesize(jax.random.key(0), exemplars.astype(np.float32), **options)
    with jax.enable_x64(True):
        exemplars = jnp.asarray(exemplars, dtype)
        images, sources = jax.jit(functools.partial(synthesize, **options))(jax.random.key(0), exemplars)
    assert images.dtype == dtype
    np.testing.assert_array_equal(np.asarray(images), looked_up(exemplars, sources))
    np.testing.assert_array_equal(np.asarray(sources), np.asarray(want))


def test_same_key_same_image_and_other_key_another():
    exemplars = noise()
    first, again, other = (np.asarray(synthesize(jax.random.key(k), exemplars, size=40)) for k in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.5


def test_one_by_one_equals_the_batch():
    exemplars, key = noise(3), jax.random.key(3)
    batch = np.asarray(synthesize(key, exemplars, size=28, quality="draft"))
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(3))
    single = jax.vmap(lambda k, e: synthesize(k[None], e[None], size=28, quality="draft")[0])(keys, exemplars)
    np.testing.assert_array_equal(batch, np.asarray(single))
    alone = synthesize(keys[2:], exemplars[2:], size=28, quality="draft")[0]
    np.testing.assert_array_equal(batch[2], np.asarray(alone))
    assert (batch[0] != np.asarray(synthesize(key, exemplars[:1].repeat(3, 0), size=28, quality="draft"))[1]).any()


@pytest.mark.parametrize(("count", "side", "size"), [(2, 24, 40), (3, 31, 33)])
@pytest.mark.parametrize("quality", ["standard", "fast", "draft"])
def test_a_gpus_way_gives_a_cpus_sources(monkeypatch, quality, count, side, size):
    """Candidates one by one, or all at once; features by products of windows, or of planes."""
    options = {"size": size, "quality": quality, "return_sources": True}
    exemplars = np.asarray(jnp.cumsum(noise(2, count, side), axis=2) / side)  # smooth enough to be matched
    _, want = synthesize(jax.random.key(2), exemplars, **options)
    synthesis._synthesize.clear_cache()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    _, got = synthesize(jax.random.key(2), exemplars, **options)
    synthesis._synthesize.clear_cache()
    np.testing.assert_array_equal(np.asarray(got), np.asarray(want))


def test_stripes_stay_stripes():
    """Oblique stripes: three pixels further along a stripe the grey is the same, but where a stripe ends."""
    y, x = np.mgrid[:24, :24]
    wave = 0.5 + 0.5 * np.sin((y + x) * 2 * np.pi / 12)
    exemplars = np.broadcast_to(wave[None, None, :, :, None], (2, 2, 24, 24, 3)).astype(np.float32)
    image = np.asarray(synthesize(jax.random.key(0), exemplars, size=40))[..., 0]
    along = np.abs(image[:, :-3, 3:] - image[:, 3:, :-3]).mean()  # down 3 and left 3: the same stripe
    across = np.abs(image[:, :-3, :-3] - image[:, 3:, 3:]).mean()  # down 3 and right 3: half a period away
    assert along < 0.6 * across


def test_neighbours_come_from_neighbours():
    """Coherence: most pixels continue the pixel on their left, which chance would do for one in a thousand."""
    exemplars = noise()
    _, sources = synthesize(jax.random.key(0), exemplars, size=40, return_sources=True)
    step = np.diff(np.asarray(sources)[0], axis=1)
    assert (step == np.array([0, 0, 1])).all(-1).mean() > 0.6


def test_levels_of_the_papers_size():
    levels = plan(QUALITIES["standard"], 224, (96, 96))
    assert [level.spacing for level in levels] == [16, 8, 4, 2, 1]
    assert [level.passes for level in levels] == [2, 4, 4, 2, 1]
    assert [level.priced for level in levels][:3] == [2, 4, 3]  # the last pass at the finest priced level is free
    assert [level.spacing for level in plan(QUALITIES["standard"], 32, (14, 14))] == [2, 1]


@pytest.mark.parametrize(
    ("exemplars", "options", "names"),
    [
        (np.zeros((1, 2, 16, 16, 3), np.uint8), {}, "uint8"),
        (np.zeros((2, 16, 16, 3), np.float32), {}, r"\(2, 16, 16, 3\)"),
        (np.zeros((1, 2, 16, 16, 1), np.float32), {}, "exemplars"),
        (np.zeros((1, 2, 3, 16, 3), np.float32), {}, "sides"),
        (np.zeros((0, 2, 16, 16, 3), np.float32), {}, "exemplars"),
        (np.zeros((1, 2, 16, 16, 3), np.float32), {"size": 0}, "size"),
        (np.zeros((1, 2, 16, 16, 3), np.float32), {"size": 32.0}, "size"),
        (np.zeros((1, 2, 16, 16, 3), np.float32), {"quality": "best"}, "standard"),
        (np.zeros((1, 2, 16, 16, 3), np.float32), {"quality": ["fast"]}, "standard"),
        ([[1.0]], {}, "as an array"),
    ],
)
def test_bad_input_is_refused_in_one_line(exemplars, options, names):
    with pytest.raises(UserError, match=names) as error:
        synthesize(jax.random.key(0), exemplars, **options)
    assert "\n" not in str(error.value)


def test_a_typed_key_per_image_or_one():
    with pytest.raises(UserError, match="one per image"):
        synthesize(jax.random.split(jax.random.key(0), 3), noise(2))
    for untyped in (0, None):
        with pytest.raises(UserError, match=r"jax\.random\.key\(seed\)"):
            synthesize(untyped, noise(1))
    for batch in (1, 2):  # an untyped key of two words is not one per image of two
        with pytest.raises(UserError, match=r"jax\.random\.key\(seed\)"):
            synthesize(jax.random.PRNGKey(0), noise(batch))


@pytest.mark.parametrize("size", [32, 64])
def test_small_textures_keep_what_their_exemplars_have_little_of(size):
    """A third is striped: plain areas continue each other at no cost, and would take all of some textures."""
    side = round(size * 96 / 224)
    exemplars = np.full((64, 2, side, side, 3), 0.5, np.float32)
    exemplars[:, :, :, : side // 3] = np.where(np.arange(side) % 4 < 2, 0.2, 0.9)[:, None, None]
    textures = np.asarray(synthesize(jax.random.key(0), jnp.asarray(exemplars), size=size, quality="fast"))
    share = (textures != 0.5).any(-1).mean((1, 2))
    assert share.mean() > 0.025  # without a price .003 and .018
