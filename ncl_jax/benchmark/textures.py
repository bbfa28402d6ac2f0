"""Texture synthesis: how fast each quality is, and how good (see `ncl_jax.textures.quality` for the measures)."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ncl_jax.benchmark import timing
from ncl_jax.benchmark.result import Options, Result, Row, spread
from ncl_jax.textures import QUALITIES, quality, synthesize

SIZE, EXEMPLAR = 224, 96
BATCH = {"cpu": 32}  # elsewhere 256
ALL = (*QUALITIES, "faithful")
SEEDS = (44, 45, 46, 47)  # of the textures whose quality is measured; no setting was chosen by them
# Pairs of patches of photographs and the paper's tool's textures of them, beside a checkout.
REFERENCE = Path(__file__).resolve().parents[3] / "shared" / "reference" / "texture" / "pairs_and_reference.npz"


def run(options: Options) -> Result:
    """Speed at 224 px (of `faithful` at batch 1), quality on drawn exemplars, and on photographs where they are."""
    speed, samples = _speed(options.seconds)
    tables = {f"Speed at {SIZE} px": speed, "Drawn exemplars (4 pairs)": _quality(quality.builtin_exemplars(), None)}
    notes = [
        f"figures of quality are in grey levels / 255, island in pixels, means over the seeds {SEEDS[0]} to {SEEDS[-1]}"
    ]
    if REFERENCE.is_file():
        exemplars, reference = quality.load_reference(REFERENCE)
        tables[f"Photographs ({len(exemplars)} pairs)"] = _quality(exemplars, reference)
    else:
        notes.append(f"no photographs: {REFERENCE} is not there")
    return Result(tables, notes, samples)


def _speed(seconds: float) -> tuple[list[Row], dict[str, tuple[float, ...]]]:
    batch = BATCH.get(jax.default_backend(), 256)
    patches = np.repeat(quality.builtin_exemplars(EXEMPLAR), batch // 4, axis=0)
    calls: dict[str, Callable[[], Any]] = {}
    for name in ALL:
        exemplars = jnp.asarray(patches if name in QUALITIES else patches[:1])
        calls[name] = partial(synthesize, jax.random.key(0), exemplars, size=SIZE, quality=name)
    rows = []
    measured = {name: timing.measure_one(call, seconds=seconds) for name, call in calls.items()}
    for name, taken in measured.items():
        count = batch if name in QUALITIES else 1
        each = taken.scaled(1e3 / count)
        rows.append(
            {
                "quality": name,
                "batch": count,
                "ms per image": each.median,
                "quartiles": spread(each),
                "compile (s)": taken.first - taken.median,
                "memory (MiB per image)": _memory(name, patches) if name in QUALITIES else None,
            }
        )
    return rows, {name: taken.samples for name, taken in measured.items()}


def _memory(name: str, patches: np.ndarray) -> float | None:
    """What the compiled program holds beside its arguments and results."""
    program = jax.jit(partial(synthesize, size=SIZE, quality=name)).lower(jax.random.key(0), patches).compile()
    analysis = program.memory_analysis()
    return analysis.temp_size_in_bytes / len(patches) / 2**20 if analysis else None


def _quality(exemplars: np.ndarray, reference: np.ndarray | None) -> list[Row]:
    def make(name: str, exemplars: np.ndarray) -> tuple[Any, Any]:
        patches = jnp.asarray(exemplars)
        keys = [jax.random.key(seed) for seed in SEEDS]
        made = [synthesize(key, patches, size=SIZE, quality=name, return_sources=True) for key in keys]
        textures, sources = (np.concatenate(parts) for parts in zip(*made, strict=True))
        return textures, sources

    rows, _ = quality.report(exemplars, reference, {name: partial(make, name) for name in ALL})
    return [{key: None if value != value else value for key, value in row.items()} for row in rows]
