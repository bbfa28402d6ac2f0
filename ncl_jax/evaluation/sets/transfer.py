"""Another dataset with a probe of its own on the same features: CIFAR-10/100, DTD, Flowers, any TFDS name or folder.

`mean_per_class` is what Kornblith et al. (2019) and SimCLR report of Flowers-102, Pets and Caltech-101.
"""

import dataclasses
from typing import Any

import numpy as np

from ncl_jax.data import overlap
from ncl_jax.errors import Mistake, UserError
from ncl_jax.evaluation import class_accuracy, knn, linear_probe
from ncl_jax.evaluation.rows import Row

ROWS = (
    Row("top1", "{name}, own probe"),
    Row("mean_per_class", "{name}, mean per class"),
)
UNLABELLED = True


@dataclasses.dataclass(frozen=True)
class Settings:
    dataset: str = ""  # a TFDS name or folder:PATH
    train_split: str = "train"
    test_split: str = "test"


def check(subject: Any, settings: Settings) -> None:
    if not settings.dataset:
        raise Mistake("config.evaluation.sets: a set of kind transfer needs dataset, a TFDS name or folder:PATH")
    train, test = _open(subject, settings)
    overlap.need_other_images(train, test)
    if train.class_names != test.class_names:
        raise UserError(f"dataset {settings.dataset}: {train.split} and {test.split} have other classes")


def run(subject: Any, settings: Settings) -> dict[str, Any]:
    handles = _open(subject, settings)
    train, test = (subject.features(handle) for handle in handles)
    probe = linear_probe.fit(
        train["features"], train["label"], num_classes=handles[0].num_classes, seed=subject.config.seed
    )
    knn.check_labels(test["label"], len(probe.bias))
    probabilities = probe.predict(test["features"])
    return {
        "top1": float(np.mean(np.argmax(probabilities, axis=1) == test["label"])),
        "mean_per_class": float(np.nanmean(class_accuracy.per_class(probabilities, test["label"]))),
        "classes": handles[0].num_classes,
        "train_images": len(train["label"]),
        "images": len(test["label"]),
    }


def _open(subject: Any, settings: Settings) -> tuple[Any, Any]:
    return tuple(subject.open(settings.dataset, split) for split in (settings.train_split, settings.test_split))
