import dataclasses

import numpy as np
import pytest
from builders import encoded, picture

from ncl_jax.data import datasets, rows


@pytest.fixture
def folder(tmp_path):
    for id in range(6):
        path = tmp_path / "train" / f"class{id % 2}" / f"{id}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(picture(id), "PNG"))
    return datasets.open_dataset(f"folder:{tmp_path}", "train")


@pytest.mark.parametrize(("labels", "classes"), [([0, 1] * 3, 2), ([-1] * 5 + [1], 2), ([-1] * 6, 0)])
def test_images_without_labels_have_no_classes(folder, labels, classes):
    """STL-10's unlabelled split has a label of ten classes, -1 everywhere: a probe would show 0 % to the end."""
    assert rows.classes(dataclasses.replace(folder, folder_labels=np.array(labels, np.int32))) == classes


def test_no_label_at_all(folder):
    assert rows.classes(dataclasses.replace(folder, num_classes=None)) == 0


def test_for_its_labels_no_texture_is_read():
    """Which may mean all of them, held in memory."""
    read, looked_up = {"id": 0, "image": b"", "label": 1}, []
    whole = {"name": "x", "split": "train", "num_examples": 3, "num_classes": 2, "image_key": "image"}
    whole |= {"label_key": "label", "extra_keys": (), "image_shape": None, "names": {}}
    texture = datasets.Dataset(**whole, reader=lambda index: looked_up.append(index) or read)
    dataset = datasets.Dataset(**whole, reader=lambda index: read, textures=(texture,))
    assert rows.classes(dataset) == 2
    assert looked_up == []
    assert rows.lookup(dataset)(0)["textures"] == [b""]
    assert looked_up == [0]
