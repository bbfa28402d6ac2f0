"""What asks a run to end."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax


@contextlib.contextmanager
def stops() -> Iterator[list[int]]:
    """The signals that have asked the run to end: SIGTERM, or Ctrl-C, which a second time interrupts at once.

    The handlers before are put back in the end. Of several processes each has jax's own, which tells the others of
    SIGTERM: it must stay in place.
    """
    came: list[int] = []

    def ask(number: int, _: Any) -> None:
        if number == signal.SIGINT:
            if came:
                raise KeyboardInterrupt
            # Not by print, which may be what was interrupted; and behind a pipe nobody may hear it any more.
            with contextlib.suppress(OSError):
                os.write(2, b"\nCtrl-C: stopping once this step is saved; again to stop at once\n")
        came.append(number)

    handlers = {}
    if jax.process_count() == 1:
        handlers[signal.SIGTERM] = ask
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not ignored, as behind a shell's &
            handlers[signal.SIGINT] = ask
    with handled(handlers):
        yield came


@contextlib.contextmanager
def handled(handlers: Mapping[int, Callable[[int, Any], None]]) -> Iterator[None]:
    """These handlers by signal, and in the end those before; none where signals are not ours: beside the main thread,
    as in a notebook's worker or a test."""
    ours = handlers if threading.current_thread() is threading.main_thread() else {}
    before = {number: signal.signal(number, handler) for number, handler in ours.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
