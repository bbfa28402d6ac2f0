"""Shape or texture? Decisions on images whose shape and texture come from different classes (Geirhos et al. 2019)."""

import csv
import json
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from ncl_jax.errors import UserError

CATEGORIES: dict[str, list[str]] = json.loads(
    resources.files("ncl_jax.evaluation").joinpath("categories16.json").read_text()
)
"""The 16 entry-level categories, each with its ImageNet classes (WordNet ids)."""


def covered(wnids: Sequence[str]) -> list[str]:
    """The categories that at least one of the classes `wnids` belongs to; UserError where there is none."""
    names = [name for name, members in CATEGORIES.items() if not set(members).isdisjoint(wnids)]
    if not names:
        raise UserError("shape bias: none of the dataset's classes belongs to the 16 categories; are they WordNet ids?")
    return names


def category_probabilities(
    probabilities: Float[np.ndarray, "n k"], wnids: Sequence[str]
) -> tuple[Float[np.ndarray, "n c"], list[str]]:
    """Mean class probability within each of the 16 categories, and the names of those that `wnids` covers.

    `wnids` names the classes of the columns. A category is covered when at least one of its classes is there.
    Raises UserError when none is.
    """
    names = covered(wnids)
    columns = [[wnids.index(wnid) for wnid in CATEGORIES[name] if wnid in wnids] for name in names]
    return np.stack([probabilities[:, index].mean(axis=1) for index in columns], axis=1), names


def shape_bias(
    probabilities: Float[np.ndarray, "n c"], shapes: Int[np.ndarray, " n"], textures: Int[np.ndarray, " n"]
) -> dict[str, float]:
    """Shares of decisions by shape, by texture and by neither, and the shape bias shape / (shape + texture).

    Columns of `probabilities` and the two cues count the same classes. Images whose cues agree say nothing and are
    left out. `shape_bias` is NaN when no decision follows either cue.

    Raises:
      UserError: lengths differ, a cue has no column, or no image has cues that differ.
    """
    shapes, textures = np.asarray(shapes), np.asarray(textures)
    if not len(probabilities) == len(shapes) == len(textures):
        raise UserError(
            f"shape bias: {len(probabilities)} predictions, {len(shapes)} shapes and {len(textures)} textures"
        )
    differ = shapes != textures
    if not differ.any():
        raise UserError("shape bias: no image whose shape and texture differ")
    if min(shapes.min(), textures.min()) < 0 or max(shapes.max(), textures.max()) >= probabilities.shape[1]:
        raise UserError(f"shape bias: a cue is none of the {probabilities.shape[1]} classes that are predicted")
    decided = np.argmax(probabilities, axis=1)[differ]
    return _shares(decided == shapes[differ], decided == textures[differ])


def per_category(
    probabilities: Float[np.ndarray, "n c"],
    shapes: Int[np.ndarray, " n"],
    textures: Int[np.ndarray, " n"],
    names: Sequence[str],
) -> dict[str, dict[str, float]]:
    """`shape_bias` of the images of each shape category."""
    rows = {name: np.flatnonzero((shapes == index) & (shapes != textures)) for index, name in enumerate(names)}
    return {
        name: shape_bias(probabilities[index], shapes[index], textures[index])
        for name, index in rows.items()
        if len(index)
    }


def from_decisions(path: str | Path) -> dict[str, float]:
    """`shape_bias` of a published file of raw decisions (columns `object_response`, `category`, `imagename`)."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    by_shape, by_texture = [], []
    for row in rows:
        match = re.search(r"([a-z]+)\d+-([a-z]+)\d+\.png$", row["imagename"])
        if match is None:
            raise UserError(f"{path}: image name {row['imagename']!r} is not shapeN-textureM.png")
        shape, texture = match.groups()
        if shape != texture:
            by_shape.append(row["object_response"] == shape)
            by_texture.append(row["object_response"] == texture)
    return _shares(np.array(by_shape), np.array(by_texture))


def _shares(by_shape: Any, by_texture: Any) -> dict[str, float]:
    shape, texture = float(np.mean(by_shape)), float(np.mean(by_texture))
    return {
        "shape": shape,
        "texture": texture,
        "other": 1 - shape - texture,
        "shape_bias": shape / (shape + texture) if shape + texture else float("nan"),
    }
