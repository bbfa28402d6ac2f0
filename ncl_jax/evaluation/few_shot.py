"""Linear probes on a small part of the labels."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int

from ncl_jax.errors import UserError
from ncl_jax.evaluation import linear_probe


def balanced_subset(labels: Int[np.ndarray, " n"], share: float, *, seed: int = 0) -> Int[np.ndarray, " k"]:
    """Sorted indices of `share` of the examples, equally many of each class (one at least), drawn by `seed`.

    Where a class has fewer, the others make up for it. The smaller of two shares with one seed is part of the larger.
    Raises UserError for a share outside (0, 1].
    """
    if not 0 < share <= 1:
        raise UserError(f"few-shot share = {share}: must be above 0 and at most 1")
    names, counts = np.unique(labels, return_counts=True)
    each = _per_class(counts, max(len(names), round(share * len(labels))))
    order = np.random.default_rng(seed).permutation(len(labels))
    chosen = [order[labels[order] == name][: min(each, count)] for name, count in zip(names, counts, strict=True)]
    return np.sort(np.concatenate(chosen))


def _per_class(counts: Int[np.ndarray, " c"], wanted: int) -> int:
    """How many of every class, or all where it has fewer, come closest to `wanted` in all."""
    sums = np.minimum(counts[None, :], np.arange(1, counts.max() + 1)[:, None]).sum(1)
    return 1 + int(np.argmin(np.abs(sums - wanted)))


def accuracies(
    train: Mapping[str, np.ndarray],
    test: Mapping[str, np.ndarray],
    *,
    num_classes: int,
    shares: Sequence[float],
    seeds: Sequence[int],
) -> dict[str, float]:
    """Top-1 with these shares of the labels, the mean over draws: `{"top1_1%": …, "top1_10%": …}`.

    `train` and `test` are dicts of `features.extract`.
    """
    result = {}
    for share in shares:
        scores = []
        for seed in seeds:
            part = balanced_subset(train["label"], share, seed=seed)
            probe = linear_probe.fit(train["features"][part], train["label"][part], num_classes=num_classes, seed=seed)
            scores.append(probe.accuracy(test["features"], test["label"]))
        result[f"top1_{100 * share:g}%"] = float(np.mean(scores))
    return result
