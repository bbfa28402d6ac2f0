"""The notebooks run from top to bottom, in a short form, where the library is installed."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
# What takes the place of a notebook's cell of parameters.
SHORT = {
    "demo": """
CONFIG = "configs/smoke.py"
EPOCHS = 2
ONLINE = ("cue_conflict",)
OPTIONS = "--config.data.data_dir=DATA_DIR --config.evaluation.sets.cue_conflict.split='cue_conflict[:64]'"
""",
    "negatives": """
SIZE = 64
FILES = []
""",
    "evaluate": """
RUN, TORCH = "runs/evaluated", ""
CONFIG = "configs/eval/shapes_textures.py"
TRAIN = "--config=configs/smoke.py --config.epochs=1 --config.data.data_dir=DATA_DIR"
SETS = "{'cue_conflict': {}, 'corruptions': {'names': ('fog', 'contrast'), 'severities': (1, 3)}}"
OPTIONS = f'--config.evaluation.sets="{SETS}" --config.data.test_split="test[:64]"'
""",
}


@pytest.mark.parametrize("name", SHORT)
def test_a_notebook_runs(name, smoke_data, tmp_path, monkeypatch):
    notebook = nbformat.read(ROOT / "colab" / f"{name}.ipynb", as_version=4)
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if "parameters" in tags:
            cell.source = SHORT[name].replace("DATA_DIR", str(smoke_data))
        if "timing" in tags:
            cell.source = cell.source.replace("seconds=1", "seconds=0.01")
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    if name == "negatives":  # at 224 px it computes longer than it compiles
        monkeypatch.setenv("XLA_FLAGS", f"{os.environ['XLA_FLAGS']} --xla_backend_optimization_level=1")
    NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(tmp_path)}}).execute()
    text = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))
    assert "Traceback" not in text
    assert "unknown" not in text  # what a benchmark could not measure it names, and goes on
    shown = [
        output for cell in notebook.cells for output in cell.get("outputs", []) if "image/png" in output.get("data", {})
    ]
    assert len(shown) >= 2
