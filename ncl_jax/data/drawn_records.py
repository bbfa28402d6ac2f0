"""The records of the built-in dataset `shapes_textures`, drawn one by one in NumPy."""

import fnmatch
from typing import Any

from ncl_jax.data.drawing import SHAPES, TEXTURES, draw
from ncl_jax.errors import UserError

VERSION = "1.3.0"  # another one whenever a picture changes or a split is added
CLASS_NAMES = tuple(f"{shape}_{texture}" for shape, texture in zip(SHAPES, TEXTURES, strict=True))
COUNTS = {"train": 4000, "test": 1000, "cue_conflict": 1800, "silhouette": 1000, "texture": 1000}


def cues(split: str, index: int) -> tuple[int, int]:
    """Shape and texture of picture `index` of `split`: they go round, so every prefix is balanced."""
    if split != "cue_conflict":
        return index % 10, index % 10
    shape, other = index % 10, 1 + index // 10 % 9
    return shape, (shape + other) % 10


def example(split: str, index: int, *, size: int = 32) -> dict[str, Any]:
    """Picture `index` of `split`, as the dataset holds it: image uint8 `[size size 3]`, shape, texture, label."""
    shape, texture = cues(split, index)
    drawn = (None if split == "texture" else shape, None if split == "silhouette" else texture)
    image = draw((0, list(COUNTS).index(split), index), *drawn, size)
    return {"image": image, "shape": shape, "texture": texture, "label": shape}


def side_of(name: str) -> int:
    """The side in pixels of `shapes_textures` or `shapes_textures/pxN`, N from 8 to 1024; else a UserError, and for
    another version than this one."""
    known, _, version = name.partition(":")
    config = known.partition("/")[2] or "px32"
    digits = config.removeprefix("px")
    if not (config.startswith("px") and digits.isdigit() and 8 <= int(digits) <= 1024):
        raise UserError(f"dataset {name}: configs are px8 to px1024, e.g. shapes_textures/px64")
    if version and not fnmatch.fnmatchcase(VERSION, version):  # TFDS takes 1.*.*
        raise UserError(f"dataset {name}: no such version; it is {VERSION}")
    return int(digits)
