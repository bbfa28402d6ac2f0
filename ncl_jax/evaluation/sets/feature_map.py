"""The features of the test images in the plane, coloured by class, as a figure."""

import dataclasses
import importlib.util
from typing import Any

import numpy as np

from ncl_jax.errors import UserError
from ncl_jax.evaluation import figures
from ncl_jax.schema import option

ROWS = ()
UNLABELLED = True


@dataclasses.dataclass(frozen=True)
class Settings:
    method: str = option("pca", choices=("pca", "tsne"))  # t-SNE needs scikit-learn
    images: int = option(2000, low=10)  # of the test split at most, drawn by the seed


def check(subject: Any, settings: Settings) -> None:
    if settings.method == "tsne" and importlib.util.find_spec("sklearn") is None:
        raise UserError("config.evaluation.sets.feature_map.method = 'tsne': needs scikit-learn; or take 'pca'")


def run(subject: Any, settings: Settings) -> dict[str, Any]:
    features, labels = subject.test["features"], subject.test["label"]
    chosen = np.sort(np.random.default_rng(subject.config.seed).permutation(len(features))[: settings.images])
    path = subject.figure("feature_map")
    if path:
        figures.feature_map(
            features[chosen],
            labels[chosen],
            path,
            names=subject.train_set.class_names or (),
            method=settings.method,
            seed=subject.config.seed,
        )
    return {"method": settings.method, "images": len(chosen)}
