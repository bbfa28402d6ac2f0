"""What asks a run to end."""

import contextlib
import os
import signal
from collections.abc import Iterator
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
            # Not by print, which may be what was interrupted.
            os.write(2, b"\nCtrl-C: stopping once this step is saved; again to stop at once\n")
        came.append(number)

    before = {}
    try:
        if jax.process_count() == 1:
            before[signal.SIGTERM] = signal.signal(signal.SIGTERM, ask)
            if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not ignored, as behind a shell's &
                before[signal.SIGINT] = signal.signal(signal.SIGINT, ask)
    except ValueError:  # not the main thread (a notebook's worker, a test): signals are not ours there
        pass
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
