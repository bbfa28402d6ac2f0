"""How far a piece of work is."""

import pytest

from ncl_jax import progress


@pytest.fixture
def clock(monkeypatch):
    """Seconds, in a list of one, as `progress` sees them."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_countdown_tells_every_half_minute_what_is_left(clock):
    lines = []
    countdown = progress.Countdown("imagenet[test]", 1000, lines.append)
    for done in range(10):  # the first, which compiles, takes a minute; the others ten seconds each
        clock[0] += 10 if done else 60
        countdown.add(100)
    assert lines == [
        "imagenet[test]: 200 of 1000 images, 1:20 left",
        "imagenet[test]: 500 of 1000 images, 0:50 left",
        "imagenet[test]: 800 of 1000 images, 0:20 left",
    ]


def test_what_is_done_soon_is_not_told(clock):
    lines = []
    countdown = progress.Countdown("probe", 25, lines.append, unit="steps")
    for _ in range(25):
        clock[0] += 1
        countdown.add(1)
    assert not lines


def test_a_last_batch_that_is_not_full_counts_as_what_there_is(clock):
    lines = []
    items = progress.told("abc", progress.Countdown("x", 5, lines.append), each=2)
    for item in items:
        clock[0] += 40 if item in "bc" else 0
    assert lines == ["x: 4 of 5 images, 0:20 left", "x: 5 of 5 images, 0:00 left"]


def test_what_comes_at_once_has_no_speed(clock):
    lines = []
    countdown = progress.Countdown("x", 5, lines.append)
    for _ in range(2):
        clock[0] += 40
        countdown.add(5)
    assert not lines
