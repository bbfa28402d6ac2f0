"""Runs of the smoke config in processes of their own, to be killed, and what they leave behind."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import simulated
from smoke import CONFIG as SMOKE

from ncl_jax import config as config_lib
from ncl_jax import methods, negatives, parallel  # noqa: F401  (these bring their settings)
from ncl_jax.evaluation import protocol

ROOT = Path(__file__).parents[2]


def start(folder, *flags, devices=1, command="pretrain", log=None, environment=None, without=""):
    """A process of `ncl-jax` in that workdir; its output goes to `log` or can be had by `communicate`.

    `without`: packages, by commas, that it does not find.
    """
    program = [str(ROOT / "tests" / "without.py"), without] if without else ["-m", "ncl_jax.main"]
    config = [f"--config={SMOKE}"] if command == "pretrain" else []
    arguments = [sys.executable, *program, command, *config, f"--workdir={folder}", *flags]
    env = simulated.environment(devices) | {"PYTHONPATH": str(ROOT), **(environment or {})}
    with contextlib.nullcontext(subprocess.PIPE) if log is None else Path(log).open("w") as output:
        return subprocess.Popen(arguments, stdout=output, stderr=subprocess.STDOUT, text=True, env=env, cwd=ROOT)


def finish(folder, *flags, timeout=600, **options):
    """Run to the end; (exit status, output)."""
    return end(start(folder, *flags, **options), timeout)


def end(process, timeout):
    """Wait for it; (exit status, output)."""
    try:
        output, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
        raise AssertionError(f"still running after {timeout} s:\n{output[-3000:]}") from None
    return process.returncode, output


def rows(folder):
    path = Path(folder) / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def learnt(folder):
    """(step, loss) of every line of the log."""
    return [(row["step"], row["loss"]) for row in rows(folder) if "loss" in row]


def state_of(folder):
    """Every array of the newest checkpoint, by its path in the state."""
    config = config_lib.parse(json.loads((Path(folder) / "config.json").read_text()))
    current, _ = protocol.restore(config, Path(folder), parallel.data_mesh(jax.devices()[:1]))
    current = {"params": current.params, "extra": current.extra, "optimizer": current.optimizer, "probe": current.probe}
    return {jax.tree_util.keystr(k): np.asarray(v) for k, v in jax.tree_util.tree_leaves_with_path(current)}


def assert_same_bits(one, two):
    one, two = state_of(one), state_of(two)
    assert one.keys() == two.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, two[name], err_msg=name)
