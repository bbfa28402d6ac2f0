"""How far a piece of work is, for the eye: nothing that it says is worth the work.

Where nobody hears it (Ctrl-C ends `tee` behind a pipe too) or the log's disk is full, it says nothing.
"""

import contextlib
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TextIO, TypeVar

EVERY = 30.0  # seconds between two lines of a countdown
Item = TypeVar("Item")


def say(line: str, stream: TextIO | None = None) -> None:
    """Print a line, at once; on stdout by default."""
    _write(line + "\n", stream or sys.stdout)


def _write(text: str, stream: TextIO) -> None:
    with contextlib.suppress(OSError):
        stream.write(text)
        stream.flush()


class Bar:
    """A bar with the time left where output is a terminal; else a plain line every now and then."""

    def __init__(self, total: int, start: int = 0, *, unit: str = "step") -> None:
        self._terminal, self._unit = sys.stdout.isatty(), unit
        self._total, self._done = total, start
        self._first: tuple[int, float] | None = None  # the first update: compiling is over
        self._text = ""

    def update(self, step: int, scalars: Mapping[str, Any] | None = None) -> None:
        """Redraw the bar; with new `scalars` also where there is no terminal."""
        self._done = step
        self._first = self._first or (step, time.perf_counter())
        if scalars:
            self._text = "  ".join(f"{name} {_short(value)}" for name, value in scalars.items())
        if self._terminal:
            width = shutil.get_terminal_size().columns - 1
            filled = 20 * step // self._total
            bar = "\u2501" * filled + "\u2500" * (20 - filled)
            _write("\r" + f"{bar} {self._position()}  {self._text}"[:width].ljust(width), sys.stdout)
        elif scalars:
            say(f"{self._unit} {self._position()}  {self._text}")

    def say(self, line: str) -> None:
        """A line of its own, above the bar."""
        blank = "\r" + " " * (shutil.get_terminal_size().columns - 1) + "\r" if self._terminal else ""
        say(blank + line)

    def close(self) -> None:
        if self._terminal:
            say("")

    def _position(self) -> str:
        first, began = self._first or (self._done, 0.0)
        if self._done == first:
            return f"{self._done}/{self._total}"
        seconds = time.perf_counter() - began
        return f"{self._done}/{self._total} {_left(seconds, self._done - first, self._total - self._done)}"


class Countdown:
    """Tells every `EVERY` seconds how many of `total` are done and how long the rest will take: of work that mostly is
    done sooner, and then tells nothing."""

    def __init__(self, what: str, total: int, say: Callable[[str], None], *, unit: str = "images") -> None:
        self._what, self._total, self._say, self._unit = what, total, say, unit
        self._done = self._first = 0
        self._began = self._told = time.monotonic()

    def add(self, count: int) -> None:
        """So many more are done."""
        self._done, now = min(self._done + count, self._total), time.monotonic()
        if not self._first:  # compiling is over
            self._first, self._began = self._done, now
        elif now - self._told >= EVERY and self._done > self._first:
            left = _left(now - self._began, self._done - self._first, self._total - self._done)
            self._say(f"{self._what}: {self._done} of {self._total} {self._unit}, {left}")
            self._told = now


def told(items: Iterable[Item], countdown: Countdown, *, each: int = 1) -> Iterator[Item]:
    """The items; when the next is asked for, one is done, which counts as `each`."""
    for item in items:
        yield item
        countdown.add(each)


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _left(seconds: float, done: int, rest: int) -> str:
    """How long the rest takes if what is done took so many seconds."""
    minutes, seconds = divmod(int(seconds / done * rest + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02} left" if hours else f"{minutes}:{seconds:02} left"
