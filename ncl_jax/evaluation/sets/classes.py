"""The probe's accuracy on every class of the test split and, for ImageNet's classes, its relation to WordNet."""

import dataclasses
from typing import Any

import numpy as np

from ncl_jax.errors import UserError
from ncl_jax.evaluation import figures, imagenet_classes
from ncl_jax.evaluation.sets import domain

ROWS = ()


@dataclasses.dataclass(frozen=True)
class Settings:
    """No key: it is one analysis."""


def check(subject: Any, settings: Settings) -> None:
    if not subject.train_set.class_names:
        raise UserError(f"dataset {subject.train_set.name}: its classes have no names")


def run(subject: Any, settings: Settings) -> dict[str, Any]:
    names = subject.train_set.class_names
    result = domain.by_class(subject.probe.predict(subject.test["features"]), subject.test["label"], names)
    path = subject.figure("classes")
    if path and "wordnet_correlation" in result:
        seen = list(result["per_class"])
        figures.class_scatter(np.array(list(result["per_class"].values())), imagenet_classes.hierarchy(seen), path)
    return result
