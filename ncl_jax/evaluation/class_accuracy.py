"""Which classes a change helps and which it costs, and whether fine classes differ from coarse ones."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int


def per_class(probabilities: Float[np.ndarray, "n c"], labels: Int[np.ndarray, " n"]) -> Float[np.ndarray, " c"]:
    """Top-1 of the images of each class in [0, 1]; NaN for a class without images."""
    count = np.bincount(labels, minlength=probabilities.shape[1])
    right = np.bincount(labels[np.argmax(probabilities, axis=1) == labels], minlength=probabilities.shape[1])
    return np.where(count > 0, right / np.maximum(count, 1), np.nan)


def changes(
    before: Float[np.ndarray, " c"], after: Float[np.ndarray, " c"], names: Sequence[str]
) -> list[tuple[str, float, float, float]]:
    """(name, before, after, difference) of every class that both have, the greatest gain first."""
    rows = [
        (name, float(b), float(a), float(a - b))
        for name, b, a in zip(names, before, after, strict=True)
        if np.isfinite(b) and np.isfinite(a)
    ]
    return sorted(rows, key=lambda row: (-row[3], row[0]))


def against_hierarchy(accuracy: Float[np.ndarray, " c"], hierarchy: Mapping[str, Sequence[int]]) -> dict[str, float]:
    """Spearman's rank correlation of the accuracy with each measure of `imagenet_classes.hierarchy`.

    NaN where a measure or the accuracy is the same for all classes.
    """
    seen = np.isfinite(accuracy)
    return {
        name: _rank_correlation(np.asarray(accuracy)[seen], np.asarray(values, np.float64)[seen])
        for name, values in hierarchy.items()
    }


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    if len(a) < 2 or not (np.ptp(a) and np.ptp(b)):
        return float("nan")
    from scipy.stats import spearmanr  # only here: a second to import

    result: Any = spearmanr(a, b)
    return float(result.statistic)
