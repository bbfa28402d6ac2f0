"""A longer run of tiny steps: nothing grows, and checkpoints are pruned by rule.

`ncl-jax benchmark soak` is the long form.
"""

import pytest
from faults import runs

from ncl_jax import checkpoint, train
from ncl_jax import config as config_lib
from ncl_jax.benchmark import soak

EPOCHS, STEPS_PER_EPOCH = 20, 8
WARM = 3  # epochs until everything is opened
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


def test_nothing_grows(config, tmp_path, monkeypatch):
    """A save in flight holds handles and threads, so they are counted between one save and the next."""
    seen = []
    save = checkpoint.Checkpoints.save

    def count_and_save(self, *args, **options):
        self._settle()
        seen.append(soak.held())
        save(self, *args, **options)

    monkeypatch.setattr(checkpoint.Checkpoints, "save", count_and_save)
    train.pretrain(config, str(tmp_path / "one"))
    print(seen)
    assert len(seen) == EPOCHS
    for name in ("file handles", "threads"):
        early, late = ([row[name] for row in part] for part in (seen[WARM:-5], seen[-5:]))
        # One left behind by every save, or every epoch, would be more.
        assert min(late) <= min(early) + 2, name

    kept = {int(path.name) // STEPS_PER_EPOCH for path in (tmp_path / "one" / "checkpoints").iterdir()}
    assert kept == {5, 10, 15, 19, 20}
