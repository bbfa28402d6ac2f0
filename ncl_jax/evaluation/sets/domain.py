"""Other depictions of some of the classes: ImageNet-Sketch, -R, -A, V2, Stylized, a texture version, any folder.

Images of classes that the probe has not learnt are left out. `masked`: the answer is sought among the classes that the
set has images of, as is usual for ImageNet-R and -A; `top1`: among all.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from ncl_jax.errors import UserError
from ncl_jax.evaluation import class_accuracy, imagenet_classes, knn, robustness
from ncl_jax.evaluation.rows import Row

ROWS = (
    Row("top1", "{name}"),
    Row("masked", "{name}, masked"),
)
OUT_OF_DOMAIN = True


@dataclasses.dataclass(frozen=True)
class Settings:
    dataset: str = ""  # a TFDS name or folder:PATH, classes named as those of the in-domain dataset; empty: that one
    split: str = "test"
    per_class: bool = False  # keep every class's accuracy and, for ImageNet's classes, its relation to WordNet


def check(subject: Any, settings: Settings) -> None:
    columns(subject, subject.open(settings.dataset, settings.split))


def run(subject: Any, settings: Settings) -> dict[str, Any]:
    dataset = subject.open(settings.dataset, settings.split)
    if _by_number(subject.train_set, dataset) and dataset.class_names != subject.train_set.class_names:
        subject.say(f"{dataset.title}: its classes are taken for the probe's by number, as they have no names to go by")
    return score(subject, dataset, subject.features(dataset), per_class=settings.per_class)


def score(subject: Any, dataset: Any, found: Any, *, per_class: bool = False) -> dict[str, Any]:
    """The probe's accuracy on the features `found` of a set, and how many classes and images it counts."""
    place = columns(subject, dataset)
    probabilities, labels = subject.probe.predict(found["features"]), found["label"]
    knn.check_labels(labels, len(place))
    place = np.where(np.isin(np.arange(len(place)), labels), place, -1)  # a list can name more than there is
    scores = robustness.subset_accuracy(probabilities, labels, place)
    result: dict[str, Any] = {"top1": scores["unmasked"], "classes": scores["classes"], "images": scores["images"]}
    if scores["classes"] < subject.num_classes:
        result["masked"] = scores["masked"]
    if per_class:
        truth = place[labels]
        result |= by_class(probabilities[truth >= 0], truth[truth >= 0], subject.train_set.class_names)
    return result


def score_changed(subject: Any, split: str, change: Callable[[Any, Any], Any]) -> dict[str, Any]:
    """`score` of a split of the in-domain dataset, its images as `change(images, ids)` makes them."""
    dataset = subject.open(split=split)
    return score(subject, dataset, subject.features(dataset, change))


def by_class(
    probabilities: Float[np.ndarray, "n c"], labels: Int[np.ndarray, " n"], names: tuple[str, ...]
) -> dict[str, Any]:
    """Accuracy by class name and, of ImageNet's classes, its rank correlation with depth and siblings in WordNet."""
    accuracy = class_accuracy.per_class(probabilities, labels)
    result: dict[str, Any] = {
        "per_class": {name: float(value) for name, value in zip(names, accuracy, strict=True) if np.isfinite(value)}
    }
    try:
        hierarchy = imagenet_classes.hierarchy(names)
    except UserError:  # classes of another dataset: no hierarchy is known
        return result
    correlation = class_accuracy.against_hierarchy(accuracy, hierarchy)
    return result | {"wordnet_correlation": {k: v for k, v in correlation.items() if np.isfinite(v)}}


def columns(subject: Any, dataset: Any) -> np.ndarray:
    """The probe's column of each class of the set: by name or, where one of them has none, by number.

    Raises UserError where they have no class in common.
    """
    known = subject.train_set
    if _by_number(known, dataset):
        return np.arange(dataset.num_classes)
    return robustness.class_map(dataset.class_names, known.class_names)


def _by_number(known: Any, dataset: Any) -> bool:
    return dataset.num_classes == known.num_classes and not (_named(dataset) and _named(known))


def _named(dataset: Any) -> bool:
    """TFDS calls classes without names by their numbers, as those of cifar10_1 and cifar10_corrupted."""
    return dataset.class_names != tuple(map(str, range(len(dataset.class_names))))
