"""A whole run, watched: do memory, file handles and threads stay flat?"""

import os
import tempfile
import threading
from pathlib import Path

import numpy as np

from ncl_jax import metrics, train
from ncl_jax.benchmark.result import Options, Result, Row
from ncl_jax.errors import UserError

SAMPLES = 10  # lines of the table
WARM = 0.2  # share of the run after which everything is compiled, opened and filled


def run(options: Options) -> Result:
    """Pretrain `--config` from start to end in a temporary workdir."""
    config = options.need_config("soak")
    if not Path("/proc/self/status").exists():
        raise UserError("soak: reads /proc, which only Linux has")
    with tempfile.TemporaryDirectory() as folder:
        seen = watch(lambda: train.pretrain(config, folder), Path(folder), every=0.5)
    if not seen:
        raise UserError("soak: the run was over before it could be watched; give it more steps: --config.epochs")
    rows = [seen[index] for index in np.unique(np.linspace(0, len(seen) - 1, SAMPLES).astype(int))]
    return Result({"": rows}, [sentence(seen)])


def watch(work, folder: Path, *, every: float) -> list[Row]:
    """What the process holds, every so many seconds while `work()` runs, with the step that its log is at."""
    seen: list[Row] = []
    finished = threading.Event()

    def sample() -> None:
        while not finished.wait(every):
            logged = metrics.last_step(folder / "metrics.jsonl")
            if logged:
                seen.append({"step": logged, **held()})

    thread = threading.Thread(target=sample, name="soak", daemon=True)
    thread.start()
    try:
        work()
    finally:
        finished.set()
        thread.join()
    return seen


def held() -> Row:
    """Resident memory in MB, open file handles and threads of this process."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return {
        "memory (MB)": int(status["VmRSS"].split()[0]) / 1000,
        "file handles": len(os.listdir("/proc/self/fd")),
        "threads": int(status["Threads"]),
    }


def sentence(seen: list[Row]) -> str:
    """Growth from the end of the warm-up on: a line fitted to the memory, and the extremes of the rest."""
    last = max(float(row["step"]) for row in seen)
    warm = [row for row in seen if float(row["step"]) >= WARM * last]
    steps, memory = (np.array([float(row[name]) for row in warm]) for name in ("step", "memory (MB)"))
    slope = np.polyfit(steps, memory, 1)[0] * 1000 if len(set(steps)) > 1 else 0.0
    spans = [
        f"{name} {min(int(row[name]) for row in warm)} to {max(int(row[name]) for row in warm)}"
        for name in ("file handles", "threads")
    ]
    return (
        f"from step {int(steps[0])} to {int(steps[-1])}: memory {slope:+.2f} MB per 1,000 steps "
        f"({memory.min():.0f} to {memory.max():.0f} MB), {', '.join(spans)}"
    )
