"""Shape or texture? Images whose shape and texture come from different classes (Geirhos et al. 2019).

Either a split of the in-domain dataset with the labels `shape` and `texture` (`shapes_textures`), or images of the 16
entry-level categories: TFDS's `geirhos_conflict_stimuli`, or a folder of `shape/shapeN-textureM.jpg`. There an
image counts where the probe has learnt classes of both categories. The shorter side goes to the image size, so that
published stimuli stay as they are.
"""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ncl_jax.errors import UserError
from ncl_jax.evaluation import figures, robustness, shape_bias
from ncl_jax.evaluation.rows import Row

ROWS = (
    Row("shape", "decisions by shape"),
    Row("texture", "decisions by texture"),
    Row("other", "decisions by neither"),
    Row("shape_bias", "shape bias", ""),
)


@dataclasses.dataclass(frozen=True)
class Settings:
    dataset: str = ""  # a TFDS name or folder:PATH of the 16 categories; empty: the in-domain dataset
    split: str = ""  # empty: cue_conflict of the in-domain dataset, test of another

    @property
    def part(self) -> str:
        return self.split or ("test" if self.dataset else "cue_conflict")


def check(subject: Any, settings: Settings) -> None:
    dataset = subject.open(settings.dataset, settings.part)
    if settings.dataset:
        _category_names(dataset, {})
        shape_bias.covered(subject.train_set.class_names)
    elif not {"shape", "texture"} <= {*dataset.extra_keys}:
        raise UserError(f"dataset {dataset.name}[{dataset.split}]: has no labels shape and texture")


def run(subject: Any, settings: Settings) -> dict[str, Any]:
    dataset = subject.open(settings.dataset, settings.part)
    found = subject.features(dataset, whole=bool(settings.dataset))
    probabilities = subject.probe.predict(found["features"])
    if settings.dataset:
        probabilities, names = shape_bias.category_probabilities(probabilities, subject.train_set.class_names)
        shapes, textures = (robustness.class_map(cue, names) for cue in _category_names(dataset, found))
        known = (shapes >= 0) & (textures >= 0)
        probabilities, shapes, textures = probabilities[known], shapes[known], textures[known]
    else:
        shapes, textures, names = found["shape"], found["texture"], dataset.names["shape"]
    by_category = shape_bias.per_category(probabilities, shapes, textures, names)
    path = subject.figure("shape_bias")
    if path:
        figures.shape_bias_by_category({subject.config.model.name: by_category}, path)
    return {
        **shape_bias.shape_bias(probabilities, shapes, textures),
        "images": int(np.sum(shapes != textures)),
        "categories": len(names),
        "per_category": by_category,
    }


def _category_names(dataset: Any, found: dict[str, np.ndarray]) -> tuple[Sequence[str], Sequence[str]]:
    """Names of the shape and of the texture of every image, of `found` where the dataset has them as labels."""
    fields = ("shape_label", "texture_label")
    if set(fields) <= {*dataset.names}:
        # (The one that is the dataset's label goes by that name.)
        columns = [found.get("label" if field == dataset.label_key else field, []) for field in fields]
        shapes, textures = (
            np.asarray(dataset.names[field])[column] for field, column in zip(fields, columns, strict=True)
        )
        return shapes.tolist(), textures.tolist()
    if not dataset.paths:
        raise UserError(f"dataset {dataset.name}[{dataset.split}]: has no labels shape_label and texture_label")
    pairs = [re.fullmatch(r"([a-z]+)\d+-([a-z]+)\d+", Path(path).stem) for path in dataset.paths]
    if None in pairs:
        raise UserError(f"{dataset.paths[pairs.index(None)]}: is not named shapeN-textureM")
    chosen = found.get("id", np.arange(len(pairs)))  # a record that does not decode is not among the features
    named = [pairs[index].groups() for index in chosen]  # pyright: ignore[reportOptionalMemberAccess]
    return [shape for shape, _ in named], [texture for _, texture in named]
