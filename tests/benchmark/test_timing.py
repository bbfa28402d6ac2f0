"""The arithmetic of samples; no test asserts how long anything takes."""

import math

import numpy as np
import pytest

from ncl_jax.benchmark import timing
from ncl_jax.benchmark.timing import Timing


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_median_and_quartiles_are_numpys(count):
    samples = np.random.default_rng(count).uniform(1.0, 2.0, count)
    measured = Timing(9.0, tuple(samples))
    assert measured.median == pytest.approx(np.median(samples))
    np.testing.assert_allclose(measured.quartiles, np.quantile(samples, [0.25, 0.75]))


def test_scaled_scales_everything():
    assert Timing(2.0, (1.0, 3.0)).scaled(10) == Timing(20.0, (10.0, 30.0))


class Clock:
    """A clock that only calls move, and the results that they return: ready when waited for."""

    def __init__(self, monkeypatch):
        self.now, self.waited = 0.0, 0
        monkeypatch.setattr(timing.time, "perf_counter", lambda: self.now)

    def call(self, seconds, *, late=0.0):
        class Pending:
            def block_until_ready(pending):
                self.now += late
                self.waited += 1

        def run():
            self.now += seconds
            return Pending()

        return run


def test_first_call_and_warm_up_stay_out_of_the_samples(monkeypatch):
    clock = Clock(monkeypatch)
    durations = iter([100.0, 10.0])

    def call():
        clock.now += next(durations, 1.0)

    measured = timing.measure_one(call, seconds=7.0)
    assert measured.first == 100.0
    assert set(measured.samples) == {1.0}
    assert len(measured.samples) == 8  # the last one starts before the time is over


def test_at_least_and_at_most_so_many_samples(monkeypatch):
    clock = Clock(monkeypatch)
    assert len(timing.measure_one(clock.call(60.0), seconds=1.0).samples) == timing.LEAST
    assert len(timing.measure_one(clock.call(1.0), seconds=1e6).samples) == timing.MOST


def test_short_calls_are_repeated_and_waited_for_once_a_sample(monkeypatch):
    clock = Clock(monkeypatch)
    measured = timing.measure_one(clock.call(0.001, late=0.0085), seconds=0.001)
    repeats = math.ceil(timing.SAMPLE / 0.0095)
    assert clock.waited == 2 + timing.LEAST  # two to warm up, and each sample's last
    np.testing.assert_allclose(measured.samples, 0.001 + 0.0085 / repeats)


def test_calls_take_turns(monkeypatch):
    clock = Clock(monkeypatch)
    order = []

    def named(name, seconds):
        def call():
            order.append(name)
            clock.now += seconds

        return call

    measured = timing.measure({"a": named("a", 1.0), "b": named("b", 2.0)}, seconds=0.1)
    assert "".join(order[4:]) == "ab" * timing.LEAST
    assert (measured["a"].median, measured["b"].median) == (1.0, 2.0)
