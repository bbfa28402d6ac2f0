"""How the features of the test images lie on the sphere: dimensions in use and uniformity."""

import dataclasses
from typing import Any

import numpy as np

from ncl_jax.evaluation import feature_statistics
from ncl_jax.evaluation.rows import Row
from ncl_jax.schema import option

ROWS = (
    Row("effective_rank", "effective rank of the features", ""),
    Row("uniformity", "uniformity", ""),
)


@dataclasses.dataclass(frozen=True)
class Settings:
    images: int = option(4000, low=2)  # of the test split at most, drawn by the seed: pairs take memory


def check(subject: Any, settings: Settings) -> None:
    """Its images are the test split's, which is looked at anyway."""


def run(subject: Any, settings: Settings) -> dict[str, Any]:
    features = subject.test["features"]
    chosen = np.sort(np.random.default_rng(subject.config.seed).permutation(len(features))[: settings.images])
    return {
        "effective_rank": float(feature_statistics.effective_rank(features[chosen])),
        "uniformity": float(feature_statistics.uniformity(features[chosen])),
        "images": len(chosen),
    }
