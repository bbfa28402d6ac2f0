"""Means over seeds and differences to a baseline, with intervals of Student's t."""

import math
from collections.abc import Mapping
from typing import NamedTuple


class Difference(NamedTuple):
    """To the baseline. `low` and `high` bound its confidence interval; None where there are too few seeds,
    or where these differ by nothing, as on few images they may by chance."""

    mean: float
    low: float | None
    high: float | None
    seeds: int  # that both have; of the smaller group where not paired
    paired: bool


def mean_and_deviation(values: list[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation (n - 1); None of a single value. `values` must not be empty."""
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return mean, None
    return mean, math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))


def difference(
    values: Mapping[int, float], baseline: Mapping[int, float], *, confidence: float = 0.95
) -> Difference | None:
    """How much `values` (seed -> figure) exceed those of the baseline; None where either has none.

    Over the seeds that both have, where these are two or more: the mean of the pairs' differences and its t interval
    with n - 1 degrees of freedom. Else of the two means, with Welch's interval if both have two seeds or more.
    """
    if not values or not baseline:
        return None
    common = sorted(values.keys() & baseline.keys())
    if len(common) >= 2 or (len(common) == 1 and min(len(values), len(baseline)) == 1):
        pairs = [values[seed] - baseline[seed] for seed in common]
        mean, deviation = mean_and_deviation(pairs)
        if not deviation:
            return Difference(mean, None, None, len(pairs), True)
        half = quantile(confidence, len(pairs) - 1) * deviation / math.sqrt(len(pairs))
        return Difference(mean, mean - half, mean + half, len(pairs), True)
    (a, deviation_a), (b, deviation_b) = (mean_and_deviation([*group.values()]) for group in (values, baseline))
    seeds = min(len(values), len(baseline))
    if deviation_a is None or deviation_b is None:
        return Difference(a - b, None, None, seeds, False)
    share_a, share_b = deviation_a**2 / len(values), deviation_b**2 / len(baseline)
    if share_a + share_b == 0:
        return Difference(a - b, None, None, seeds, False)
    freedom = (share_a + share_b) ** 2 / (share_a**2 / (len(values) - 1) + share_b**2 / (len(baseline) - 1))
    half = quantile(confidence, freedom) * math.sqrt(share_a + share_b)
    return Difference(a - b, a - b - half, a - b + half, seeds, False)


def quantile(confidence: float, freedom: float) -> float:
    """t such that Student's t of so many degrees of freedom lies within +-t with this probability."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + confidence) / 2))
