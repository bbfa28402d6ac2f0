"""The test images in the styles of others, made here: shape under a foreign texture.

By default by a classical method without learnt parts (`evaluation.stylize`), or by AdaIN with the published weights.
Stylized-ImageNet (Geirhos et al. 2019) is AdaIN with 79,434 paintings as styles: only AdaIN with paintings comes near
published figures (which image gets which painting differs). The default compares encoders with each other, and with
nothing that was published.
"""

import dataclasses
import functools
from typing import Any

import jax.numpy as jnp
import numpy as np

from ncl_jax.errors import Mistake, UserError
from ncl_jax.evaluation import adain, stylize
from ncl_jax.evaluation.rows import Row
from ncl_jax.evaluation.sets import domain
from ncl_jax.schema import option

ROWS = (Row("top1", "{name}"),)
OUT_OF_DOMAIN = True


@dataclasses.dataclass(frozen=True)
class Settings:
    styles: str = ""  # images of which styles are taken, a TFDS name or folder:PATH; empty: the training images
    styles_split: str = "train"
    num_styles: int = option(256, low=1)  # the first ones; they are held in memory
    split: str = ""  # of the in-domain dataset; empty: its test split
    adain_vgg: str = ""  # with adain_decoder: PyTorch files of AdaIN's weights (see evaluation.adain)
    adain_decoder: str = ""
    seed: int = option(0, low=0)  # which image gets which style


def check(subject: Any, settings: Settings) -> None:
    subject.open(split=settings.split)
    _open_styles(subject, settings)
    size = subject.config.data.image_size
    if bool(settings.adain_vgg) != bool(settings.adain_decoder):
        raise Mistake("config.evaluation.sets: adain_vgg and adain_decoder: give both or none")
    if settings.adain_vgg:
        adain.load(settings.adain_vgg, settings.adain_decoder)
        if size % 8:
            raise UserError(f"config.data.image_size = {size}: AdaIN needs a multiple of 8")
    elif size < stylize.SMALLEST:
        raise UserError(f"config.data.image_size = {size}: stylizing needs {stylize.SMALLEST} pixels or more")


def run(subject: Any, settings: Settings) -> dict[str, Any]:
    styles = subject.images(_open_styles(subject, settings), settings.num_styles)
    files = settings.adain_vgg, settings.adain_decoder
    draw = subject.encoder.on_devices(
        ("stylized", files),
        lambda: functools.partial(_by_adain, adain.load(*files)) if settings.adain_vgg else stylize.stylize,
    )

    def change(images: Any, ids: Any) -> Any:
        chosen = [np.random.default_rng((settings.seed, int(i))).integers(len(styles)) for i in ids]
        return draw(images, styles[chosen])

    result = domain.score_changed(subject, settings.split, change)
    return result | {"styles": len(styles), "method": "adain" if settings.adain_vgg else "patches"}


def _by_adain(weights: adain.Weights, images: Any, styles: Any) -> Any:
    made = adain.stylize(weights, *(jnp.asarray(x, jnp.float32) / 255 for x in (images, styles)))
    return jnp.round(255 * made).astype(jnp.uint8)


def _open_styles(subject: Any, settings: Settings) -> Any:
    if not settings.styles:
        return subject.train_set
    return subject.open(settings.styles, settings.styles_split, labels=False)
