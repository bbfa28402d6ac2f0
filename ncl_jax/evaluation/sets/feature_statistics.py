"""How the features of the test images lie on the sphere: dimensions in use, uniformity, alignment of two views."""

import dataclasses
from typing import Any

import jax
import numpy as np

from ncl_jax import parallel
from ncl_jax.evaluation import feature_statistics, training_views
from ncl_jax.evaluation.rows import Row
from ncl_jax.schema import option

ROWS = (
    Row("effective_rank", "effective rank of the features", ""),
    Row("uniformity", "uniformity", ""),
    Row("alignment", "alignment of two views", ""),
)
UNLABELLED = True
ANALYSIS = True


@dataclasses.dataclass(frozen=True)
class Settings:
    images: int = option(4000, low=2)  # of the test split at most, drawn by the seed: pairs take memory


def check(subject: Any, settings: Settings) -> None:
    training_views.as_trained(subject.config)


def run(subject: Any, settings: Settings) -> dict[str, Any]:
    features = subject.test["features"]
    chosen = np.sort(np.random.default_rng(subject.config.seed).permutation(len(features))[: settings.images])
    queries, keys = _views(subject, settings.images)
    return {
        "effective_rank": float(feature_statistics.effective_rank(features[chosen])),
        "uniformity": float(feature_statistics.uniformity(features[chosen])),
        "alignment": float(feature_statistics.alignment(queries, keys)),
        "images": len(chosen),
    }


def _views(subject: Any, images: int) -> tuple[np.ndarray, np.ndarray]:
    """Features of two random views of each image, made as in training; batch norm in eval mode."""
    config = training_views.as_trained(subject.config)
    variables = jax.device_put(jax.tree.map(parallel.local_value, subject.variables), jax.local_devices()[0])
    encode, pairs = subject.encoder.encode_views, []
    for views in training_views.batches(subject.encoder, config, images=images):
        queries, shuffled = (np.asarray(encode(variables, views[name]), np.float32) for name in ("query", "key"))
        keys = np.empty_like(shuffled)
        keys[np.asarray(views["key_order"])] = shuffled
        pairs.append((queries, keys))
    return np.concatenate([q for q, _ in pairs]), np.concatenate([k for _, k in pairs])
