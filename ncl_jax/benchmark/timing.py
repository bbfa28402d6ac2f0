"""Wall times of what runs on devices: warmed up, repeated, in turns; medians and quartiles."""

import dataclasses
import math
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax

SAMPLE = 0.05  # seconds that a sample lasts at least, by repeating the call: far more than the clock's error
LEAST, MOST = 5, 200  # samples


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds of one call: of the first one (with compilation), and the samples after the warm-up."""

    first: float
    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def quartiles(self) -> tuple[float, float]:
        """The first and the third, by linear interpolation between samples."""
        if len(self.samples) == 1:
            return self.samples[0], self.samples[0]
        low, _, high = statistics.quantiles(self.samples, n=4, method="inclusive")
        return low, high

    def scaled(self, factor: float) -> "Timing":
        """The same times in another unit, or of a part of the call."""
        return Timing(self.first * factor, tuple(sample * factor for sample in self.samples))


def measure(calls: Mapping[str, Callable[[], Any]], *, seconds: float) -> dict[str, Timing]:
    """The time of each call, until what it returns is there.

    Calls take turns, one sample each: what else the machine does meets all of them alike, so that differences and
    ratios hold where absolute times wander. Within a sample a call is repeated without waiting, as in a training loop.

    Args:
        calls: whatever has `block_until_ready` in what they return is waited for.
        seconds: per call, about; at least LEAST samples are taken however long they last.
    """
    first = {}
    for name, call in calls.items():
        first[name] = _time(call, 1)
        if name:
            progress(f"{name}: {first[name]:.3g} s at first")
    repeats = {name: max(1, math.ceil(SAMPLE / _time(call, 1))) for name, call in calls.items()}
    samples: dict[str, list[float]] = {name: [] for name in calls}
    end = time.perf_counter() + seconds * len(calls)
    for taken in range(MOST):
        if taken >= LEAST and time.perf_counter() > end:
            break
        for name, call in calls.items():
            samples[name].append(_time(call, repeats[name]))
    return {name: Timing(first[name], tuple(samples[name])) for name in calls}


def measure_one(call: Callable[[], Any], *, seconds: float) -> Timing:
    """`measure` of a single call."""
    return measure({"": call}, seconds=seconds)[""]


def progress(text: str) -> None:
    """A line on stderr: compiling takes minutes on some machines, and what is cut off has said this much."""
    print(f"  {text}", file=sys.stderr, flush=True)


def _time(call: Callable[[], Any], repeats: int) -> float:
    """Seconds of one of `repeats` calls."""
    result = None
    start = time.perf_counter()
    for _ in range(repeats):
        result = call()
    jax.block_until_ready(result)
    return max(time.perf_counter() - start, 1e-9) / repeats
