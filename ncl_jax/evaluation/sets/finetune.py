"""Fine-tuning of the whole network, on all labels or a share of them, equally many of each class."""

import dataclasses
from typing import Any

import numpy as np

from ncl_jax import parallel
from ncl_jax.data import subset
from ncl_jax.errors import UserError
from ncl_jax.evaluation import features, few_shot, finetune
from ncl_jax.evaluation.rows import Row
from ncl_jax.schema import option

ROWS = (Row("top1", "{name}"),)


@dataclasses.dataclass(frozen=True)
class Settings:
    share: float = option(1.0, above=0.0, high=1.0)  # of the labels of the training images, drawn by the config's seed
    train: str = ""  # a dataset to train on instead, e.g. imagenet2012_subset/1pct: classes as of the in-domain one
    train_split: str = "train"  # of that
    epochs: int = option(20, low=1)
    learning_rate: float = option(0.1, above=0.0)  # per 256 images; falls by a cosine
    batch: int = option(256, low=1)


def check(subject: Any, settings: Settings) -> None:
    dataset = _open(subject, settings)
    if dataset.class_names != subject.train_set.class_names or dataset.num_classes != subject.train_set.num_classes:
        raise UserError(f"dataset {dataset.name}: its classes are not those of {subject.train_set.name}")
    if settings.share < 1:
        subset.check(dataset)


def run(subject: Any, settings: Settings) -> dict[str, Any]:
    dataset = _open(subject, settings)
    if settings.share < 1:
        known = subject.train if dataset is subject.train_set else subject.features(dataset)
        chosen = few_shot.balanced_subset(known["label"], settings.share, seed=subject.config.seed)
        dataset = subset.pick(dataset, known["id"][chosen])
    scores = finetune.fit(
        subject.config,
        subject.model,
        subject.variables,
        dataset,
        subject.mesh,
        epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        batch=settings.batch,
        say=subject.say,
    )
    found = features.extract(scores, subject.batches(subject.open()), sharding=parallel.batch_sharding(subject.mesh))
    right = np.argmax(found["features"], axis=1) == found["label"]
    return {"top1": float(np.mean(right)), "train_images": dataset.num_examples, "images": len(right)}


def _open(subject: Any, settings: Settings) -> Any:
    return subject.open(settings.train, settings.train_split) if settings.train else subject.train_set
