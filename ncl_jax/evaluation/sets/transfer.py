"""Another dataset with a probe of its own on the same features: CIFAR-10/100, DTD, Flowers, any TFDS name or folder."""

import dataclasses
from typing import Any

from ncl_jax.data import datasets
from ncl_jax.errors import UserError
from ncl_jax.evaluation import linear_probe
from ncl_jax.evaluation.rows import Row

ROWS = (Row("top1", "{name}, own probe"),)


@dataclasses.dataclass(frozen=True)
class Settings:
    dataset: str = ""  # a TFDS name or folder:PATH
    train_split: str = "train"
    test_split: str = "test"


def check(subject: Any, settings: Settings) -> None:
    if not settings.dataset:
        raise UserError("config.evaluation.sets: a set of kind transfer needs dataset, a TFDS name or folder:PATH")
    train, test = _open(subject, settings)
    datasets.need_other_images(train, test)
    if train.class_names != test.class_names:
        raise UserError(f"dataset {settings.dataset}: {train.split} and {test.split} have other classes")


def run(subject: Any, settings: Settings) -> dict[str, Any]:
    handles = _open(subject, settings)
    train, test = (subject.features(handle) for handle in handles)
    probe = linear_probe.fit(
        train["features"], train["label"], num_classes=handles[0].num_classes, seed=subject.config.seed
    )
    return {
        "top1": probe.accuracy(test["features"], test["label"]),
        "classes": handles[0].num_classes,
        "train_images": len(train["label"]),
        "images": len(test["label"]),
    }


def _open(subject: Any, settings: Settings) -> tuple[Any, Any]:
    return tuple(subject.open(settings.dataset, split) for split in (settings.train_split, settings.test_split))
