"""Texture negatives made on the fly: textures of patches of the image, seen as the query is (paper, section 3.1)."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, Key, Num

from ncl_jax import config as config_lib
from ncl_jax import parallel
from ncl_jax.augment import views as augment_views
from ncl_jax.errors import UserError
from ncl_jax.negatives.query_view import as_query
from ncl_jax.schema import option
from ncl_jax.textures import QUALITIES, synthesize
from ncl_jax.textures.levels import exemplar_side

NEEDS = ("source",)


@dataclasses.dataclass(frozen=True)
class Settings:
    alpha: float = option(2.0, low=0.0)  # scales the similarity inside the exponent
    num: int = option(1, low=1)  # negatives per query, each of its own patches
    quality: str = option("fast", choices=tuple(QUALITIES))
    exemplars: int = option(2, low=1, high=16)  # patches: the first one central, the others at random
    exemplar_size: int | None = option(None, low=4)  # pixels; None: 96 at 224, in proportion

    def check(self, config: config_lib.Config) -> None:
        if self.exemplar_size is not None and self.exemplar_size > config.data.image_size:
            raise UserError(
                f"config.negatives.texture.exemplar_size = {self.exemplar_size}: a patch is larger than the image "
                f"(config.data.image_size = {config.data.image_size})"
            )


def generate(
    key: Key[Array, ""], views: Mapping[str, Any], settings: Settings, recipe: augment_views.Recipe
) -> Float[Array, "b m s s 3"]:
    """Textures of patches of `views["source"]`, cropped and augmented as the query was.

    The source is the whole image squeezed into a square, and so are its patches and the texture; the query's crop
    gives the texture the image's proportions back. Image i uses `fold_in(key, i)`.
    """

    def of_part(keys, views):
        source = views["source"]
        batch, size = source.shape[:2]
        side = settings.exemplar_size or exemplar_side(size)
        keys = jax.vmap(lambda k: jax.random.split(k, (settings.num, 2)))(keys).reshape(-1, 2)
        patches = cut_exemplars(
            keys[:, 0], jnp.repeat(source, settings.num, axis=0), count=settings.exemplars, side=side
        )
        textures = synthesize(keys[:, 1], patches, size=size, quality=settings.quality)
        return as_query(textures.reshape(batch, settings.num, *textures.shape[1:]), views, recipe)

    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(len(views["source"])))
    needed = {name: views[name] for name in ("source", "query", "query_keys", "box")}
    return _on_each_device(of_part)(keys, needed)


def _on_each_device(function: Callable) -> Callable:
    """Inside a compiled step: each device makes its own images. (Synthesis gathers from the batch as one array, which
    would otherwise be sent around.)"""
    mesh, split = jax.sharding.get_abstract_mesh(), PartitionSpec(parallel.DATA_AXIS)
    return function if mesh.empty else jax.shard_map(function, in_specs=split, out_specs=split, check_vma=False)


def cut_exemplars(
    keys: Key[Array, " b"], images: Num[Array, "b h w c"], *, count: int, side: int
) -> Float[Array, "b e side side c"]:
    """Square patches of each image: the first from its centre, the others from uniformly random places.

    Args:
        images: uint8, or float in [0, 1]; each side at least `side`.

    Returns:
        float32 in [0, 1].
    """
    images = augment_views.to_unit(images)
    height, width, channels = images.shape[1:]

    def cut(image, corner):
        return jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), (side, side, channels))

    def of_image(key, image):
        room = jnp.array([height - side, width - side])
        corners = jax.random.randint(key, (count, 2), 0, room[None, :] + 1).at[0].set(room // 2)
        return jax.vmap(cut, in_axes=(None, 0))(image, corners)

    return jax.vmap(of_image)(keys, images)
