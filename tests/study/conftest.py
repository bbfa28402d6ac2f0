"""The smoke study with runs that cost nothing."""

import os
import signal
from pathlib import Path

import pytest

from ncl_jax import config as config_lib
from ncl_jax import main, train, workdir
from ncl_jax.study import page

SMOKE = str(Path(__file__).parents[2] / "configs" / "study" / "smoke.py")
ACCURACY = {("baseline", 0): 0.5, ("baseline", 1): 0.6, ("patch", 0): 0.55, ("patch", 1): 0.67}


@pytest.fixture
def studied(monkeypatch, tmp_path):
    """Runs the smoke study with runs that cost nothing: (arguments) -> exit status, list of runs that were begun."""
    begun = []

    def pretrain(config, folder):
        folder = Path(folder)
        variant, seed = folder.parent.name, config.seed
        begun.append((variant, seed))
        fault = faults.get((variant, seed))
        if isinstance(fault, Exception):
            raise fault
        if fault == "stopped in training":
            return None
        if fault == "SIGTERM":
            os.kill(os.getpid(), signal.SIGTERM)
        (folder / "checkpoints" / "2").mkdir(parents=True, exist_ok=True)
        workdir.write_json(folder / "config.json", config_lib.to_dict(config))
        accuracy = ACCURACY.get((variant, seed), 0.25)
        bias = {"shape_bias": accuracy / 2}
        cue = {"kind": "cue_conflict", **bias, "per_category": {"circle": bias, "ring": {"shape_bias": float("nan")}}}
        sets = {"cue_conflict": cue, "classes": {"kind": "classes", "per_class": {"a": accuracy, "b": 0.5}}}
        results = {"knn_top1": 0.125, "linear_top1": accuracy, "sets": sets, "skipped": {"sketch": "is not there"}}
        workdir.write_json(folder / "results.json", results)
        (folder / "metrics.jsonl").write_text('{"step": 1, "loss": 2.5, "similarity_ns": 0.5}\n{"step": 2, "lo')
        return results

    faults = {}
    monkeypatch.setattr(train, "pretrain", pretrain)
    monkeypatch.setattr(train, "prepare", lambda config, say: say("left out: sketch: is not there"))
    monkeypatch.setattr(page, "write", lambda *_: None)  # takes a second to draw: its own test does

    def study(*arguments, config=SMOKE):
        begun.clear()
        status = main.main(["study", f"--config={config}", f"--workdir={tmp_path / 'study'}", *arguments])
        return status, list(begun)

    study.faults, study.folder = faults, tmp_path / "study"
    return study
