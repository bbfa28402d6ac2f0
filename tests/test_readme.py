"""What README says of use from Python is run."""

import re
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]


def test_in_your_own_code(smoke_data, tmp_path, monkeypatch):
    section = (ROOT / "README.md").read_text().split("## In your own code\n")[1].split("\n## ")[0]
    parts, whole = re.findall(r"```python\n(.*?)```", section, re.S)
    names: dict = {}
    exec(parts, names)
    shapes = {name: names[name].shape for name in ("patches", "quilts", "textures", "negatives", "loss")}
    assert shapes == {
        "patches": (8, 1, 224, 224, 3),
        "quilts": (8, 1, 224, 224, 3),
        "textures": (8, 224, 224, 3),
        "negatives": (8, 3, 224, 224, 3),
        "loss": (8,),
    }
    assert np.isfinite(names["loss"]).all()

    monkeypatch.chdir(ROOT)
    whole = whole.replace('{"epochs": 3}', f'{{"epochs": 1, "data.data_dir": "{smoke_data}"}}')
    exec(whole.replace("runs/smoke", str(tmp_path / "run")), names)
    assert names["features"].shape[0] == 8
    assert names["results"]["knn_top1"] > 0.1
    assert names["network"].epoch == 1
