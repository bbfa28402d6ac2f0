"""The 16 entry-level categories: edges and silhouettes, which leave only shape, 16-class-ImageNet, any others.

A folder of `split/category/*`, or any dataset whose classes are named after the categories. The probe's class
probabilities are averaged within each category (Geirhos et al. 2019); images of categories that the probe has learnt
no class of are left out. The shorter side goes to the image size, so that published stimuli stay as they are.
"""

import dataclasses
from typing import Any

import numpy as np

from ncl_jax.errors import Mistake, UserError
from ncl_jax.evaluation import class_accuracy, knn, robustness, shape_bias
from ncl_jax.evaluation.rows import Row

ROWS = (Row("top1", "{name}"),)
OUT_OF_DOMAIN = True


@dataclasses.dataclass(frozen=True)
class Settings:
    dataset: str = ""  # a TFDS name or folder:PATH
    split: str = "test"


def check(subject: Any, settings: Settings) -> None:
    if not settings.dataset:
        raise Mistake("config.evaluation.sets: a set of kind categories needs dataset, e.g. folder:PATH")
    dataset = subject.open(settings.dataset, settings.split)
    robustness.class_map(dataset.class_names, shape_bias.covered(subject.train_set.class_names))


def run(subject: Any, settings: Settings) -> dict[str, Any]:
    dataset = subject.open(settings.dataset, settings.split)
    found = subject.features(dataset, whole=True)
    knn.check_labels(found["label"], len(dataset.class_names))
    probabilities, names = shape_bias.category_probabilities(
        subject.probe.predict(found["features"]), subject.train_set.class_names
    )
    truth = robustness.class_map(dataset.class_names, names)[found["label"]]
    known = truth >= 0
    if not known.any():
        raise UserError(f"dataset {dataset.name}[{dataset.split}]: no image of the categories {', '.join(names)}")
    accuracy = class_accuracy.per_class(probabilities[known], truth[known])
    return {
        "top1": float(np.mean(np.argmax(probabilities[known], axis=1) == truth[known])),
        "chance": 1 / len(names),
        "images": int(known.sum()),
        "per_category": {n: float(a) for n, a in zip(names, accuracy, strict=True) if np.isfinite(a)},
    }
