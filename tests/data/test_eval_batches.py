"""Batches for evaluation: every image once, in order, whoever reads them; what does not decode is masked."""

import itertools

import numpy as np
import pytest

from ncl_jax.data.datasets import open_dataset
from ncl_jax.data.stream import eval_batches


@pytest.mark.parametrize("processes", [1, 2])
def test_evaluation_shows_every_example_once_and_in_order(data_dir, processes):
    dataset = open_dataset("jpegs", "train[:57]", data_dir=data_dir)
    parts = [
        list(eval_batches(dataset, batch=16, size=24, resize=30, process=(index, processes)))
        for index in range(processes)
    ]
    assert len({len(part) for part in parts}) == 1
    ids = [batch["id"][batch["mask"]] for part in parts for batch in part]
    np.testing.assert_array_equal(np.concatenate(ids), np.arange(57))
    for batch in itertools.chain(*parts):
        assert batch["image"].shape == (16 // processes, 24, 24, 3)
        np.testing.assert_array_equal(batch["label"][batch["mask"]], batch["id"][batch["mask"]] % 3)


def test_more_processes_than_examples(data_dir):
    dataset = open_dataset("jpegs", "train[:1]", data_dir=data_dir)
    parts = [list(eval_batches(dataset, batch=2, size=8, resize=8, process=(index, 2))) for index in range(2)]
    assert [[batch["mask"].tolist() for batch in part] for part in parts] == [[[False]], [[True]]]
    assert parts[0][0].keys() == parts[1][0].keys()


def test_evaluation_masks_bad_records(data_dir, caplog):
    dataset = open_dataset("jpegs", "bad", data_dir=data_dir)
    batches = list(eval_batches(dataset, batch=16, size=24, resize=24, process=(0, 1)))
    mask = np.concatenate([batch["mask"] for batch in batches])
    np.testing.assert_array_equal(np.flatnonzero(~mask), [7, 20, 60, 61, 62, 63])
    assert "jpegs-bad.tfrecord-00000-of-00001#7" in caplog.text


def test_evaluation_gives_the_other_labels(tmp_path, monkeypatch):
    from ncl_jax.data import shapes_textures

    monkeypatch.setattr(shapes_textures, "COUNTS", {"train": 20, "test": 10, "cue_conflict": 90})
    dataset = open_dataset("shapes_textures/px16", "cue_conflict", data_dir=tmp_path)
    (batch,) = eval_batches(dataset, batch=90, size=16, resize=16, process=(0, 1))
    for index in (0, 33, 89):
        expected = shapes_textures.example("cue_conflict", index, size=16)
        np.testing.assert_array_equal(batch["image"][index], expected["image"])
        assert [batch[k][index] for k in ("shape", "texture", "label")] == [
            expected[k] for k in ("shape", "texture", "label")
        ]
