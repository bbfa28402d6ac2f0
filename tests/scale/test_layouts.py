"""One run, the same numbers: on 1 to 8 devices, on 2 processes of 4, and where the state is split over devices."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import simulated
from scale import layouts

# The short form leaves out three layouts, each a compilation; `NCL_JAX_LAYOUTS=all` has them too.
LAYOUTS = ("1", "8 split", "2 x 4", "1 again")
if os.environ.get("NCL_JAX_LAYOUTS") == "all":
    LAYOUTS = ("1", "2", "4", "8", "8 split", "2 x 4", "1 again")


def two_processes(source, target, output):
    """The run on 2 processes of 4 devices."""
    root = Path(__file__).parents[2]
    environment = simulated.environment(4) | {"PYTHONPATH": str(root)}
    address = f"localhost:{simulated.free_port()}"
    processes = [
        subprocess.Popen(
            [sys.executable, layouts.__file__, address, "2", str(index), source, target, f"{output}.{index}.npz"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index in range(2)
    ]
    said = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(said)
    one, two = (np.load(f"{output}.{index}.npz") for index in range(2))
    assert one["devices"] == 8
    np.testing.assert_array_equal(one["params"], two["params"])
    return list(one["losses"]), one["first"], one["params"], one["target"]


def test_layouts_agree_and_hand_over_their_checkpoints(tmp_path):
    """Every layout makes its first steps itself and the others from the checkpoint of the layout before."""
    results, before = {}, None
    for name in LAYOUTS:
        source, target = before and str(tmp_path / before), str(tmp_path / name)
        if name == "2 x 4":
            results[name] = two_processes(source, target, tmp_path / "out")
        else:
            results[name] = layouts.steps(int(name[0]), source, target, split=name.endswith("split"))
        before = name

    losses, first, *trees = results["1"]
    assert len(losses) == layouts.WHOLE
    for name, (other_losses, other_first, *other_trees) in results.items():
        np.testing.assert_allclose(other_losses[0], losses[0], rtol=1e-6, err_msg=name)
        np.testing.assert_allclose(other_first, first, rtol=1e-5, atol=2e-6, err_msg=name)
        differences = [np.linalg.norm(a - b) / np.linalg.norm(a) for a, b in zip(trees, other_trees, strict=True)]
        print(f"{name}: losses {np.max(np.abs(np.divide(other_losses, losses) - 1)):.1e}, weights {differences}")
        np.testing.assert_allclose(other_losses, losses, rtol=1e-4, err_msg=name)
        for one, other in zip(trees, other_trees, strict=True):
            np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-5, err_msg=name)
