"""A run in a bucket of Google's (an emulator of it) is the run in a folder, and goes on after a kill."""

import json
import socketserver
import time
import urllib.parse
import urllib.request

import jax
import jax.numpy as jnp
import pytest
import simulated
from faults import runs

from ncl_jax import parallel, storage, workdir
from ncl_jax.checkpoint import Checkpoints
from ncl_jax.errors import UserError

server = pytest.importorskip("gcp_storage_emulator.server")
pytest.importorskip("gcsfs")
pytest.importorskip("google.cloud.storage")

FLAGS = ("--config.epochs=3", "--config.evaluation.every_epochs=0", "--config.log_every=1")
# TensorFlow would write its events to the real Google.
HIDDEN = "tensorflow,tensorflow_datasets,tensorboard,array_record"


class Bucket:
    """Reads what lies in the emulator's bucket `runs`, without any of the packages that are tested."""

    def __init__(self, address):
        self._objects = f"{address}/storage/v1/b/runs/o"
        self.environment = {"STORAGE_EMULATOR_HOST": address, "TENSORSTORE_GCS_HTTP_URL": address}
        self.environment |= {"GOOGLE_CLOUD_PROJECT": "tests", "JAX_PLATFORMS": "cpu"}

    def names(self, prefix):
        return [item["name"].removeprefix(prefix) for item in json.loads(self._get("")).get("items", [])]

    def read(self, name):
        return self._get(f"/{urllib.parse.quote(name, safe='')}?alt=media").decode()

    def delete(self, name):
        self._get(f"/{urllib.parse.quote(name, safe='')}", method="DELETE")

    def _get(self, path, method="GET"):
        with urllib.request.urlopen(urllib.request.Request(self._objects + path, method=method)) as answer:
            return answer.read()


@pytest.fixture
def bucket(monkeypatch):
    port = simulated.free_port()
    # A process that is killed hangs up on it, which it would tell with tracebacks.
    monkeypatch.setattr(socketserver.BaseServer, "handle_error", lambda *_: None)
    running = server.create_server("localhost", port, in_memory=True, default_bucket="runs")
    running.start()
    found = Bucket(f"http://localhost:{port}")
    for name, value in found.environment.items():
        monkeypatch.setenv(name, value)
    yield found
    running.stop()


def test_killed_in_a_bucket_it_ends_as_in_a_folder(bucket, tmp_path):
    options = {"without": HIDDEN, "environment": bucket.environment}
    whole, killed = tmp_path / "whole", "gs://runs/a/killed"
    status, output = runs.finish(whole, *FLAGS, **options)
    assert status == 0, output

    process = runs.start(killed, *FLAGS, log=tmp_path / "log", **options)
    end = time.monotonic() + 300
    while not any(name.endswith("state/commit_success.txt") for name in bucket.names("a/killed/")):
        if process.poll() is not None or time.monotonic() > end:
            pytest.fail((tmp_path / "log").read_text()[-2000:])
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert "a/killed/results.json" not in bucket.names("")

    status, output = runs.finish(killed, *FLAGS, **options)
    assert status == 0, output
    assert "Traceback" not in output
    rows = [json.loads(line) for line in bucket.read("a/killed/metrics.jsonl").splitlines()]
    assert [(row["step"], row["loss"]) for row in rows if "loss" in row] == runs.learnt(whole)
    results = json.loads((whole / "results.json").read_text())
    assert json.loads(bucket.read("a/killed/results.json")) == results
    names = bucket.names("a/killed/")
    assert {name.split("/")[0] for name in names} == {path.name for path in whole.iterdir()}
    assert {name.split("/")[1] for name in names if "/" in name} == {"8", "12"}  # the others are pruned

    status, output = runs.finish(killed, command="evaluate", **options)
    assert status == 0, output
    assert json.loads(bucket.read("a/killed/results.json")) == results


def test_what_cannot_be_read_there_is_not_set_aside(bucket):
    """Objects are whole or not there: it is the network or a permission, and the checkpoint is as good as before."""
    state, sharding = {"w": jnp.arange(8.0)}, parallel.replicated(parallel.data_mesh(jax.devices()[:1]))
    state = jax.device_put(state, sharding)
    with Checkpoints("gs://runs/run") as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, state, {"position": {}}, wait=True)
        bucket.delete("run/checkpoints/2/_CHECKPOINT_METADATA")
        with pytest.raises(UserError, match=r"gs://runs/run/checkpoints/2: cannot be read here"):
            checkpoints.restore(state, sharding)
        assert checkpoints.steps == [1, 2]
    assert workdir.kept_steps(storage.locate("gs://runs/run")) == [1, 2]


@pytest.mark.parametrize(
    ("command", "folder", "words"),
    [
        ("pretrain", "gs://nobody/run", ["gs://nobody/run", "cannot be reached"]),
        ("evaluate", "gs://runs/nothing", ["gs://runs/nothing", "holds no run"]),
    ],
)
def test_what_is_not_there_is_said(bucket, command, folder, words):
    status, output = runs.finish(folder, command=command, without=HIDDEN, environment=bucket.environment)
    assert status == 1
    assert [word for word in (f"ncl-jax {command}: ", *words) if word not in output] == []
    assert len(output.strip().splitlines()) == 1, output
