"""Threads that fill batches: they end with who asks for them, and hold nobody up."""

import threading

import numpy as np

from ncl_jax.data import workers


def test_an_iterator_that_is_dropped_waits_for_no_thread():
    """The garbage collector drops it wherever it comes by, as within the start of a thread: that were for ever."""
    before, held, seen = set(threading.enumerate()), threading.Event(), []

    def function(item):
        seen.append(item)
        if item:
            assert held.wait(60)
        return {"row": item}

    batches = workers.fill(([item] for item in range(9)), function, {"row": ((), np.int32)}, size=1, threads=1)
    try:
        assert next(batches).filled.all()
        dropping = threading.Thread(target=batches.close)
        dropping.start()
        dropping.join(20)
        assert not dropping.is_alive()
    finally:
        held.set()
    for thread in set(threading.enumerate()) - before:
        thread.join(20)
        assert not thread.is_alive()
    assert seen in ([0], [0, 1])  # what had not begun is given up
