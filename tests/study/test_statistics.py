"""Means, deviations and intervals against hand-worked figures and SciPy."""

import math

import numpy as np
import pytest
import scipy.stats

from ncl_jax.study import statistics


def test_mean_and_deviation_by_hand():
    assert statistics.mean_and_deviation([1.0, 2.0, 6.0]) == (3.0, pytest.approx(math.sqrt(7)))  # (4 + 1 + 9) / 2
    assert statistics.mean_and_deviation([0.25]) == (0.25, None)


def test_paired_difference_by_hand():
    """Differences 1, 2, 3: mean 2, deviation 1, t of 2 degrees at 95 % 4.3027."""
    found = statistics.difference({0: 11.0, 1: 22.0, 2: 33.0, 7: 99.0}, {0: 10.0, 1: 20.0, 2: 30.0, 9: -5.0})
    half = 4.302652729911275 / math.sqrt(3)
    assert found == statistics.Difference(2.0, pytest.approx(2 - half), pytest.approx(2 + half), 3, True)


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_paired_difference_equals_scipy(confidence):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=6), rng.normal(size=6)
    found = statistics.difference(dict(enumerate(a)), dict(enumerate(b)), confidence=confidence)
    interval = scipy.stats.ttest_rel(a, b).confidence_interval(confidence)
    assert (found.low, found.high) == (pytest.approx(interval.low), pytest.approx(interval.high))


def test_seeds_that_do_not_match_give_welchs_interval():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=3), rng.normal(1, 3, size=5)
    found = statistics.difference(dict(enumerate(a)), {10 + i: v for i, v in enumerate(b)})
    interval = scipy.stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert found.mean == pytest.approx(a.mean() - b.mean())
    assert (found.low, found.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert (found.paired, found.seeds) == (False, 3)


def test_too_few_seeds_have_no_interval():
    assert statistics.difference({0: 3.0}, {0: 1.0}) == statistics.Difference(2.0, None, None, 1, True)
    assert statistics.difference({1: 3.0}, {0: 1.0}) == statistics.Difference(2.0, None, None, 1, False)
    assert statistics.difference({1: 3.0}, {0: 1.0, 2: 2.0}).low is None
    assert statistics.difference({}, {0: 1.0}) is None
    assert statistics.difference({0: 1.0}, {}) is None


def test_differences_without_a_spread_have_no_interval():
    """As of two seeds that happen to gain the same number of images: one of no width would establish the gain."""
    assert statistics.difference({0: 2.0, 1: 3.0}, {0: 1.0, 1: 2.0}) == statistics.Difference(1.0, None, None, 2, True)
    assert statistics.difference({3: 2.0, 4: 2.0}, {0: 1.0, 1: 1.0}) == statistics.Difference(1.0, None, None, 2, False)
