"""A longer run of tiny steps: nothing grows, and checkpoints are pruned by rule.

`ncl-jax benchmark soak` is the long form.
"""

import pytest
from faults import runs

from ncl_jax import config as config_lib
from ncl_jax import train
from ncl_jax.benchmark import soak

EPOCHS, STEPS_PER_EPOCH = 20, 8
TINY = {
    "epochs": EPOCHS,
    "batch": 8,
    "log_every": 4,
    "data.name": "shapes_textures/px16",
    "data.train_split": "train[:64]",
    "data.test_split": "test[:64]",
    "data.image_size": 16,
    "method.queue_size": 64,
    "negatives.patch.patch_size": (2, 5),
    "evaluation.resize": 16,
    "evaluation.every_epochs": 0,
    "evaluation.sets": {},
    "evaluation.online": (),
    "checkpoint.keep": 2,
    "checkpoint.keep_every_epochs": 5,
}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return config_lib.load(runs.SMOKE, TINY | {"data.data_dir": str(tmp_path_factory.mktemp("data"))})


def test_nothing_grows(config, tmp_path):
    seen = soak.watch(lambda: train.pretrain(config, str(tmp_path / "one")), tmp_path / "one", every=0.05)
    late = [row for row in seen if EPOCHS * STEPS_PER_EPOCH / 2 < row["step"] < EPOCHS * STEPS_PER_EPOCH]
    print(soak.sentence(seen))
    assert len(late) > 5
    handles, threads = ([row[name] for row in late] for name in ("file handles", "threads"))
    # Saving opens and closes files and threads: the least and the most over two halves may not drift.
    half = len(late) // 2
    assert min(handles[half:]) <= min(handles[:half]) + 2
    assert min(threads[half:]) <= min(threads[:half]) + 2

    kept = {int(path.name) // STEPS_PER_EPOCH for path in (tmp_path / "one" / "checkpoints").iterdir()}
    assert kept == {5, 10, 15, 19, 20}
