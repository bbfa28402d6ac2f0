"""A whole run on tiny data: what it leaves behind, and that nothing it survives changes a bit of the result."""

import dataclasses
import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import jax
import numpy as np
import pytest
from PIL import Image
from smoke import CONFIG as SMOKE
from smoke import flags

from ncl_jax import config as config_lib
from ncl_jax import main, metrics, parallel, train, workdir
from ncl_jax.data import drawn_records
from ncl_jax.evaluation import linear_probe, protocol

STEPS_PER_EPOCH = 4


@pytest.fixture(scope="module")
def finished(overrides, tmp_path_factory):
    """The workdir of an uninterrupted run by the command line."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert main.main(["pretrain", f"--config={SMOKE}", f"--workdir={folder}", "--profile", *flags(overrides)]) == 0
    return folder


def state_of(config, folder):
    mesh = parallel.data_mesh()
    current, _ = protocol.restore(config, Path(folder), mesh)
    current = {"params": current.params, "extra": current.extra, "optimizer": current.optimizer, "probe": current.probe}
    return {jax.tree_util.keystr(k): np.asarray(v) for k, v in jax.tree_util.tree_leaves_with_path(current)}


def assert_same_bits(one, two):
    assert one.keys() == two.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, two[name], err_msg=name)


def rows(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_run_leaves_what_it_promises(finished, config):
    names = {path.name for path in finished.iterdir()}
    wanted = {"checkpoints", "config.json", "metrics.jsonl", "results.json", "negatives.png", "curves.png"}
    assert wanted <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    results = json.loads((finished / "results.json").read_text())
    assert 0 <= results["linear_top1"] <= 1
    assert results["test_images"] == 128
    assert results["datasets"][f"shapes_textures/px32/{drawn_records.VERSION}[test[:128]]"] == 128
    assert results["step"] == 4 * STEPS_PER_EPOCH
    assert sum(results["sets"]["cue_conflict"][k] for k in ("shape", "texture", "other")) == pytest.approx(1)
    logged = {name for row in rows(finished) for name in row}
    assert logged >= {
        *("loss", "chance_loss", "contrast_top1", "similarity_positive", "similarity_ns", "similarity_queue"),
        *("feature_std", "effective_rank", "learning_rate", "images_per_second", "step_ms", "input_wait_share"),
        *("skipped_records", "online_top1", "knn_top1"),
    }
    assert config_lib.parse(json.loads((finished / "config.json").read_text())) == config


def test_the_last_step_is_measured_whatever_the_epochs(config):
    """So that curves end where the results are."""
    for every, due in ((2, [8, 12]), (3, [12]), (5, [12]), (0, [])):
        evaluation = dataclasses.replace(config.evaluation, every_epochs=every)
        three = dataclasses.replace(config, epochs=3, evaluation=evaluation)
        assert [done for done in range(13) if train._due(three, done, STEPS_PER_EPOCH)] == due


def test_profile_leaves_a_trace(finished, tmp_path):
    """For Perfetto and TensorBoard, of the steps that were asked for, also where the run ends among them."""
    (trace,) = finished.glob("plugins/profile/*/*.trace.json.gz")
    with gzip.open(trace, "rt") as file:
        assert json.load(file)["traceEvents"]
    with metrics.profile(tmp_path) as hook:
        for done in (8, 16):  # as where eight steps are taken at a time
            hook(done)
    assert len(list(tmp_path.glob("plugins/profile/*/*.trace.json.gz"))) == 1


def test_sets_are_measured_while_the_run_goes_on(finished):
    """As named in config.evaluation.online, by a probe of that moment; their curves stand in the figure."""
    measured = [row for row in rows(finished) if "cue_conflict/shape_bias" in row]
    assert [row["step"] for row in measured] == [2 * STEPS_PER_EPOCH, 4 * STEPS_PER_EPOCH]
    assert all(0 <= row[key] <= 1 for row in measured for key in ("linear_top1", "cue_conflict/shape"))
    final = json.loads((finished / "results.json").read_text())
    assert measured[-1]["cue_conflict/shape"] == pytest.approx(final["sets"]["cue_conflict"]["shape"])
    assert measured[-1]["linear_top1"] == pytest.approx(final["linear_top1"])
    with Image.open(finished / "curves.png") as figure:
        assert figure.height > 3 * 300  # a third row of panels


def test_the_loss_falls(finished):
    """From where the queue holds nothing but real keys, and below that of equal logits."""
    losses = [row["loss"] for row in rows(finished) if "loss" in row]
    assert min(losses[2:]) < losses[1] - 0.2
    assert min(losses[2:]) < rows(finished)[0]["chance_loss"]


def test_data_on_the_devices_train_the_same_way_and_go_on_where_they_stopped(finished, overrides, tmp_path):
    """As many steps and lines as from the stream, a falling loss, and the same bits through a stop."""
    cached = overrides | {"data.cache": "device", "epochs": 2, "evaluation.every_epochs": 0}
    settings = config_lib.load(SMOKE, cached)
    mesh = parallel.data_mesh()
    train.pretrain(settings, str(tmp_path / "whole"))
    losses = [row["loss"] for row in rows(tmp_path / "whole") if "loss" in row]
    streamed = [row["loss"] for row in rows(finished) if "loss" in row]
    assert len(losses) == 2 * STEPS_PER_EPOCH // settings.log_every
    assert losses[0] == pytest.approx(streamed[0], rel=0.1)
    assert losses[-1] < losses[0]

    data = train.stream.open_train(settings)
    method = train.methods.build(settings, 2 * STEPS_PER_EPOCH)
    optimizer = train.optim.optimizer(settings, STEPS_PER_EPOCH)
    step = train.step.make_step(settings, method, optimizer, steps_per_epoch=STEPS_PER_EPOCH)
    current = train.state.create(settings, method, optimizer, num_classes=data.num_classes, mesh=mesh)
    position = None
    for stretches in ((3,), (1, 4)):  # the second goes on from where the first stopped, in mid-epoch
        with train.feed.open_feed(settings, data, mesh, step, current, position) as steps:
            for stretch in stretches:
                current, _, taken = steps.take(current, stretch)
                assert taken == stretch
            position = steps.position
    whole, _ = protocol.restore(settings, tmp_path / "whole", mesh)
    for one, other in zip(jax.tree.leaves(current.params), jax.tree.leaves(whole.params), strict=True):
        np.testing.assert_array_equal(one, other)


def test_evaluate_repeats_the_numbers_from_the_checkpoint_alone(finished, capsys):
    before = json.loads((finished / "results.json").read_text())
    (finished / "results.json").unlink()
    assert main.main(["evaluate", f"--workdir={finished}"]) == 0
    assert json.loads((finished / "results.json").read_text()) == before
    assert "shape bias" in capsys.readouterr().out


def test_another_evaluation_leaves_the_runs_own_alone(finished, capsys):
    before = (finished / "results.json").read_bytes()
    changes = ("--config.evaluation.sets={}", "--config.evaluation.online=()", "--config.evaluation.knn_k=3")
    assert main.main(["evaluate", f"--workdir={finished}", *changes]) == 0
    assert (finished / "results.json").read_bytes() == before
    changed = json.loads((finished / "results_changed.json").read_text())
    assert changed["sets"] == {}
    assert "evaluation.knn_k: 20 -> 3" in changed["changed"]
    assert changed["linear_top1"] == json.loads(before)["linear_top1"]
    assert f"wrote {finished / 'results_changed.json'}\n" in capsys.readouterr().out
    assert main.main(["evaluate", f"--workdir={finished}", "--config.model.width=0.5"]) == 1  # and harms no checkpoint
    assert "its run has another network (model.width: 0.125 -> 0.5); leave this as it was" in capsys.readouterr().err
    assert not [*finished.glob("*.damaged")]


def test_a_finished_run_started_again_only_evaluates(finished, config):
    before = state_of(config, finished)
    assert train.pretrain(config, str(finished)) is not None
    assert_same_bits(before, state_of(config, finished))


def test_stopped_in_mid_epoch_it_goes_on_to_the_same_bits(finished, config, tmp_path, monkeypatch, capsys):
    stops = iter([3, 5])
    stop_at = next(stops)
    monkeypatch.setattr(train, "_agree_to_stop", lambda came, done: done == stop_at)
    assert train.pretrain(config, str(tmp_path)) is None
    assert "saved step 3 of" in capsys.readouterr().out
    stop_at = next(stops)
    assert train.pretrain(config, str(tmp_path)) is None
    monkeypatch.undo()
    probes = mock.Mock(wraps=linear_probe.fit)
    monkeypatch.setattr(linear_probe, "fit", probes)
    results = train.pretrain(config, str(tmp_path))
    assert probes.call_count == 2  # after epochs 2 and 4, of which the last evaluation uses what is there
    # (A category without a decision by either cue has no shape bias: NaN here, null there.)
    assert workdir.finite(results) == json.loads((finished / "results.json").read_text())
    assert_same_bits(state_of(config, finished), state_of(config, tmp_path))
    steps = [row["step"] for row in rows(tmp_path) if "loss" in row]
    assert steps == sorted(set(steps))


# At the first array that it cannot read, orbax closes its event loop under the reads that are still under way.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
def test_a_damaged_checkpoint_costs_only_itself(finished, config, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "_agree_to_stop", lambda came, done: done == STEPS_PER_EPOCH + 2)
    assert train.pretrain(config, str(tmp_path)) is None
    monkeypatch.undo()
    newest = tmp_path / "checkpoints" / str(STEPS_PER_EPOCH + 2)
    assert newest.is_dir()
    for path in newest.rglob("d/*"):
        path.write_bytes(b"garbage" * 20)
    with pytest.warns(UserWarning, match=f"checkpoints/{STEPS_PER_EPOCH + 2} is damaged and set aside"):
        train.pretrain(config, str(tmp_path))
    assert_same_bits(state_of(config, finished), state_of(config, tmp_path))


def test_what_a_kill_left_unmeasured_is_measured_by_the_next_start(finished, config, tmp_path, monkeypatch):
    """An epoch is saved before it is measured, which may take long."""

    def killed(*_):
        raise KeyboardInterrupt

    online = protocol.online
    monkeypatch.setattr(protocol, "online", killed)
    with pytest.raises(KeyboardInterrupt):
        train.pretrain(config, str(tmp_path))
    assert not any("knn_top1" in row for row in rows(tmp_path))

    def ended(subject):
        measured = online(subject)
        if int(subject.current.step) == 4 * STEPS_PER_EPOCH:
            os.kill(os.getpid(), signal.SIGTERM)
        return measured

    monkeypatch.setattr(protocol, "online", ended)
    assert train.pretrain(config, str(tmp_path)) is None  # and no evaluation of minutes after SIGTERM
    monkeypatch.undo()
    assert not (tmp_path / "results.json").exists()
    assert train.pretrain(config, str(tmp_path)) is not None
    kept = [{k: v for k, v in row.items() if k != "step"} for row in rows(tmp_path) if "knn_top1" in row]
    assert kept == [{k: v for k, v in row.items() if k != "step"} for row in rows(finished) if "knn_top1" in row]
    assert_same_bits(state_of(config, finished), state_of(config, tmp_path))


def test_other_data_are_told_and_harm_no_checkpoint(finished, overrides, capsys):
    """Found by the notes of the checkpoint: the config is the same, the dataset has been made anew."""
    other = overrides | {"data.train_split": "train[:96]"}
    settings = config_lib.load(SMOKE, other)
    config_file = finished / "config.json"
    before = config_file.read_text()
    workdir.write_json(config_file, config_lib.to_dict(settings))
    try:
        assert main.main(["pretrain", f"--config={SMOKE}", f"--workdir={finished}", *flags(other)]) == 1
    finally:
        config_file.write_text(before)
    assert "was trained on other data (num_examples 128 -> 96); leave that as it was" in capsys.readouterr().err
    assert main.main(["evaluate", f"--workdir={finished}", "--config.optim.momentum=0"]) == 1
    assert "its run has another network (optim.momentum: 0.9 -> 0.0)" in capsys.readouterr().err
    assert not [*finished.glob("*.damaged")]


def test_sigterm_saves_and_says_how_to_go_on(overrides, tmp_path):
    command = [sys.executable, "-m", "ncl_jax.main", "pretrain", f"--config={SMOKE}", f"--workdir={tmp_path}"]
    command += [*flags(overrides), "--config.epochs=500"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ)
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and process.poll() is None:
        if (tmp_path / "metrics.jsonl").exists() and len(rows(tmp_path)) >= 2:
            break
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM, output
    assert "the same command goes on from there" in output
    assert any(path.name.isdigit() for path in (tmp_path / "checkpoints").iterdir())


@pytest.fixture
def ctrl_c():
    """As in a terminal: what a script starts behind `&` ignores it, these tests maybe too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_saves_and_a_second_one_does_not_wait(ctrl_c, config, tmp_path, monkeypatch, capfd):
    agree, presses = train._agree_to_stop, {3: 1}

    def pressed(came, calls):
        for _ in range(presses.get(calls, 0)):
            os.kill(os.getpid(), signal.SIGINT)
        return agree(came, calls)

    monkeypatch.setattr(train, "_agree_to_stop", pressed)
    with pytest.raises(KeyboardInterrupt):
        train.pretrain(config, str(tmp_path))
    output = capfd.readouterr()
    assert "Ctrl-C: saved step 3 of 16; the same command goes on from there" in output.out + output.err
    assert "stopping once this step is saved; again to stop at once" in output.err
    assert workdir.kept_steps(tmp_path) == [3]
    presses[3] = 2
    with pytest.raises(KeyboardInterrupt):
        train.pretrain(config, str(tmp_path))
    assert workdir.kept_steps(tmp_path) == [3, 4]  # the end of an epoch
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_workdir_of_another_config_is_refused(finished, overrides, capsys):
    arguments = ["pretrain", f"--config={SMOKE}", f"--workdir={finished}", *flags(overrides)]
    assert main.main([*arguments, "--config.optim.learning_rate=0.5"]) == 1
    assert "belongs to a run of another config (optim.learning_rate: " in capsys.readouterr().err


def test_preview_writes_the_grid(overrides, tmp_path):
    target = tmp_path / "grid.png"
    assert main.main(["preview", f"--config={SMOKE}", f"--output={target}", *flags(overrides)]) == 0
    image = Image.open(target)
    assert image.width > 3 * 112
    assert len(image.getcolors(2**20)) > 100
