"""What `pictures` does, in processes of their own where there are many cores.

Python lets one thread at a time hold its lock, and an image needs it for a quarter of its time (its header, memory and
copies of its pixels): from some four cores on, threads that decode wait for each other. So each of them has a process
there that does the work, and waits for it outside of the lock. What is done, and which pixels come out, is the same.

A request and its answer lie in memory that both share; a line through a pipe says how many bytes of what. A process
ends with the one that started it. Where one cannot be started or is killed, the thread does the work itself.
"""

import atexit
import functools
import logging
import mmap
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import IO, Any, Concatenate

import numpy as np

from ncl_jax.data import pictures, workers
from ncl_jax.data.pictures import Encoded, P, R

log = logging.getLogger(__name__)

MANY = 8  # cores from which on there are processes
SMALL = 2**13  # bytes of an image that is done sooner than sent
ROOM = 2**25  # bytes that both share, taken as they are needed; what is larger is done by the thread


def wanted() -> int:
    """Processes at the most: one for each thread of `workers`, none where there are few cores."""
    cores = workers.cores()
    return min(cores, workers.MOST) if cores >= MANY and hasattr(os, "memfd_create") else 0


class _Decoder:
    """One process. A call raises OverflowError where ROOM is too little for it, OSError where the process has ended."""

    def __init__(self):
        memory = os.memfd_create("ncl_jax")
        try:
            os.ftruncate(memory, ROOM)
            self._shared = mmap.mmap(memory, ROOM)
            # The same modules, wherever they come from; and no part of what Ctrl-C interrupts.
            start = (
                f"import sys; sys.path[:] = {sys.path!r}; from ncl_jax.data import decoders; decoders._serve({memory})"
            )
            self._process = subprocess.Popen(
                [sys.executable, "-c", start],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=[memory],
                start_new_session=True,
            )
        finally:
            os.close(memory)

    def __call__(self, name: str, arguments: Any) -> tuple[bool, Any]:
        """Whether it went well, and what came of it: a value or an exception."""
        requests, answers = self._process.stdin, self._process.stdout
        assert requests is not None
        assert answers is not None
        _send(requests, self._shared, (name, arguments))
        return _receive(answers, self._shared)

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


def _send(pipe: IO[bytes], shared: mmap.mmap, item: Any) -> None:
    """Pickled, arrays apart: they are then copied by NumPy, which lets go of the lock."""
    arrays: list[pickle.PickleBuffer] = []
    parts = [pickle.dumps(item, protocol=5, buffer_callback=arrays.append), *(array.raw() for array in arrays)]
    sizes = [len(part) for part in parts]
    if sum(sizes) > len(shared):
        raise OverflowError(f"{sum(sizes)} bytes")
    start = 0
    for part, size in zip(parts, sizes, strict=True):
        np.frombuffer(shared, np.uint8, size, start)[:] = np.frombuffer(part, np.uint8)
        start += size
    pipe.write(b"%s\n" % " ".join(map(str, sizes)).encode())
    pipe.flush()


def _receive(pipe: IO[bytes], shared: mmap.mmap) -> Any:
    line = pipe.readline()
    if not line:
        raise BrokenPipeError("the other process has ended")
    parts, start = [], 0
    for size in map(int, line.split()):
        parts.append(np.frombuffer(shared, np.uint8, size, start).copy())
        start += size
    return pickle.loads(parts[0], buffers=parts[1:])


def _serve(memory: int) -> None:
    """The process: answers requests until there are no more."""
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    with mmap.mmap(memory, ROOM) as shared:
        while True:
            try:
                name, (args, kwargs) = _receive(requests, shared)
            except BrokenPipeError:
                break
            try:
                answer = True, getattr(pictures, name)(*args, **kwargs)
            except Exception as error:
                answer = False, error
            try:
                _send(answers, shared, answer)
            except OverflowError as error:
                _send(answers, shared, (False, error))


_idle: list[_Decoder] = []
_started = 0
_starting = threading.Lock()


def _taken() -> _Decoder | None:
    """A decoder that nobody uses, None where there are as many as are wanted."""
    global _started
    try:
        return _idle.pop()
    except IndexError:
        pass
    with _starting:
        if _started >= wanted():
            return None
        _started += 1
    try:
        return _Decoder()
    except OSError as error:
        log.warning("no process could be started to decode images, threads do it: %s", error)
        return None


def _beside(function: Callable[Concatenate[Encoded, P], R]) -> Callable[Concatenate[Encoded, P], R]:
    """`function` of `pictures`, by an idle decoder if there is one."""

    @functools.wraps(function)
    def call(encoded: Encoded, *args: P.args, **kwargs: P.kwargs) -> R:
        worth_it = isinstance(encoded, bytes) and len(encoded) > SMALL
        decoder = _taken() if worth_it and wanted() else None
        if decoder is None:
            return function(encoded, *args, **kwargs)
        try:
            good, answer = decoder(function.__name__, ((encoded, *args), kwargs))
        except OverflowError:  # before anything was sent
            _idle.append(decoder)
            return function(encoded, *args, **kwargs)
        except (OSError, ValueError) as error:  # ValueError: something else writes to its output
            log.warning("a process that decodes images has ended, its thread goes on: %s", error)
            decoder.end()
            return function(encoded, *args, **kwargs)
        except BaseException:  # Ctrl-C: its answer would be taken for that to another request
            decoder.end()
            raise
        _idle.append(decoder)
        if good:
            return answer
        if isinstance(answer, OverflowError):
            return function(encoded, *args, **kwargs)
        raise answer

    return call


@atexit.register
def _end() -> None:
    while _idle:
        _idle.pop().end()


crops = _beside(pictures.crops)
squeezed = _beside(pictures.squeezed)
centre_crop = _beside(pictures.centre_crop)
exemplars = _beside(pictures.exemplars)
decode = _beside(pictures.decode)
