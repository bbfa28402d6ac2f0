"""Textures of the test images, made here: texture without shape.

Each image becomes a texture synthesised from two patches of itself, as ImageNet-Texture's are (paper, section 3.1); but
the patches come from the image as it is shown to the network, not from the undistorted one. `ncl-jax textures` builds
the set proper, which the kind `domain` reads.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from ncl_jax.evaluation.rows import Row
from ncl_jax.evaluation.sets import domain
from ncl_jax.negatives import texture
from ncl_jax.schema import option
from ncl_jax.textures import QUALITIES, synthesize
from ncl_jax.textures.levels import exemplar_side

ROWS = (Row("top1", "{name}"),)
OUT_OF_DOMAIN = True


@dataclasses.dataclass(frozen=True)
class Settings:
    split: str = ""  # of the in-domain dataset; empty: its test split
    quality: str = option("fast", choices=tuple(QUALITIES))
    exemplars: int = option(2, low=1, high=16)  # patches: the first one central, the others at random
    seed: int = option(0, low=0)


def check(subject: Any, settings: Settings) -> None:
    subject.open(split=settings.split)


def run(subject: Any, settings: Settings) -> dict[str, Any]:
    size = subject.config.data.image_size

    def draw(images: Any, ids: Any) -> Any:
        base = jax.random.key(settings.seed)
        keys = jax.vmap(lambda i: jax.random.split(jax.random.fold_in(base, i)))(ids)
        side = exemplar_side(size)
        patches = texture.cut_exemplars(keys[:, 0], images, count=settings.exemplars, side=side)
        made = synthesize(keys[:, 1], patches, size=size, quality=settings.quality)
        return jnp.round(255 * made).astype(jnp.uint8)

    change = subject.encoder.on_devices(("textures", settings, size), lambda: draw)
    return domain.score_changed(subject, settings.split, change)
