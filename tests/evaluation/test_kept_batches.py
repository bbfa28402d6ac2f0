"""What is read once and what again."""

import threading

import numpy as np
import pytest

from ncl_jax.evaluation.kept_batches import KeptBatches


class Source:
    """`count` batches of 100 bytes, and how many were asked for."""

    def __init__(self, count, value=0):
        self.count, self.value, self.made = count, value, 0

    def __call__(self):
        for number in range(self.count):
            self.made += 1
            yield {"image": np.full(100, self.value + number, np.uint8)}


def values(batches):
    return [int(batch["image"][0]) for batch in batches]


def test_a_second_reading_reads_nothing():
    kept, source = KeptBatches(300), Source(3)
    assert values(kept.read("a", source)) == values(kept.read("a", source)) == [0, 1, 2]
    assert source.made == 3


def test_keys_are_kept_apart():
    kept = KeptBatches(300)
    assert values(kept.read("a", Source(1, 10))) == [10]
    assert values(kept.read("b", Source(1, 20))) == [20]
    assert values(kept.read("a", Source(1, 30))) == [10]


def test_more_than_there_is_room_for_is_read_again():
    kept, source = KeptBatches(299), Source(3)
    assert values(kept.read("a", source)) == values(kept.read("a", source)) == [0, 1, 2]
    assert source.made == 6


def test_room_is_that_of_all_together():
    kept, first, second, third = KeptBatches(300), Source(2), Source(2), Source(1)
    for source, key in ((first, "a"), (second, "b"), (third, "c")) * 2:
        values(kept.read(key, source))
    assert (first.made, second.made, third.made) == (2, 4, 1)


def test_half_a_reading_is_not_kept():
    kept, source = KeptBatches(300), Source(3)
    batches = kept.read("a", source)
    next(batches)
    batches.close()
    assert values(kept.read("a", source)) == [0, 1, 2]
    assert source.made == 4


def test_two_readers_at_once_take_room_once():
    kept, source, other = KeptBatches(300), Source(1), Source(2)
    for _ in zip(kept.read("a", source), kept.read("a", source), strict=True):
        pass
    assert values(kept.read("b", other)) == values(kept.read("b", other)) == [0, 1]
    assert other.made == 2


def test_what_is_kept_cannot_be_changed():
    kept = KeptBatches(300)
    for _ in range(2):
        for batch in kept.read("a", Source(1)):
            with pytest.raises(ValueError, match="read-only"):
                batch["image"][0] = 1


def test_what_is_read_ahead_is_waited_for_and_read_once():
    kept, source, go = KeptBatches(300), Source(3), threading.Event()

    def slow():
        assert go.wait(60)
        yield from source()

    with kept.reading({"a": slow}):
        batches = kept.read("a", source)
        threading.Timer(0.1, go.set).start()
        assert values(batches) == [0, 1, 2]
    assert values(kept.read("a", source)) == [0, 1, 2]
    assert source.made == 3


def test_the_end_of_the_block_ends_a_reading_ahead():
    kept, endless, began = KeptBatches(300), Source(10**9), threading.Event()

    def source():
        for batch in endless():
            began.set()
            yield batch

    with kept.reading({"a": source, "b": source}):
        assert began.wait(60)
    assert values(kept.read("a", Source(1, 7))) == [7]


def test_what_fails_ahead_fails_where_it_is_read():
    kept = KeptBatches(300)

    def broken():
        raise OSError("no such file")
        yield

    with kept.reading({"a": broken}):
        with pytest.raises(OSError, match="no such file"):
            values(kept.read("a", broken))
        assert values(kept.read("a", Source(1, 7))) == [7]
