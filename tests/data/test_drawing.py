import numpy as np
import pytest

from ncl_jax.data import drawing
from ncl_jax.data.drawing import SHAPES, TEXTURES, draw


def test_same_seed_same_picture_and_another_seed_another():
    picture = draw((1, 2), "star", "dots")
    assert picture.shape == (32, 32, 3)
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, draw((1, 2), SHAPES.index("star"), TEXTURES.index("dots")))
    assert (picture != draw((1, 3), "star", "dots")).mean() > 0.5


def test_generator_as_seed_is_advanced():
    rng = np.random.default_rng(0)
    first, second = (draw(rng, "ring", "grid") for _ in range(2))
    assert (first != second).any()


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="unknown shape 'blob'; one of circle"):
        draw(0, "blob", "dots")
    with pytest.raises(ValueError, match="unknown texture 'fur'"):
        draw(0, "ring", "fur")


def test_a_seed_gives_the_same_picture_at_any_size():
    small, large = draw(5, "heart", "stripes", 32).astype(float), draw(5, "heart", "stripes", 128).astype(float)
    assert np.abs(large.reshape(32, 4, 32, 4, 3).mean(axis=(1, 3)) - small).mean() < 2


def test_pictures_with_one_seed_differ_only_in_the_cues():
    """Outside both shapes the background is the same; inside both, only the texture's two colours occur."""
    stars = [draw(9, "circle", texture, 64).astype(int) for texture in ("stripes", "blobs")]
    corners = np.array([[0, 0], [0, 63], [63, 0], [63, 63]])
    background = [star[tuple(corners.T)] for star in stars]
    np.testing.assert_array_equal(*background)


def test_each_cue_alone():
    """A silhouette is the picture without its marks; a texture alone is what the shape shows, in the whole frame."""
    both, silhouette, texture = (
        draw(9, *cues, 64).astype(int) for cues in (("circle", "dots"), ("circle", None), (None, "dots"))
    )
    np.testing.assert_array_equal(both[[0, 0, 63, 63], [0, 63, 0, 63]], silhouette[[0, 0, 63, 63], [0, 63, 0, 63]])
    inside = (both != silhouette).any(-1)
    assert 0.02 < inside.mean() < 0.4
    assert (both == texture).all(-1)[inside].mean() > 0.8
    assert len(np.unique(texture.reshape(-1, 3), axis=0)) < len(np.unique(both.reshape(-1, 3), axis=0))


def test_shapes_are_of_similar_area_and_inside_the_picture():
    axis = (np.arange(400) + 0.5) / 100 - 2
    for name, inside in drawing.SHAPE_FUNCTIONS.items():
        area = inside(axis[None, :], axis[:, None]).mean() * 16
        assert 1.3 < area < 2.1, name


def test_the_background_lies_between_the_texture_colours_in_luma():
    """Grayscale keeps both cues."""
    for seed in range(200):
        first, second, behind = drawing._colours(np.random.default_rng(seed).random(10)) @ drawing.LUMA
        lumas = np.sort([first, second])
        assert lumas[0] + 0.2 < behind < lumas[1] - 0.2
        assert lumas[0] >= 0
        assert lumas[-1] <= 1


def test_colour_and_place_tell_nothing_of_the_class():
    """A linear classifier on the mean colour, the corner's and the centre's is near chance."""
    linear = pytest.importorskip("sklearn.linear_model")
    pictures = np.stack([draw((3, i), i % 10, i % 10) for i in range(600)]).astype(float) / 255
    labels = np.arange(600) % 10
    features = np.concatenate([pictures.mean(axis=(1, 2)), pictures[:, 0, 0], pictures[:, 16, 16]], axis=1)
    model = linear.LogisticRegression(max_iter=500).fit(features[:400], labels[:400])
    assert model.score(features[400:], labels[400:]) < 0.2
