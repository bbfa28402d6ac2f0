"""What a run writes while it goes: means over intervals, TensorBoard, `metrics.jsonl`, and lines for the eye.

The only importer of clu, whose writers need TensorFlow: without it there is `metrics.jsonl` alone. Imported when a run
starts, never by the step.
"""

import contextlib
import json
import logging
import math
import os
import sys
import tempfile
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import jax
from clu import metrics, parameter_overview

from ncl_jax import storage

log = logging.getLogger(__name__)

Scalars = Mapping[str, Any]
PROFILED = range(10, 15)  # steps that `profile` traces: the first ones compile


class Means:
    """Running means of device scalars. Only `fetch` waits for the device."""

    def __init__(self) -> None:
        self._collection: Any = None
        self._first: Any = None
        self._merge: Any = None

    def add(self, scalars: Mapping[str, jax.Array]) -> None:
        if self._merge is None:
            averages = {name: metrics.Average.from_output(name) for name in scalars}
            kind = metrics.Collection.create(**averages)
            self._first = jax.jit(lambda new: kind.single_from_model_output(**new))
            self._merge = jax.jit(lambda old, new: old.merge(kind.single_from_model_output(**new)))
        if self._collection is None:
            self._collection = self._first(dict(scalars))
        else:
            self._collection = self._merge(self._collection, dict(scalars))

    def take(self) -> "metrics.Collection | None":
        """The interval's collection, still on the device, and start anew; None when nothing was added."""
        collection, self._collection = self._collection, None
        return collection

    @staticmethod
    def fetch(collection: "metrics.Collection") -> dict[str, float]:
        """Wait for the device and return the means."""
        return {name: float(value) for name, value in jax.device_get(collection).compute().items()}


class Writer(Protocol):
    """Where scalars go."""

    def write_scalars(self, step: int, scalars: Scalars) -> None: ...

    def flush(self) -> None: ...

    def close(self) -> None: ...


class JsonlWriter:
    """One JSON object a line: `step` and the scalars; null for what is not finite, of which JSON knows no number."""

    def __init__(self, path: Path, rows: Iterable[Mapping[str, Any]] = ()) -> None:
        self._log = storage.Log(path, "".join(json.dumps(row) + "\n" for row in rows))

    def write_scalars(self, step: int, scalars: Scalars) -> None:
        numbers = {name: float(value) for name, value in scalars.items()}
        row = {"step": step} | {name: value if math.isfinite(value) else None for name, value in numbers.items()}
        self._log.write(json.dumps(row, allow_nan=False) + "\n")

    def flush(self) -> None:
        self._log.flush()

    def close(self) -> None:
        self._log.close()


def writer(workdir: Path, step: int) -> Writer:
    """`metrics.jsonl`, whose lines after `step` (of a run cut short) are dropped first, and TensorBoard's events."""
    path = workdir / "metrics.jsonl"
    lines = JsonlWriter(path, [row for row in read(path) if row["step"] <= step])
    if storage.in_bucket(path):  # TensorFlow would write them, by a way of its own
        log.info("no events for TensorBoard in a bucket: metrics.jsonl has all figures")
        return lines
    try:
        writers = _clu_writers()
    except ImportError as error:
        log.info("no events for TensorBoard, for want of TensorFlow (%s): metrics.jsonl has all figures", error)
        return lines
    events = writers.AsyncWriter(writers.SummaryWriter(os.fspath(workdir)))
    return writers.MultiWriter([events, lines])  # pyright: ignore[reportArgumentType]


def _clu_writers() -> Any:
    """clu's writers; they import TensorFlow, which is imported its own way before, and TensorBoard's hyperparameters.

    Of these one class is derived from Keras', which would be imported for it alone, in a second or two.
    """
    import ncl_jax.data.tf  # noqa: F401

    package = "tensorboard.plugins.hparams"
    stand_in = f"{package}._keras" not in sys.modules
    if stand_in:
        sys.modules[f"{package}._keras"] = types.ModuleType("_keras")
        sys.modules[f"{package}._keras"].Callback = object  # pyright: ignore[reportAttributeAccessIssue]
    from clu import metric_writers

    if stand_in:  # and what was made with it: who asks for these himself gets the true ones
        for name in ("_keras", "api"):
            sys.modules.pop(f"{package}.{name}", None)
            vars(sys.modules[package]).pop(name, None)
    return metric_writers


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a `metrics.jsonl`; a last line that a kill cut short is left out."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def last_step(path: Path) -> int:
    """The step of the last whole row of a `metrics.jsonl`; 0 where there is none. Reads only its end."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 8192))
            lines = file.read().splitlines()
    except OSError:
        return 0
    for line in reversed(lines):
        try:
            return int(json.loads(line)["step"])
        except (ValueError, KeyError, TypeError):
            continue
    return 0


@contextlib.contextmanager
def profile(workdir: Path) -> Iterator[Callable[[int], None]]:
    """A function to be called with the number of steps done: traces those of PROFILED (where steps are taken several at
    a time, the first call that begins there) into the workdir, for TensorBoard or Perfetto. A run that ends among them
    leaves the trace of those it took. That of a run in a bucket lies in a folder of this machine."""
    folder = tempfile.mkdtemp(prefix="ncl_jax_trace_") if storage.in_bucket(workdir) else os.fspath(workdir)
    if storage.in_bucket(workdir):
        log.info("the trace will lie in %s", folder)
    tracing = done = False

    def hook(step: int) -> None:
        nonlocal tracing, done
        if tracing and step >= PROFILED.stop - 1:
            jax.profiler.stop_trace()
            tracing, done = False, True
        elif not (tracing or done) and step >= PROFILED.start - 1:
            jax.profiler.start_trace(folder)
            tracing = True

    try:
        yield hook
    finally:
        if tracing:
            jax.profiler.stop_trace()


def overview(params: Any) -> str:
    """A line per parameter with its shape, and their total."""
    return parameter_overview.get_parameter_overview(params, include_stats=False)
