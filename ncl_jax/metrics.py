"""What a run writes while it goes: means over intervals, TensorBoard, `metrics.jsonl`, and lines for the eye.

The only importer of clu, whose TensorBoard writer brings TensorFlow; imported when a run starts, never by the step.
"""

import json
import os
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from clu import metric_writers, metrics, parameter_overview, periodic_actions

Scalars = Mapping[str, Any]


class Means:
    """Running means of device scalars. Adding never waits for the device; only `take` fetches."""

    def __init__(self) -> None:
        self._collection: Any = None
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


class JsonlWriter(metric_writers.MetricWriter):
    """One JSON object a line: `step` and the scalars."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a")

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        self._file.write(json.dumps({"step": step} | {k: float(v) for k, v in scalars.items()}) + "\n")
        self._file.flush()

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def _not_scalars(self, step: int, *_: Any, **__: Any) -> None:
        """Images, histograms and texts go to TensorBoard alone."""

    write_summaries = write_images = write_videos = write_audios = write_texts = write_histograms = _not_scalars

    def write_hparams(self, hparams: Mapping[str, Any]) -> None:
        """The config stands in config.json."""


def writer(workdir: Path, step: int) -> metric_writers.MetricWriter:
    """TensorBoard events and `metrics.jsonl`, whose lines after `step` (of a run cut short) are dropped first."""
    path = workdir / "metrics.jsonl"
    rows = [row for row in read(path) if row["step"] <= step]
    partial = path.with_suffix(".tmp")
    partial.write_text("".join(json.dumps(row) + "\n" for row in rows))
    os.replace(partial, path)
    return metric_writers.MultiWriter(
        [metric_writers.AsyncWriter(metric_writers.SummaryWriter(os.fspath(workdir))), JsonlWriter(path)]
    )


def read(path: Path) -> list[dict[str, float]]:
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


def profile_hook(workdir: Path) -> periodic_actions.PeriodicAction:
    """Traces a few steps, once the first ones are past, into the workdir, for TensorBoard or Perfetto."""
    return periodic_actions.Profile(logdir=os.fspath(workdir), num_profile_steps=5, first_profile=10, every_secs=None)


def overview(params: Any) -> str:
    """A line per parameter with its shape, and their total."""
    return parameter_overview.get_parameter_overview(params, include_stats=False)


class Progress:
    """A bar with the time left where output is a terminal; else a plain line every now and then."""

    def __init__(self, total: int, start: int = 0, *, unit: str = "step", stream: Any = None) -> None:
        self._stream, self._unit = stream or sys.stdout, unit
        self._total, self._done, self._began, self._start = total, start, time.perf_counter(), start
        self._text = ""

    def update(self, step: int, scalars: Scalars | None = None) -> None:
        """Redraw the bar; with new `scalars` also where there is no terminal."""
        self._done = step
        if scalars:
            self._text = "  ".join(f"{name} {_short(value)}" for name, value in scalars.items())
        if self._stream.isatty():
            width = shutil.get_terminal_size().columns - 1
            filled = 20 * step // self._total
            bar = "\u2501" * filled + "\u2500" * (20 - filled)
            self._stream.write("\r" + f"{bar} {self._position()}  {self._text}"[:width].ljust(width))
        elif scalars:
            self._stream.write(f"{self._unit} {self._position()}  {self._text}\n")
        self._stream.flush()

    def say(self, line: str) -> None:
        """A line of its own, above the bar."""
        if self._stream.isatty():
            self._stream.write("\r" + " " * (shutil.get_terminal_size().columns - 1) + "\r")
        self._stream.write(line + "\n")
        self._stream.flush()

    def close(self) -> None:
        if self._stream.isatty():
            self._stream.write("\n")

    def _position(self) -> str:
        made = self._done - self._start
        left = (time.perf_counter() - self._began) / made * (self._total - self._done) if made else 0.0
        return f"{self._done}/{self._total}" + (f" {_clock(left)} left" if made else "")


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
