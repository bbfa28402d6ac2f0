import threading
import time

import jax
import numpy as np
import pytest

from ncl_jax import parallel
from ncl_jax.data.prefetch import Prefetch


class Counter:
    """Batches that hold their number; fails after `count`."""

    def __init__(self, count=5, error=None, delay=0.0):
        self.done, self.count, self.error, self.delay = 0, count, error, delay
        self.closed = False

    @property
    def position(self):
        return {"offset": self.done}

    def close(self):
        self.closed = True

    def __next__(self):
        time.sleep(self.delay)
        if self.done == self.count:
            raise self.error or StopIteration
        self.done += 1
        return {"x": np.full((8, 2), self.done, np.int32)}


@pytest.fixture(autouse=True)
def _no_thread_stays():
    before = set(threading.enumerate())  # some of them, of other tests, may end meanwhile
    yield
    assert set(threading.enumerate()) - before == set()


def sharding():
    return parallel.batch_sharding(parallel.data_mesh())


def test_batches_are_global_and_carry_their_own_position():
    with Prefetch(Counter(), sharding()) as batches:
        seen = list(batches)
    assert [int(batch["x"][0, 0]) for batch, _ in seen] == [1, 2, 3, 4, 5]
    assert [position["offset"] for _, position in seen] == [1, 2, 3, 4, 5]  # though the source was ahead
    assert len(seen[0][0]["x"].sharding.device_set) == len(jax.devices())


def test_runs_ahead_by_its_depth_only():
    source = Counter(count=100)
    with Prefetch(source, sharding()):
        assert not source.closed
        time.sleep(0.5)
        assert source.done == 3  # two wait, one is held by the thread


def test_error_of_the_source_comes_in_its_place_and_stays():
    with Prefetch(Counter(count=2, error=RuntimeError("broken")), sharding()) as batches:
        next(batches)
        next(batches)
        for _ in range(2):
            with pytest.raises(RuntimeError, match="broken"):
                next(batches)


def test_waiting_is_measured_and_closing_twice_is_fine():
    batches = Prefetch(Counter(delay=0.1), sharding())
    next(batches)
    assert batches.waited > 0.05
    batches.close()
    batches.close()
    with pytest.raises(StopIteration):
        next(batches)
