"""SIGKILL at random points, again and again, changes nothing: the state in the end has the bits of a run left alone.

`NCL_JAX_KILLS=20` kills it so many times (default: 3); `NCL_JAX_KILL_SEED` draws other points.
"""

import json
import os
import random
import time

import pytest
from faults import runs

KILLS = int(os.environ.get("NCL_JAX_KILLS", "3"))
SEED = int(os.environ.get("NCL_JAX_KILL_SEED", "0"))
# A kill may come before the first new checkpoint; most come after it, and every run is left some epochs to go.
FLAGS = (f"--config.epochs={2 * KILLS + 4}", "--config.evaluation.every_epochs=0", "--config.log_every=1")
FLAGS += ("--config.data.train_split=train[:256]",)  # steps to be killed in
POINTS = ("step", "saving", "anywhere")


def moment(point, folder, data, chance):
    """Wait for a point in the life of the run that has just been started in `folder`."""
    checkpoints, before = folder / "checkpoints", len(runs.rows(folder))
    if point == "anywhere":  # imports, opening of data, restoring, compilation, steps
        yield from until(lambda: False, chance.uniform(0, 25))
    elif point == "building":
        yield from until(lambda: any(data.rglob("incomplete.*")))
        yield from until(lambda: False, chance.uniform(0, 3))
    elif point == "step":
        yield from until(lambda: len(runs.rows(folder)) > before + 8)
        yield from until(lambda: False, chance.uniform(0, 1))
    else:
        known = {path.name for path in checkpoints.glob("*")}
        yield from until(lambda: any("tmp" in p.name and p.name not in known for p in checkpoints.glob("*")))
        yield from until(lambda: False, chance.uniform(0, 0.05))


def until(condition, seconds=240.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end and not condition():
        yield


def test_killed_again_and_again_it_ends_in_the_same_bits(smoke_data, tmp_path):
    chance = random.Random(SEED)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    status, output = runs.finish(whole, *FLAGS, f"--config.data.data_dir={smoke_data}", timeout=900)
    assert status == 0, output

    data = tmp_path / "data_killed"
    data.mkdir()
    flags = (*FLAGS, f"--config.data.data_dir={data}")
    points = ["building"] + [POINTS[n % 3] for n in range(KILLS - 1)]
    died = 0
    for point in points:
        process = runs.start(killed, *flags, log=tmp_path / "log")
        for _ in moment(point, killed, data, chance):
            if process.poll() is not None:
                pytest.fail(f"ended before it was killed ({point}): {(tmp_path / 'log').read_text()[-2000:]}")
            time.sleep(0.002)
        process.kill()
        died += process.wait() == -9
        steps = sorted(int(p.name) for p in killed.glob("checkpoints/*") if p.name.isdigit())
        print(f"killed: {point}, log at step {max((s for s, _ in runs.learnt(killed)), default=0)}, kept {steps}")
    assert died == KILLS

    status, output = runs.finish(killed, *flags, timeout=900)
    assert status == 0, output
    assert "Traceback" not in output
    assert [p.name for p in killed.glob("checkpoints/*") if "tmp" in p.name] == []
    assert runs.learnt(killed) == runs.learnt(whole)
    runs.assert_same_bits(killed, whole)
    assert json.loads((killed / "results.json").read_text()) == json.loads((whole / "results.json").read_text())
