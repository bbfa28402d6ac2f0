"""Texture synthesis: how fast each quality is, and how good (see `ncl_jax.textures.quality` for the measures)."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.stages import Compiled

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
    rows, samples = [], {}
    for name in ALL:
        count = batch if name in QUALITIES else 1
        key, exemplars = jax.random.key(0), jnp.asarray(patches[:count])
        call: Callable[..., Any] = partial(synthesize, size=SIZE, quality=name)
        compiling, memory = 0.0, None
        if name in QUALITIES:  # `faithful` compiles at its first call: its tables would be constants of the program
            began = time.perf_counter()
            call = jax.jit(call).lower(key, exemplars).compile()
            compiling, memory = time.perf_counter() - began, _memory(call, count)
        taken = timing.measure_one(partial(call, key, exemplars), seconds=seconds)
        each, samples[name] = taken.scaled(1e3 / count), taken.samples
        timing.progress(f"{name}: {each.median:.3g} ms per image")
        rows.append(
            {
                "quality": name,
                "batch": count,
                "ms per image": each.median,
                "quartiles": spread(each),
                "compile (s)": compiling + taken.first - taken.median,
                "memory (MiB per image)": memory,
            }
        )
    return rows, samples


def _memory(program: Compiled, batch: int) -> float | None:
    """What the compiled program holds beside its arguments and results."""
    analysis = program.memory_analysis()
    return analysis.temp_size_in_bytes / batch / 2**20 if analysis else None


def _quality(exemplars: np.ndarray, reference: np.ndarray | None) -> list[Row]:
    def make(name: str, exemplars: np.ndarray) -> tuple[Any, Any]:
        patches = jnp.asarray(exemplars)
        keys = [jax.random.key(seed) for seed in SEEDS]
        made = [synthesize(key, patches, size=SIZE, quality=name, return_sources=True) for key in keys]
        textures, sources = (np.concatenate(parts) for parts in zip(*made, strict=True))
        return textures, sources

    rows = quality.report(exemplars, reference, {name: partial(make, name) for name in ALL})
    return [{key: None if value != value else value for key, value in row.items()} for row in rows]
