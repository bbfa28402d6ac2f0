"""Cosines of queries to what they are compared with: positives, the queue, negatives of every kind."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float


def similarities(
    query: Float[np.ndarray, "b d"],
    *,
    positive: Float[np.ndarray, "b d"] | None = None,
    queue: Float[np.ndarray, "n d"] | None = None,
    negatives: Mapping[str, Float[np.ndarray, "b m d"]] | None = None,
) -> dict[str, Float[np.ndarray, " k"]]:
    """Cosines in [-1, 1] under the names `positive`, `queue` (all pairs) and each kind of negative (own pairs only)."""
    q = _unit(query)
    result = {}
    if positive is not None:
        result["positive"] = np.sum(q * _unit(positive), axis=1)
    if queue is not None:
        result["queue"] = (q @ _unit(queue).T).ravel()
    for kind, embeddings in (negatives or {}).items():
        result[kind] = np.einsum("bd,bmd->bm", q, _unit(embeddings)).ravel()
    return result


def summary(cosines: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Mean, standard deviation and the share above the mean cosine to the positive, of each kind."""
    level = float(np.mean(cosines["positive"]))
    rows = {}
    for kind, values in cosines.items():
        rows[kind] = {"mean": float(np.mean(values)), "std": float(np.std(values))}
        if kind != "positive" and np.isfinite(level):
            rows[kind]["above_positive"] = float(np.mean(values > level))
    return rows


def _unit(x: np.ndarray) -> np.ndarray:
    x = np.asarray(x, np.float32)
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
