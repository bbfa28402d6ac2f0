"""The built-in dataset `shapes_textures`: a model organism of texture bias, drawn in seconds, no download.

In `train` and `test` class c has shape c and texture c, so either cue gives the class; in `cue_conflict` they
differ, each of the 90 pairs equally often, and the decision tells which cue a model uses (`label` is the shape
there). `silhouette` has the shapes filled with one colour, `texture` the textures without a shape: how much of each cue
an encoder has learnt. Configs are image sides: `shapes_textures` is `shapes_textures/px32`; any `pxN` can be built.
"""

from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

from ncl_jax.data.drawn_records import CLASS_NAMES, COUNTS, SHAPES, TEXTURES, VERSION, cues, draw, example, side_of

__all__ = ["COUNTS", "SHAPES", "TEXTURES", "ShapesTextures", "config", "cues", "draw", "example"]


def config(name: str) -> tfds.core.BuilderConfig:
    """The config `pxN`: pictures N pixels wide, 8 to 1024; a UserError for any other name."""
    side = side_of(f"shapes_textures/{name}")
    # TFDS refuses a second config of the same name.
    known = {known.name: known for known in getattr(globals().get("ShapesTextures"), "BUILDER_CONFIGS", [])}
    return known.get(name) or tfds.core.BuilderConfig(name=f"px{side}", description=f"{side} pixels wide")


class ShapesTextures(tfds.core.GeneratorBasedBuilder):
    """TFDS builder; `tfds.load("shapes_textures")` finds it once this module is imported."""

    VERSION = tfds.core.Version(VERSION)
    BUILDER_CONFIGS = [config("px32"), config("px64"), config("px224")]  # noqa: RUF012

    def _info(self) -> tfds.core.DatasetInfo:
        side = int(self.builder_config.name.removeprefix("px"))  # pyright: ignore[reportOptionalMemberAccess]
        return tfds.core.DatasetInfo(
            builder=self,
            description="Textured shapes whose class is both the shape and the texture, and pictures where they differ",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(side, side, 3), encoding_format="png"),
                    "shape": tfds.features.ClassLabel(names=list(SHAPES)),
                    "texture": tfds.features.ClassLabel(names=list(TEXTURES)),
                    "label": tfds.features.ClassLabel(names=list(CLASS_NAMES)),
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
