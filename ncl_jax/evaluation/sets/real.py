"""ReaL: ImageNet's validation images with all labels that people found right (Beyer et al. 2020).

Labels from TFDS's `imagenet2012_real`, or from the published `real.json` for the in-domain test split, whose images are
then told by their file names. Right is any of an image's labels; images without a label that the probe has learnt are
left out, so that a probe of ImageNet-100 is asked only about those.
"""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from ncl_jax.data import columns
from ncl_jax.errors import UserError
from ncl_jax.evaluation import imagenet_classes, robustness
from ncl_jax.evaluation.rows import Row

ROWS = (Row("top1", "{name}"),)


@dataclasses.dataclass(frozen=True)
class Settings:
    labels: str = (
        ""  # path of real.json, for images named ILSVRC2012_val_00000001 and so on; empty: the dataset has them
    )
    dataset: str = ""  # empty: imagenet2012_real, or with `labels` the in-domain one
    split: str = ""  # empty: validation, or the in-domain test split


def check(subject: Any, settings: Settings) -> None:
    dataset = _open(subject, settings)
    _columns(subject)
    if settings.labels:
        if dataset.paths:
            _labels(dataset, settings)
        else:
            _read_json(settings.labels)
            columns.need(dataset, "file_name")
    else:
        columns.need(dataset, "real_label")


def run(subject: Any, settings: Settings) -> dict[str, Any]:
    dataset = _open(subject, settings)
    found = subject.features(dataset)
    place = _columns(subject).tolist()
    labels = _labels(dataset, settings)
    allowed = [[place[label] for label in labels[i] if place[label] >= 0] for i in found["id"]]
    top1 = robustness.multi_label_accuracy(subject.probe.predict(found["features"]), allowed)
    return {"top1": top1, "images": sum(map(bool, allowed))}


def _open(subject: Any, settings: Settings) -> Any:
    if settings.labels:
        return subject.open(settings.dataset, settings.split, labels=False)
    return subject.open(settings.dataset or "imagenet2012_real", settings.split or "validation", labels=False)


def _columns(subject: Any) -> np.ndarray:
    """The probe's column of each of ImageNet's 1000 classes; -1: it has not learnt that one."""
    return robustness.class_map([c.wnid for c in imagenet_classes.classes()], subject.train_set.class_names)


def _labels(dataset: Any, settings: Settings) -> list[list[int]]:
    """Of every image the numbers of its ImageNet classes."""
    if not settings.labels:
        return [value.tolist() for value in columns.read(dataset, "real_label")]
    names = dataset.paths or [value.decode() for value in columns.read(dataset, "file_name")]
    labels = _read_json(settings.labels)
    numbers = [re.search(r"val_0*(\d+)", Path(name).name) for name in names]
    if None in numbers:
        raise UserError(f"{names[numbers.index(None)]}: is not named as ImageNet's validation images")
    places = [int(number[1]) - 1 for number in numbers if number]
    if max(places) >= len(labels):
        raise UserError(f"{settings.labels}: has {len(labels)} images, none of number {max(places) + 1}")
    return [labels[i] for i in places]


def _read_json(path: str) -> list[list[int]]:
    try:
        labels = json.loads(Path(path).expanduser().read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: no ReaL labels: {error}") from error
    if not isinstance(labels, list) or not all(isinstance(row, list) for row in labels):
        raise UserError(f"{path}: no ReaL labels: expected a list of lists of class numbers")
    return labels
