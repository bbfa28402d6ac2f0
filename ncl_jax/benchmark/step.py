"""The pretraining step of a config: images/s, its parts by difference, and what each negative costs."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from ncl_jax import methods, negatives, parallel
from ncl_jax import step as step_lib
from ncl_jax.benchmark import program, timing
from ncl_jax.benchmark.program import Program
from ncl_jax.benchmark.result import Options, Result, Row, spread
from ncl_jax.benchmark.timing import Timing
from ncl_jax.config import Config
from ncl_jax.methods import micro_batches

NONE = "none"
MATMUL_SIDE = {"cpu": 2048}  # elsewhere 8192


def run(options: Options) -> Result:
    """The step without negatives, with each kind of the config's alone, and with all; then the parts of the last.

    All programs take turns, a large matrix product among them, so that shares and ratios are of the same minutes.
    """
    config = options.need_config("step")
    peer = None  # before anything is compiled: it refuses configs
    if options.against is not None:
        from ncl_jax.benchmark import torch_step  # PyTorch is no requirement

        peer = torch_step.TorchStep(config, compiled=options.against == "torch_compile")
    mesh = parallel.data_mesh()
    programs = {name: program.build(variant, mesh) for name, variant in variants(config).items()}
    last = list(programs)[-1]
    full = programs[last]
    product, product_flops = _matrix_product(config.model.dtype)
    calls: dict[str, Callable[[], Any]] = {f"step {name}": built for name, built in programs.items()}
    calls |= _parts(full) | {"matrix product": product}
    if peer:
        calls |= {"peer": peer.step, "peer augmented": peer.augment_and_step}
    measured = timing.measure(calls, seconds=options.seconds)

    peak = product_flops / measured["matrix product"].median
    tables: dict[str, list[Row]] = {
        "The step, by its negatives": [
            _row(name, built, measured, peak, mesh.size) for name, built in programs.items()
        ],
        f"Where its {1e3 * measured[f'step {last}'].median:.3g} ms go (by difference)": _part_rows(last, measured),
    }
    notes = [
        f"batch {config.batch} of noise at {config.data.image_size} px, {mesh.size} device(s), {config.model.name}, "
        f"{config.model.dtype}; TFLOP: of the traced program's products and convolutions, on one device",
        f"share of peak: of {peak / 1e12:.3g} TFLOP/s, which a {product_flops:.2g}-FLOP matrix product in "
        f"{config.model.dtype} reaches here in the same minutes",
    ]
    held = jax.devices()[0].memory_stats()
    if held and "peak_bytes_in_use" in held:
        notes.append(
            f"most memory in use on the device by all of these together: {held['peak_bytes_in_use'] / 1e9:.2f} GB"
        )
    if peer:
        tables[f"Against {peer.name}"] = _peer_rows(last, measured)
        notes += peer.notes
    return Result(tables, notes, {name: timed.samples for name, timed in measured.items()})


def variants(config: Config) -> dict[str, Config]:
    """The config without negatives, with each kind alone, and as it is (last)."""
    chosen = config.negatives
    parts = {NONE: {}} | {kind: {kind: settings} for kind, settings in chosen.items()}
    if len(chosen) > 1:
        parts[" + ".join(chosen)] = dict(chosen)
    return {name: dataclasses.replace(config, negatives=part) for name, part in parts.items()}


def _row(name: str, built: Program, measured: dict[str, Timing], peak: float, devices: int) -> Row:
    timed = measured[f"step {name}"]
    return {
        "negatives": name,
        "ms": 1e3 * timed.median,
        "quartiles": spread(timed.scaled(1e3)),
        "images/s": built.config.batch / timed.median,
        "times none": timed.median / measured[f"step {NONE}"].median,
        "TFLOP": built.flops / 1e12,
        "share of peak": f"{built.flops / timed.median / peak:.1%}",
        "memory (MB)": built.bytes / 1e6,
        "compile (s)": built.compile_seconds,
    }


def _parts(built: Program) -> dict[str, Callable[[], Any]]:
    """The step's beginnings, each compiled alone: views; views and negatives; the loss of them; its gradient."""
    config = built.config
    method = methods.build(config, config.epochs * program.STEPS_PER_EPOCH)
    bare = dataclasses.replace(config, negatives={})

    def compiled(function: Callable[..., Any], **placed: Any) -> Callable[..., Any]:
        return jax.jit(parallel.on_mesh(function, built.mesh), **placed)

    split = {"out_shardings": parallel.batch_sharding(built.mesh)}
    views_of = {
        name: compiled(partial(step_lib.make_views, c), **split) for name, c in (("views", bare), ("negatives", config))
    }
    key = jax.random.key(0)
    calls: dict[str, Callable[[], Any]] = {name: partial(f, key, built.batch) for name, f in views_of.items()}
    views = calls["negatives"]() | {"alpha": negatives.alphas(config.negatives)}
    gradient = compiled(micro_batches.value_and_grad(method, config.optim.accumulate))
    # Copies: the step gives its state's memory away.
    params, extra = jax.tree.map(jnp.copy, (built.state.params, built.state.extra))
    if config.optim.accumulate == 1:
        calls["forward"] = partial(compiled(lambda *given: method.loss(*given)[0]), params, extra, views, key)
    calls["gradient"] = partial(gradient, params, extra, views, key)
    return calls


def _part_rows(name: str, measured: dict[str, Timing]) -> list[Row]:
    whole = measured[f"step {name}"].median
    at = {part: measured[part].median for part in ("views", "negatives", "forward", "gradient") if part in measured}
    parts = {"augmentation": at["views"], "making the negatives": at["negatives"] - at["views"]}
    if "forward" in at:
        parts["forward, all encoders"] = at["forward"]
        parts["backward"] = at["gradient"] - at["forward"]
    else:
        parts["forward and backward, all encoders"] = at["gradient"]
    parts["optimiser, EMA, queue, metrics, less what fusion saves"] = whole - at["negatives"] - at["gradient"]
    return [{"part": part, "ms": 1e3 * seconds, "share": f"{seconds / whole:.1%}"} for part, seconds in parts.items()]


def _peer_rows(name: str, measured: dict[str, Timing]) -> list[Row]:
    whole, views = measured[f"step {name}"].median, measured["views"].median
    pairs = {"without augmentation": (whole - views, "peer"), "with augmentation": (whole, "peer augmented")}
    return [
        {
            "step": title,
            "ours (ms)": 1e3 * ours,
            "theirs (ms)": 1e3 * measured[peer].median,
            "their quartiles": spread(measured[peer].scaled(1e3)),
            "our speed / theirs": measured[peer].median / ours,
        }
        for title, (ours, peer) in pairs.items()
    ]


def _matrix_product(dtype: str) -> tuple[Callable[[], Any], float]:
    """A large product on one device, and its floating-point operations."""
    side = MATMUL_SIDE.get(jax.default_backend(), 8192)
    # Random numbers: a GPU that multiplies equal ones draws less power and clocks higher than it can with an encoder.
    one, other = jax.random.normal(jax.random.key(0), (2, side, side), dtype)
    return partial(jax.jit(jnp.matmul), one, other), 2.0 * side**3
