"""The recipes: what is done to a crop to make it a view, on the device, with one key per example."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key, Num

from ncl_jax.augment import blur, colour
from ncl_jax.config import Augment
from ncl_jax.errors import UserError

MEAN = (0.485, 0.456, 0.406)  # of ImageNet, RGB in [0, 1]
STD = (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How views are made; hashable, so that jit takes it as static.

    Order: crop, flip, grayscale where `gray_first`, colour jitter, grayscale otherwise, blur, solarise, normalise.
    An operation of probability 0 costs nothing.

    Attributes:
        crop_scale: least and largest share of the image's area.
        flip_probability: of a horizontal flip.
        jitter: half widths of the factors of brightness, contrast and saturation around 1, and of the hue's shift
            around 0 (in turns, at most 0.5).
        blur_sigma: least and largest standard deviation in pixels.
    """

    crop_scale: tuple[float, float] = (0.2, 1.0)
    flip_probability: float = 0.5
    jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.4, 0.1)
    jitter_probability: float = 0.8
    gray_probability: float = 0.2
    gray_first: bool = False
    blur_probability: float = 0.5
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    solarize_probability: float = 0.0


_BYOL = Recipe(crop_scale=(0.08, 1.0), jitter=(0.4, 0.4, 0.2, 0.1))

# Per name the recipes of the query and of the key view.
RECIPES: dict[str, dict[str, Recipe]] = {
    # He et al. 2020: grey comes first, the jitter is always on and turns the hue further; no blur.
    "moco_v1": dict.fromkeys(
        ("query", "key"),
        Recipe(jitter=(0.4, 0.4, 0.4, 0.4), jitter_probability=1.0, gray_first=True, blur_probability=0.0),
    ),
    # Chen et al. 2020, "Improved Baselines with Momentum Contrastive Learning".
    "moco_v2": dict.fromkeys(("query", "key"), Recipe()),
    # Grill et al. 2020, table 6. Its views T and T' are our query and key.
    "byol": {
        "query": dataclasses.replace(_BYOL, blur_probability=1.0),
        "key": dataclasses.replace(_BYOL, blur_probability=0.1, solarize_probability=0.2),
    },
}


def recipe(settings: Augment, view: str = "query") -> Recipe:
    """The recipe of one view, `"query"` or `"key"`, with the config's changes to it.

    Raises UserError for a name or a view that does not exist.
    """
    if settings.recipe not in RECIPES:
        raise UserError(f"config.augment.recipe = {settings.recipe!r}: one of {', '.join(RECIPES)}")
    if view not in RECIPES[settings.recipe]:
        raise UserError(f"view = {view!r}: one of query, key")
    base = RECIPES[settings.recipe][view]
    brightness, contrast, saturation, hue = (settings.jitter_strength * width for width in base.jitter)
    return dataclasses.replace(
        base,
        crop_scale=base.crop_scale if settings.crop_scale is None else settings.crop_scale,
        jitter=(brightness, contrast, saturation, min(hue, 0.5)),
        jitter_probability=base.jitter_probability if settings.jitter_strength else 0.0,
        blur_probability=base.blur_probability if settings.blur_probability is None else settings.blur_probability,
    )


class Draw(NamedTuple):
    """What chance decides about one view; every field has the keys' shape in front."""

    flip: Bool[Array, ""]
    jitter: colour.Jitter
    gray: Bool[Array, ""]
    sigma: Float[Array, ""]  # of the blur in pixels; 0: none
    solarize: Bool[Array, ""]


def draw(key: Key[Array, ""], recipe: Recipe) -> Draw:
    """The random numbers of one view.

    Their places among the draws do not depend on the recipe: equal keys give equal flips under every recipe that
    flips with the same probability, and so on.
    """
    uniform = jax.random.uniform(key, (14,))
    width = jnp.asarray(recipe.jitter, jnp.float32)
    centre = jnp.asarray(colour.IDENTITY_FACTORS, jnp.float32)
    low = jnp.concatenate([jnp.maximum(centre - width, 0.0)[:3], -width[3:]])  # factors are never negative
    jitter = colour.Jitter(
        factors=low + (centre + width - low) * uniform[0:4],
        order=jnp.argsort(uniform[4:8]),
        active=uniform[8] < recipe.jitter_probability,
    )
    sigma = recipe.blur_sigma[0] + (recipe.blur_sigma[1] - recipe.blur_sigma[0]) * uniform[12]
    return Draw(
        flip=uniform[9] < recipe.flip_probability,
        jitter=jitter,
        gray=uniform[10] < recipe.gray_probability,
        sigma=jnp.where(uniform[11] < recipe.blur_probability, sigma, 0.0),
        solarize=uniform[13] < recipe.solarize_probability,
    )


def augment(keys: Key[Array, " b"], images: Num[Array, "b h w 3"], recipe: Recipe) -> Float[Array, "b h w 3"]:
    """Crops made into views: flipped, recoloured, blurred and normalised. Equal keys give equal changes.

    Args:
        keys: typed PRNG keys, one per image.
        images: RGB, uint8 or float in [0, 1].
        recipe: static under jit. Its `crop_scale` is not used here: crops are made before.

    Returns:
        float32, normalised with ImageNet's mean and standard deviation.
    """
    return jax.vmap(lambda key, image: _augment(draw(key, recipe), image, recipe))(keys, images)


def _augment(draw: Draw, image: Num[Array, "h w 3"], recipe: Recipe) -> Float[Array, "h w 3"]:
    image = jnp.moveaxis(to_unit(image), -1, 0)
    if recipe.flip_probability > 0:
        image = jnp.where(draw.flip, image[:, :, ::-1], image)
    if recipe.gray_first:
        image = jnp.where(draw.gray, colour.grayscale(image), image)
    if recipe.jitter_probability > 0:
        image = colour.jitter(image, draw.jitter)
    if recipe.gray_probability > 0 and not recipe.gray_first:
        image = jnp.where(draw.gray, colour.grayscale(image), image)
    if recipe.blur_probability > 0:
        image = blur.blur(image, draw.sigma, max_sigma=recipe.blur_sigma[1])
    if recipe.solarize_probability > 0:
        image = jnp.where(draw.solarize, colour.solarize(image), image)
    mean, std = (jnp.asarray(value, jnp.float32)[:, None, None] for value in (MEAN, STD))
    return jnp.moveaxis((image - mean) / std, 0, -1)


def to_unit(images: Num[Array, "*batch"]) -> Float[Array, "*batch"]:
    """uint8 as float32 in [0, 1]; floats are taken to be in it already."""
    if images.dtype == jnp.uint8:
        return images.astype(jnp.float32) * (1.0 / 255.0)
    return images.astype(jnp.float32)


def normalize(images: Num[Array, "*batch 3"]) -> Float[Array, "*batch 3"]:
    """RGB, uint8 or float in [0, 1], less ImageNet's mean and divided by its standard deviation: float32."""
    mean, std = _statistics(images.ndim)
    return (to_unit(images) - mean) / std


def denormalize(images: Float[Array, "*batch 3"]) -> Float[Array, "*batch 3"]:
    """The inverse of `normalize`: float32 RGB, in [0, 1] where the input was made of such values."""
    mean, std = _statistics(images.ndim)
    return images.astype(jnp.float32) * std + mean


def _statistics(ndim: int) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    shape = (1,) * (ndim - 1) + (3,)
    return jnp.reshape(jnp.asarray(MEAN), shape), jnp.reshape(jnp.asarray(STD), shape)
