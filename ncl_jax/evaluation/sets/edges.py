"""Line drawings of the test images, made here: shape without texture or colour.

Canny's edges, as Geirhos et al. (2019) drew theirs; but theirs are 160 images of 16 categories, cut out of their
background (kind `categories` reads such a folder), and these are all the test images with everything in them.
"""

import dataclasses
from typing import Any

from ncl_jax.evaluation import edges
from ncl_jax.evaluation.rows import Row
from ncl_jax.evaluation.sets import domain

ROWS = (Row("top1", "{name}"),)
OUT_OF_DOMAIN = True


@dataclasses.dataclass(frozen=True)
class Settings:
    split: str = ""  # of the in-domain dataset; empty: its test split


def check(subject: Any, settings: Settings) -> None:
    subject.open(split=settings.split)


def run(subject: Any, settings: Settings) -> dict[str, Any]:
    draw = subject.encoder.on_devices("edges", lambda: edges.draw_edges)
    return domain.score_changed(subject, settings.split, lambda images, ids: draw(images))
