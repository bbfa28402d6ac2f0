"""How far a piece of work is."""

import os
import signal
import subprocess
import sys

import pytest

from ncl_jax import progress, signals


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


@pytest.fixture
def unheard():
    """The end of a pipe whose other end is gone, as `tee`'s is after Ctrl-C."""
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


def test_a_bar_that_nobody_sees_stops_no_run(unheard, monkeypatch):
    with open(os.dup(unheard), "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        bar = progress.Bar(10)
        bar.update(1, {"loss": 1.0})
        bar.say("saved")
        bar.close()
        with pytest.raises(BrokenPipeError):
            stdout.flush()  # so it was unheard indeed
        os.dup2(os.open(os.devnull, os.O_WRONLY), stdout.fileno())  # takes what it still holds


def test_ctrl_c_is_noted_though_it_cannot_be_told(unheard):
    before, stderr = signal.signal(signal.SIGINT, signal.default_int_handler), os.dup(2)
    os.dup2(unheard, 2)
    try:
        with signals.stops() as came:
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        signal.signal(signal.SIGINT, before)
    assert came == [signal.SIGINT]


@pytest.mark.parametrize("status", [0, 130, 143])
def test_a_process_that_nobody_hears_ends_as_it_would(unheard, status):
    code = (
        "import sys; from ncl_jax import main, progress;"
        f"main.main = lambda: progress.say('saved') or {status}; sys.exit(main.console())"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=unheard, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (status, "")
