"""Where figures go."""

import json
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf

from ncl_jax import metrics


def test_events_leave_the_accelerators_to_jax(tmp_path, monkeypatch):
    """TensorFlow writes them and would take a GPU's whole memory, of a run that reads no TFRecords otherwise."""
    hidden = []
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda devices, kind: hidden.append((devices, kind)))
    monkeypatch.delitem(sys.modules, "ncl_jax.data.tf", raising=False)
    metrics.writer(tmp_path, 0).close()
    assert hidden == [([], "GPU")]


_EVENTS = """
import sys
from pathlib import Path

from ncl_jax import metrics

writer = metrics.writer(Path(sys.argv[1]), 0)
writer.write_scalars(1, {"loss": 0.5})
writer.close()
assert "keras.src" not in sys.modules
import tensorflow as tf

from tensorboard.plugins.hparams import api

print(issubclass(api.KerasCallback, tf.keras.callbacks.Callback))
"""


def test_events_bring_no_keras_and_leave_it_to_whoever_asks(tmp_path):
    done = subprocess.run([sys.executable, "-c", _EVENTS, tmp_path], capture_output=True, text=True)
    assert done.stdout.strip() == "True", done.stderr
    (events,) = tmp_path.glob("events.out.tfevents.*")
    values = [value for event in tf.compat.v1.train.summary_iterator(str(events)) for value in event.summary.value]
    assert [(value.tag, tf.make_ndarray(value.tensor)) for value in values] == [("loss", 0.5)]


def test_a_writer_drops_what_a_run_cut_short_wrote_behind_its_checkpoint(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 2, "loss": 1.0}\n{"step": 4, "loss": 0.5}\n{"step": 5, "lo')
    writer = metrics.writer(tmp_path, 2)
    writer.write_scalars(3, {"loss": np.float32("nan")})
    writer.close()
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"step": 2, "loss": 1.0},
        {"step": 3, "loss": None},
    ]
    assert metrics.last_step(path) == 3


def test_means_start_anew_with_every_interval():
    means = metrics.Means()
    assert means.take() is None
    for value in (1.0, 3.0):
        means.add({"loss": jnp.float32(value)})
    first = means.take()
    means.add({"loss": jnp.float32(7.0)})
    assert metrics.Means.fetch(first) == pytest.approx({"loss": 2.0})
    assert metrics.Means.fetch(means.take()) == pytest.approx({"loss": 7.0})


def test_a_program_that_has_the_accelerators_already_keeps_them(tmp_path, monkeypatch):
    def late(*_):
        raise RuntimeError("Visible devices cannot be modified after being initialized")

    monkeypatch.setattr(tf.config, "set_visible_devices", late)
    monkeypatch.delitem(sys.modules, "ncl_jax.data.tf", raising=False)
    metrics.writer(tmp_path, 0).close()
