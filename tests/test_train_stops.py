"""What stops a run, before it begins or on its way, and what its files then hold."""

import dataclasses
import errno
import json

import jax
import numpy as np
import pytest
from smoke import CONFIG as SMOKE
from smoke import flags

from ncl_jax import config as config_lib
from ncl_jax import feed, main, metrics, train, workdir
from ncl_jax.errors import UserError
from ncl_jax.evaluation import curves, figures


def test_a_loss_that_is_not_finite_stops_the_run(config, overrides, tmp_path, capsys):
    arguments = ["pretrain", f"--config={SMOKE}", f"--workdir={tmp_path}", *flags(overrides)]
    assert main.main([*arguments, "--config.optim.learning_rate=1e38"]) == 1
    message = capsys.readouterr().err
    assert "the loss is nan" in message
    assert "last good checkpoint: none" in message


def test_weights_that_the_last_update_blew_up_are_not_kept(config, overrides, tmp_path, capsys):
    arguments = ["pretrain", f"--config={SMOKE}", f"--workdir={tmp_path}", *flags(overrides), "--config.epochs=1"]
    arguments += ["--config.data.train_split=train[:32]", "--config.batch=32"]  # one step, whose loss is fine
    assert main.main([*arguments, "--config.optim.learning_rate=1e30"]) == 1
    message = capsys.readouterr().err
    assert "the squared norm of the weights is inf at step 1; last good checkpoint: none" in message


def test_keys_that_cannot_be_shuffled_are_refused():
    raw = {"model": {"bn_groups": 8}, "optim": {"accumulate": 4}}
    feed._check_shuffle(config_lib.parse(raw), 1)
    with pytest.raises(UserError, match=r"bn_groups = 8: keys are shuffled inside 8 blocks .* use 16 or more, or 1"):
        feed._check_shuffle(config_lib.parse(raw), 8)
    feed._check_shuffle(config_lib.parse(raw | {"data": {"cache": "device"}}), 8)


def test_a_workdir_of_a_run_that_kept_nothing_takes_another_config(config, tmp_path):
    """As after one that found no room for its first step."""
    with workdir.claim(tmp_path, config):
        pass
    (tmp_path / "checkpoints").mkdir()
    with workdir.claim(tmp_path, dataclasses.replace(config, batch=64)):
        pass
    assert workdir.read_config(tmp_path).batch == 64
    (tmp_path / "checkpoints" / "8").mkdir()
    with pytest.raises(UserError, match="belongs to a run of another config"), workdir.claim(tmp_path, config):
        pass


@pytest.mark.parametrize("process", [0, 1])
def test_a_missing_image_is_not_taken_for_a_workdir_that_cannot_be_written(process, config, tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_index", lambda: process)
    with pytest.raises(FileNotFoundError), workdir.claim(tmp_path, config):
        (tmp_path / "image.jpg").read_bytes()
    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(UserError, match="cannot be written: No space left"), workdir.claim(tmp_path, config):
        raise full


def test_a_second_run_in_one_workdir_is_refused(config, tmp_path):
    with (
        workdir.claim(tmp_path, config),
        pytest.raises(UserError, match="another run is at work there"),
        workdir.claim(tmp_path, config),
    ):
        pass


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "--workdir=/nowhere"], "holds no run"),
        (["pretrain", f"--config={SMOKE}", "--workdir="], "--workdir: is empty"),
        (["convert", ""], "INPUT: is empty"),
        (["study", f"--config={SMOKE}", "--workdir=x", "--import="], "--import: is empty"),
        (["pretrain", f"--config={SMOKE}", "--workdir=x", "--config.data.name="], "config.data.name: is empty"),
        (["pretrain", f"--config={SMOKE}", "--workdir=x", "--config.data.name=folder:"], "names no folder"),
        (["pretrain", "--config=nothing.py", "--workdir=x"], "no such file"),
        (["pretrain", f"--config={SMOKE}", "--workdir=x", "--conf.a=1"], "unknown argument '--conf.a=1'"),
        (["pretrain", f"--config={SMOKE}", "--workdir=x", "--config.data.name=folder:/nowhere"], "no such folder"),
        (["pretrain", f"--config={SMOKE}", "--workdir=x", "--config.data.name=folder:gs://a/b"], "read from disks"),
        (["pretrain", f"--config={SMOKE}", "--workdir=s3://a/b"], "only gs:// is known"),
        (["study", f"--config={SMOKE}", "--workdir=gs://a/b"], "writes to folders only"),
        (["pretrain", f"--config={SMOKE}", "--workdir=/proc/x"], "cannot be written"),
        (
            ["pretrain", f"--config={SMOKE}", "--workdir=x", "--config.batch=20", "--config.method.queue_size=40"],
            "8 dev",
        ),
    ],
)
def test_bad_input_is_one_line_and_no_work(arguments, message, overrides, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    extra = flags(overrides) if arguments[0] == "pretrain" else []
    assert main.main([*arguments, *extra]) == 1
    captured = capsys.readouterr()
    assert message in captured.err
    assert len(captured.err.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_flag_that_is_missing_is_one_line(capsys):
    with pytest.raises(SystemExit) as status:
        main.main(["pretrain", "--workdir=x"])
    assert status.value.code == 2
    line = "ncl-jax pretrain: the following arguments are required: --config; see ncl-jax pretrain --help\n"
    assert capsys.readouterr().err == line


def test_a_runs_config_that_this_version_does_not_know_names_its_file(tmp_path):
    (tmp_path / "config.json").write_text('{"negatives": {"patch": {"sigma": 1}}}')
    with pytest.raises(UserError, match=rf"{tmp_path}/config\.json: config\.negatives\.patch\.sigma: unknown key"):
        workdir.read_config(tmp_path)


def test_no_file_holds_nan_which_is_no_json(tmp_path):
    """Null stands for it, and the figures are drawn all the same."""
    bias = {"ring": {"shape_bias": float("nan")}, "disc": {"shape_bias": 0.5}}
    workdir.write_json(tmp_path / "results.json", {"per_category": bias, "severities": (1, float("inf"))})
    written = json.loads((tmp_path / "results.json").read_text(), parse_constant=pytest.fail)
    assert written["per_category"] == {"ring": {"shape_bias": None}, "disc": {"shape_bias": 0.5}}
    assert written["severities"] == [1, None]
    figures.shape_bias_by_category({"run": written["per_category"]}, tmp_path / "bias.png")

    log = metrics.JsonlWriter(tmp_path / "metrics.jsonl")
    for step, bias in enumerate((0.5, float("nan"), 0.25)):
        log.write_scalars(step, {"loss": np.float32(1.5), "cue_conflict/shape_bias": bias})
    log.close()
    values = [
        json.loads(line, parse_constant=pytest.fail) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()
    ]
    assert [row["cue_conflict/shape_bias"] for row in values] == [0.5, None, 0.25]
    curves.draw(tmp_path / "metrics.jsonl", tmp_path / "curves.png", {"cue_conflict/shape_bias": ("shape bias", "")})
    assert (tmp_path / "curves.png").exists()


def test_a_collapse_is_told_when_it_begins(config, tmp_path, capsys):
    seen = [(rank, 0.9) for rank in (1.5, 1.4, 2.5, 1.8, 3.0, 1.9, 4.0)] + [(2.4, 0.03), (9.0, 0.12)]
    with train._Report(config, tmp_path, 10, 0) as report:
        for step, (rank, spread) in enumerate(seen, start=1):
            report.interval(step, {"loss": 1.0, "effective_rank": rank, "feature_std": spread})
    told = [line for line in capsys.readouterr().out.splitlines() if "the embeddings collapse" in line]
    shown = ("effective rank 1.50", "effective rank 1.90", "standard deviation 0.03")
    assert [part in line for part, line in zip(shown, told, strict=True)] == [True] * 3
    assert "try config.method.hidden_dim=0 or head_batch_norm=True, config.method.non_semantic_enc" in told[0]
    assert "config.alpha_warmup_epochs=1, " in told[0]  # of four epochs
