"""Non-semantic negatives: images made from the query that keep its local statistics and lose its meaning.

To add one, write a module with

* `Settings`: a frozen dataclass with `alpha` and `num`, and `check(config)` where values can be wrong together;
* `generate(key, views, settings, recipe)`: `num` images for each of `views["query"]` `[b h w c]`, as `[b num h w c]`.
  Views are normalised, and what is returned is to be (`augment.views.denormalize` and `normalize` lead to [0, 1] and
  back);
* `NEEDS`, if it reads them: the fields that it wants in the batch besides the views (as `source` in `texture.py`);

and list it here, or `register` it from a script of your own. `quilt.py` is a short one to begin from.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from ncl_jax import config, schema
from ncl_jax.errors import UserError
from ncl_jax.negatives import patch, quilt, texture, texture_dataset
from ncl_jax.negatives.patch import patch_negatives

__all__ = ["REGISTRY", "alphas", "generate", "needs", "patch_negatives", "register"]

REGISTRY: dict[str, Any] = {}


def register(kind: str, module: Any) -> None:
    """Make a module, as above, or whatever has such attributes, a kind of negative: `config.negatives.KIND`.

    Raises UserError where it has not what it needs.
    """
    config.NEGATIVES[kind] = schema.settings_of(module, {"generate": 4}, ("alpha", "num"))
    REGISTRY[kind] = module


for _kind, _module in {
    "patch": patch,
    "texture": texture,
    "texture_dataset": texture_dataset,
    "quilt": quilt,
}.items():
    register(_kind, _module)


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
    made = []
    for position, (kind, chosen) in enumerate(settings.items()):
        images = REGISTRY[kind].generate(jax.random.fold_in(key, position), views, chosen, recipe)
        count, *sides = views["query"].shape
        if images.shape != (count, chosen.num, *sides):
            raise UserError(
                f"negatives.{kind}: generate gives an array {list(images.shape)}, not {[count, chosen.num, *sides]}: "
                "as many images as config.negatives asks for of each query, and as large"
            )
        made.append(images)
    return jnp.concatenate(made, axis=1) if made else None
