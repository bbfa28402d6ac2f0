"""Two real processes evaluate as one does: each image counts once, whatever the numbers."""

import json
import pickle
import subprocess
import sys

import jax
import numpy as np
import pytest
import simulated

from ncl_jax import config
from ncl_jax.evaluation import protocol

SCRIPT = """
import json, pickle, sys
import jax
index, port, folder = int(sys.argv[1]), sys.argv[2], sys.argv[3]
jax.distributed.initialize(f"localhost:{port}", 2, index, initialization_timeout=60)
from ncl_jax import config, methods, negatives, parallel
from ncl_jax.evaluation import features, protocol
features._PIECE = 4096  # some of the rows at a time
chosen = json.load(open(f"{folder}/config.json"))
if index == 1:
    chosen["evaluation"]["sets"]["domain"]["dataset"] = "folder:/nowhere"
loaded = config.parse(chosen)
with open(f"{folder}/variables.pickle", "rb") as file:
    variables = pickle.load(file)
mesh = parallel.data_mesh()
assert mesh.size == 4
subject = protocol.Subject(protocol.Encoder(loaded, mesh), variables)
results = protocol.evaluate(subject)
json.dump(results, open(f"{folder}/results_{index}.json", "w"))
"""


def start(index, port, folder):
    command = [sys.executable, "-c", SCRIPT, str(index), str(port), str(folder)]
    return subprocess.Popen(
        command, env=simulated.environment(2), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_two_processes_count_as_one(drawn, variables, make_subject, tmp_path):
    # 60 and 21 images in global batches of 16: no process has whole batches, and one has an image more.
    chosen = {
        "edges": {},
        "corruptions": {"names": ("contrast",), "severities": (3,)},
        "finetune": {"epochs": 1, "batch": 16},
        "cue_conflict": {"dataset": f"folder:{drawn}/cue"},
    }
    on_one_host = {"domain": {"dataset": f"folder:{drawn}/sketch"}}  # the other process does not find it
    subject = make_subject(chosen | on_one_host)
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict(subject.config)))
    with (tmp_path / "variables.pickle").open("wb") as file:
        pickle.dump(jax.tree.map(np.asarray, variables), file)
    port = simulated.free_port()
    processes = [start(index, port, tmp_path) for index in (0, 1)]
    for process in processes:
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output[-3000:]
    both = [json.loads((tmp_path / f"results_{index}.json").read_text()) for index in (0, 1)]
    left_out = [results.pop("skipped") for results in both]
    assert left_out[0] == {"domain": "process 1 cannot measure it"}
    assert list(left_out[1]) == ["domain"]
    assert "/nowhere" in left_out[1]["domain"]
    assert both[0] == both[1]
    assert not any("sketch" in title for title in both[0]["datasets"])
    alone = protocol.evaluate(subject)
    got, want = both[0]["sets"], alone["sets"]
    assert (both[0]["train_images"], both[0]["test_images"]) == (60, 21)
    assert both[0]["knn_top1"] == alone["knn_top1"]
    assert both[0]["linear_top1"] == alone["linear_top1"]
    assert got["edges"] == want["edges"]
    assert got["corruptions"]["mean"] == pytest.approx(want["corruptions"]["mean"])
    assert got["cue_conflict"]["shape"] == want["cue_conflict"]["shape"]
    assert got["finetune"]["images"] == 21
