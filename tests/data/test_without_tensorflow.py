"""What runs on a machine without TensorFlow: folders, array_record, and the drawn dataset, from data to results."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from builders import picture
from PIL import Image

from ncl_jax.data.datasets import open_dataset
from ncl_jax.data.stream import CropStream, eval_batches

TESTS = Path(__file__).parents[1]
READ = """
import sys
from without import hide
hide({"tensorflow"})
import numpy as np
from ncl_jax.data.datasets import open_dataset
from ncl_jax.data.stream import CropStream, eval_batches
dataset = open_dataset("jpegs", SPLIT, data_dir=FOLDER)
batch = next(CropStream(dataset, batch=8, image_size=24, seed=1, max_bad_share=1.0, fields=("id",)))
(whole,) = eval_batches(dataset, batch=80, size=24, resize=24, process=(0, 1))
whole = {"whole_" + key: value for key, value in whole.items()}
np.savez(OUTPUT, tensorflow="tensorflow" in sys.modules, **batch, **whole)
"""


def without(code, **values):
    head = "\n".join(f"{name} = {value!r}" for name, value in values.items())
    subprocess.run([sys.executable, "-c", head + code], cwd=TESTS, check=True, capture_output=True, text=True)


def test_array_record_gives_the_bytes_of_tfrecord(data_dir, array_dir, tmp_path):
    output, split = tmp_path / "read.npz", "train[:50%]+bad[10:30]"
    without(READ, FOLDER=str(array_dir), SPLIT=split, OUTPUT=str(output))
    dataset = open_dataset("jpegs", split, data_dir=data_dir)
    batch = next(CropStream(dataset, batch=8, image_size=24, seed=1, max_bad_share=1.0, fields=("id",)))
    (whole,) = eval_batches(dataset, batch=80, size=24, resize=24, process=(0, 1))
    with np.load(output) as read:
        assert not read["tensorflow"]
        for key, value in (batch | {f"whole_{key}": value for key, value in whole.items()}).items():
            np.testing.assert_array_equal(read[key], value, err_msg=key)


def command(*arguments):
    hidden = "tensorflow,tensorflow_datasets,tensorboard,array_record"
    return subprocess.run(
        [sys.executable, str(TESTS / "without.py"), hidden, *arguments],
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    for split, count in (("train", 16), ("test", 4)):
        for number, label in enumerate(("cat", "dog")):
            (root / split / label).mkdir(parents=True)
            for index in range(count):
                Image.fromarray(picture(index + 7 * number, 20, 24)).save(root / split / label / f"{index}.png")
    return root


def test_a_folder_is_pretrained_on_and_evaluated(photos, tmp_path):
    run = tmp_path / "run"
    done = command(
        *("pretrain", "--config=configs/smoke.py", f"--workdir={run}", f"--config.data.name=folder:{photos}"),
        *("--config.data.train_split=train", "--config.data.test_split=test", "--config.data.cache=device"),
        *("--config.epochs=1", "--config.batch=16", "--config.evaluation.knn_k=5"),
        *("--config.evaluation.sets={}", "--config.evaluation.online=()", "--config.evaluation.every_epochs=0"),
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("no events for TensorBoard, for want of TensorFlow") == 1
    assert json.loads((run / "results.json").read_text())["train_images"] == 32
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 1
    assert not list(run.glob("events*"))


def test_what_needs_tensorflow_says_so(tmp_path):
    done = command("pretrain", "--config=configs/cifar10.py", f"--workdir={tmp_path}/run")
    assert done.returncode == 1
    assert "TensorFlow Datasets cannot be imported" in done.stderr
    assert "folder:PATH" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_drawn_dataset_is_the_built_one(tmp_path, monkeypatch):
    from ncl_jax.data import datasets, shapes_textures

    monkeypatch.setattr(shapes_textures, "COUNTS", {"train": 20, "test": 10, "cue_conflict": 90})
    built = open_dataset("shapes_textures/px16", "cue_conflict[:40]", data_dir=tmp_path)
    monkeypatch.setattr(datasets, "has_tensorflow", lambda: False)
    drawn = open_dataset("shapes_textures/px16", "cue_conflict[:40]", data_dir=tmp_path / "none")
    assert drawn.chunks == () != built.chunks
    for field in ("num_examples", "num_classes", "class_names", "extra_keys", "image_shape", "names", "label_key"):
        assert getattr(drawn, field) == getattr(built, field), field
    (a,), (b,) = (list(eval_batches(d, batch=40, size=16, resize=16, process=(0, 1))) for d in (built, drawn))
    for key in a:
        np.testing.assert_array_equal(a[key], b[key], err_msg=key)
    a, b = (next(CropStream(d, batch=40, image_size=16, seed=2)) for d in (built, drawn))
    for key in a:
        np.testing.assert_array_equal(a[key], b[key], err_msg=key)
