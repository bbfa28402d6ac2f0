"""Non-semantic negatives: images made from the query that keep its local statistics and lose its meaning.

To add one, write a module with `Settings` (frozen dataclass with `alpha` and `num`), optionally `NEEDS` (fields that
it wants in the batch besides the views) and `generate(key, views, settings, recipe) -> [b m h w c]`, and list it here.
"""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from ncl_jax import config
from ncl_jax.negatives import patch, quilt, texture, texture_dataset
from ncl_jax.negatives.patch import patch_negatives

__all__ = ["REGISTRY", "alphas", "generate", "needs", "patch_negatives"]

REGISTRY: dict[str, ModuleType] = {
    "patch": patch,
    "texture": texture,
    "texture_dataset": texture_dataset,
    "quilt": quilt,
}

config.NEGATIVES.update({kind: module.Settings for kind, module in REGISTRY.items()})


def needs(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Batch fields that the chosen kinds read besides the two views."""
    return tuple(dict.fromkeys(field for kind in settings for field in getattr(REGISTRY[kind], "NEEDS", ())))


def alphas(settings: Mapping[str, Any]) -> Float[Array, " m"]:
    """alpha of each negative, in the order in which `generate` puts them."""
    return jnp.array([s.alpha for s in settings.values() for _ in range(s.num)], jnp.float32)


def generate(
    key: Key[Array, ""], views: Mapping[str, Any], settings: Mapping[str, Any], recipe: Any
) -> Float[Array, "b m h w c"] | None:
    """All negatives of each query, kind after kind; None where no kind is chosen.

    `views` holds the augmented views and the fields of `needs`; `recipe` is the query's augmentation, for kinds that
    give their images the same.
    """
    made = [
        REGISTRY[kind].generate(jax.random.fold_in(key, position), views, chosen, recipe)
        for position, (kind, chosen) in enumerate(settings.items())
    ]
    return jnp.concatenate(made, axis=1) if made else None
