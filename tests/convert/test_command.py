"""`ncl-jax convert` and `evaluate --torch` from the command line: files to runs, runs to files, both to results."""

import json

import numpy as np
import pytest
from PIL import Image
from smoke import CONFIG as SMOKE

from ncl_jax import main
from ncl_jax.checkpoint import Checkpoints
from ncl_jax.convert import load_torch
from ncl_jax.convert.verify import check_equal


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Flags of the smoke config on a folder of noise, 64 training images of two classes."""
    root, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for split, count in (("train", 32), ("test", 8)):
        for label, brightness in (("dark", 0), ("light", 128)):
            (root / split / label).mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(brightness, brightness + 128, (32, 32, 3), np.uint8)
                Image.fromarray(pixels).save(root / split / label / f"{index}.png")
    settings = {
        "data.name": f"folder:{root}",
        "data.train_split": "train",
        "data.test_split": "test",
        "evaluation.sets": {},
        "evaluation.online": (),
        "evaluation.knn_k": "5",
        "model.stem": "small",
    }
    return [f"--config={SMOKE}", *(f"--config.{key}={value}" for key, value in settings.items())]


@pytest.fixture
def moco_file(backbone, mlp, tmp_path):
    """A MoCo checkpoint for that config, of other batches; without torch an .npz holds all of it but the optimiser."""
    tensors = {"module.queue": np.eye(16, 64, dtype=np.float32), "module.queue_ptr": np.array([48])}
    for seed, name in enumerate(("encoder_q", "encoder_k")):
        tensors |= backbone(f"module.{name}.", architecture="resnet10", side=3, seed=seed)
        tensors |= mlp(f"module.{name}.fc.", (64, 32, 16))
    np.savez(tmp_path / "moco.npz", **tensors)
    return tmp_path / "moco.npz"


def run(*arguments):
    return main.main([str(argument) for argument in arguments])


def test_it_says_what_a_file_is(moco_file, capsys):
    assert run("convert", moco_file) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{moco_file}: MoCo: resnet10, width 0.125, stem small, head 64-32-16, EMA target, queue 64 x 16"
    ]


def test_to_a_run_and_its_results(moco_file, config, tmp_path, capsys):
    folder = tmp_path / "run"
    assert run("convert", moco_file, folder, *config) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "from the checkpoint: backbone, head, target, queue" in lines
    assert lines[-1].endswith("starts at epoch 0")
    with Checkpoints(folder) as checkpoints:
        assert (checkpoints.steps, checkpoints.notes()["position"]) == ([0], {"epoch": 0, "offset": 0})
    settings = (folder / "config.json").read_text()
    assert run("convert", moco_file, folder, *config, "--config.evaluation.knn_k=7") == 1
    assert f"{folder}: holds a run already (step 0)" in capsys.readouterr().err
    assert (folder / "config.json").read_text() == settings
    for output, flag in (([tmp_path / "on", *config], "--verify"), ([], "--verify"), ([], "--stem=small")):
        assert run("convert", folder, *output, flag) == 1
        assert f"convert: {flag.partition('=')[0]}: " in capsys.readouterr().err
    assert not (tmp_path / "on").exists()

    assert run("evaluate", f"--workdir={folder}") == 0
    assert run("evaluate", f"--workdir={tmp_path / 'torch'}", f"--torch={moco_file}", *config) == 0
    theirs, ours = (json.loads((place / "results.json").read_text()) for place in (tmp_path / "torch", folder))
    assert theirs.pop("network").startswith("MoCo: resnet10")
    assert theirs.pop("checkpoint") == str(moco_file)
    assert ours.pop("step") == 0
    assert theirs == ours
    assert set(ours) >= {"knn_top1", "linear_top1"}
    assert run("evaluate", f"--workdir={folder}", f"--torch={moco_file}", *config) == 1
    assert "holds a run; choose another folder for the results of --torch" in capsys.readouterr().err


def test_a_moco_run_there_and_back(moco_file, config, tmp_path, capsys):
    torch = pytest.importorskip("torch")
    assert run("convert", moco_file, tmp_path / "run", *config) == 0
    assert run("convert", tmp_path / "run", tmp_path / "a.pth.tar", "--layout=moco", "--verify") == 0
    out = capsys.readouterr().out
    assert f"verified: {tmp_path / 'a.pth.tar'} in JAX and PyTorch differ at most by: eval features" in out
    before, after = load_torch(moco_file), load_torch(tmp_path / "a.pth.tar")
    check_equal(after, before)
    # The next steps write rows 32 to 63 and 0 to 31, the oldest keys first; from row 48 on they could not.
    assert (before.pointer, after.pointer, after.sgd["weight_decay"]) == (48, 32, 1e-4)
    np.testing.assert_array_equal(after.queue, np.roll(before.queue, -16, axis=0))

    file = torch.load(tmp_path / "a.pth.tar")
    file["epoch"], file["optimizer"]["param_groups"][0]["weight_decay"] = 3, 5e-4
    torch.save(file, tmp_path / "b.pth.tar")
    assert run("convert", tmp_path / "b.pth.tar", tmp_path / "on", *config) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "from the checkpoint: backbone, head, target, queue, momentum" in lines
    assert "SGD's weight_decay was 0.0005, the config has 0.0001" in lines
    assert lines[-1].endswith("goes on at epoch 3 of 4")
    with Checkpoints(tmp_path / "on") as checkpoints:
        notes = {"position": {"epoch": 3, "offset": 0}, "num_classes": 2, "num_examples": 64}
        assert (checkpoints.steps, checkpoints.notes()) == ([6], notes)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["convert", "FILE", "out.pth", "--config.seed=1"], "--config.seed: needs --config"),
        (["convert", "FILE", f"--config={SMOKE}"], "--config: needs OUTPUT"),
        (["convert", "FILE", "--layout=moco"], "--layout: is of a file that is written; name one as OUTPUT"),
        (["convert", "FILE", "run", f"--config={SMOKE}", "--layout=moco"], "--layout: is of a file that is written"),
        (["convert", "FILE", "out.npz", "--layout=keras"], "layout 'keras': unknown; one of torchvision, timm"),
        (
            ["convert", "FILE", "run", f"--config={SMOKE}"],
            "config.model.stem = 'medium': the checkpoint's is 'small'",
        ),
        (["convert", "absent.pth"], "absent.pth: cannot be read: No such file or directory"),
        (["evaluate", "--torch=FILE", "--workdir=x"], "--torch: needs --config"),
        (["evaluate", "--stem=small", "--workdir=x"], "--stem: belongs to --torch"),
    ],
)
def test_wrong_arguments_are_one_line(arguments, line, moco_file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(*(argument.replace("FILE", str(moco_file)) for argument in arguments)) == 1
    error = capsys.readouterr().err
    assert line in error
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["moco.npz"]
