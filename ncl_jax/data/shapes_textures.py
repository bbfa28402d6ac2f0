"""The built-in dataset `shapes_textures`: a model organism of texture bias, drawn in seconds, no download.

In `train` and `test` class c has shape c and texture c, so either cue gives the class; in `cue_conflict` they
differ, each of the 90 pairs equally often, and the decision tells which cue a model uses (`label` is the shape
there). `silhouette` has the shapes filled with one colour, `texture` the textures without a shape: how much of each cue
an encoder has learnt. Configs are image sides: `shapes_textures` is `shapes_textures/px32`; any `pxN` can be built.
"""

from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

from ncl_jax.data.drawing import SHAPES, TEXTURES, draw
from ncl_jax.errors import UserError

__all__ = ["SHAPES", "TEXTURES", "ShapesTextures", "config", "draw", "example"]

COUNTS = {"train": 4000, "test": 1000, "cue_conflict": 1800, "silhouette": 1000, "texture": 1000}


def cues(split: str, index: int) -> tuple[int, int]:
    """Shape and texture of picture `index` of `split`: they go round, so every prefix is balanced."""
    if split != "cue_conflict":
        return index % 10, index % 10
    shape, other = index % 10, 1 + index // 10 % 9
    return shape, (shape + other) % 10


def example(split: str, index: int, *, size: int = 32, seed: int = 0) -> dict[str, Any]:
    """Picture `index` of `split`, as the dataset holds it: image uint8 `[size size 3]`, shape, texture, label."""
    shape, texture = cues(split, index)
    drawn = (None if split == "texture" else shape, None if split == "silhouette" else texture)
    image = draw((seed, list(COUNTS).index(split), index), *drawn, size)
    return {"image": image, "shape": shape, "texture": texture, "label": shape}


def config(name: str) -> tfds.core.BuilderConfig:
    """The config `pxN`: pictures N pixels wide, 8 to 1024; a UserError for any other name."""
    digits = name.removeprefix("px")
    if not (name.startswith("px") and digits.isdigit() and 8 <= int(digits) <= 1024):
        raise UserError(f"dataset shapes_textures/{name}: configs are px8 to px1024, e.g. shapes_textures/px64")
    # TFDS refuses a second config of the same name.
    known = {known.name: known for known in getattr(globals().get("ShapesTextures"), "BUILDER_CONFIGS", [])}
    return known.get(name) or tfds.core.BuilderConfig(name=f"px{int(digits)}", description=f"{int(digits)} pixels wide")


class ShapesTextures(tfds.core.GeneratorBasedBuilder):
    """TFDS builder; `tfds.load("shapes_textures")` finds it once this module is imported."""

    VERSION = tfds.core.Version("1.3.0")  # another one whenever a picture changes or a split is added
    BUILDER_CONFIGS = [config("px32"), config("px64"), config("px224")]  # noqa: RUF012

    def _info(self) -> tfds.core.DatasetInfo:
        side = int(self.builder_config.name.removeprefix("px"))  # pyright: ignore[reportOptionalMemberAccess]
        names = [f"{shape}_{texture}" for shape, texture in zip(SHAPES, TEXTURES, strict=True)]
        return tfds.core.DatasetInfo(
            builder=self,
            description="Textured shapes whose class is both the shape and the texture, and pictures where they differ",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(side, side, 3), encoding_format="png"),
                    "shape": tfds.features.ClassLabel(names=list(SHAPES)),
                    "texture": tfds.features.ClassLabel(names=list(TEXTURES)),
                    "label": tfds.features.ClassLabel(names=names),
                }
            ),
            supervised_keys=("image", "label"),
            disable_shuffling=True,  # the order is balanced already, and record i is `example(split, i)`
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        del dl_manager
        return {split: self._generate_examples(split) for split in COUNTS}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        side = int(self.builder_config.name.removeprefix("px"))  # pyright: ignore[reportOptionalMemberAccess]
        for index in range(COUNTS[split]):
            yield index, example(split, index, size=side)
