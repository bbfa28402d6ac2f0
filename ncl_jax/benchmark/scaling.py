"""Expected step times on machines that are not here: a model, from the compiled program's FLOPs and collective bytes.

The anchor: supervised ResNet-50 training in PyTorch AMP on one A100, NVIDIA's tuned script, 2,470 images/s. That is a
fifth of the chip's peak: these networks wait for memory, so the model lets time shrink with memory bandwidth from
there, and never below half of the peak.
"""

import dataclasses

from ncl_jax.benchmark import collectives, sharded
from ncl_jax.benchmark.result import Options, Result, Row

FORWARD = 8.18e9  # FLOPs of ResNet-50 for one image of 224 px, 2 per multiplication and addition
ANCHOR = 2470 * 3 * FORWARD  # FLOP/s; a backward pass is two forward passes
ANCHOR_MEMORY = 2.04e12  # bytes/s of the A100 80 GB
MOST_OF_PEAK = 0.5


@dataclasses.dataclass(frozen=True)
class Machine:
    """Published figures of one chip, dense bfloat16; `link`: what it sends into a ring, bytes/s, one direction."""

    name: str
    devices: int
    peak: float  # FLOP/s
    memory: float  # bytes/s
    link: float

    @property
    def speed(self) -> float:
        """Expected FLOP/s of a step on one chip."""
        return min(MOST_OF_PEAK * self.peak, ANCHOR * self.memory / ANCHOR_MEMORY)


MACHINES = (
    Machine("TPU v5e-16", 16, 197e12, 0.819e12, 100e9),  # half of 1,600 Gbit/s: not all links serve one ring
    Machine("TPU v5e-256", 256, 197e12, 0.819e12, 100e9),
    Machine("8 x H100 SXM", 8, 989e12, 3.35e12, 450e9),
    Machine("8 x H200", 8, 989e12, 4.8e12, 450e9),
)
PER_DEVICE = 64  # images, where the config's own batch does not divide


def run(options: Options) -> Result:
    config = options.need_config("scaling")
    counted = sharded.describe(config)
    rows = []
    for machine in MACHINES:
        batches = {config.batch} if config.batch % machine.devices == 0 else set()
        for batch in sorted(batches | {PER_DEVICE * machine.devices}):
            rows.append(row(machine, batch, config.batch, counted))
    sent = {kind: f"{sum(each) / 1e6:.3g} MB in {len(each)}" for kind, each in counted["collectives"].items()}
    flops = counted["flops"] * sharded.DEVICES / config.batch
    total, least = sum(sum(each) for each in counted["collectives"].values()), counted["least"]
    parts = ", ".join(f"{name} {size / 1e6:.4g}" for name, size in least.items())
    notes = [
        "a model, not a measurement",
        f"sent per step: {total / 1e6:.4g} MB, {total / sum(least.values()):.3f} times the least possible ({parts} MB)",
        f"computed by the program compiled for {sharded.DEVICES} devices: {flops / 1e9:.4g} GFLOP per source image, "
        f"{counted['parameters'] / 1e6:.2f} M parameters; sent: {sent}",
        "computing: FLOPs at the speed of the anchor (supervised ResNet-50, PyTorch AMP, 2,470 images/s on an A100: "
        f"{ANCHOR / 1e12:.0f} TFLOP/s) times the chip's memory bandwidth over the A100's, at most "
        f"{MOST_OF_PEAK:.0%} of its peak; one speed for every batch size, bfloat16",
        "sending: rings over all devices, all-reduces 2 (n - 1) / n of their bytes, gathers (n - 1) / n; latency and "
        "hosts left out; gathers grow with the global batch, all-reduces (gradients) do not",
        "step: without any overlap of both; `overlapped`: with the shorter hidden whole",
        "batch norm's groups lie within devices; input never waits",
    ]
    return Result({"": rows}, notes)


def row(machine: Machine, batch: int, compiled_batch: int, counted: dict) -> Row:
    """The model. `counted` is what `sharded.describe` gives for `compiled_batch` images over its devices."""
    per_image = counted["flops"] * sharded.DEVICES / compiled_batch
    computing = per_image * batch / machine.devices / machine.speed
    sending = 0.0
    for kind, sizes in counted["collectives"].items():
        growth = 1.0 if kind == "all-reduce" else batch / compiled_batch
        for size in sizes:
            sending += growth * collectives.seconds(kind, size, devices=machine.devices, bandwidth=machine.link)
    step = computing + sending
    return {
        "machine": machine.name,
        "batch": batch,
        "images per device": batch // machine.devices,
        "computing (ms)": 1e3 * computing,
        "sending (ms)": 1e3 * sending,
        "step (ms)": 1e3 * step,
        "overlapped (ms)": 1e3 * max(computing, sending),
        "images/s": batch / step,
        "efficiency": f"{computing / step:.0%}",
    }
