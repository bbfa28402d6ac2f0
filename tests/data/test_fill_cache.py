from pathlib import Path

import jax
import numpy as np
import pytest
from builders import encoded, picture
from PIL import Image

from ncl_jax import parallel, progress
from ncl_jax.data import device_cache, fill_cache
from ncl_jax.data.datasets import open_dataset
from ncl_jax.data.stream import eval_batches
from ncl_jax.errors import UserError


def meshed(devices=8):
    return parallel.data_mesh(jax.devices()[:devices])


def test_every_image_squeezed_with_its_label_and_proportions(data_dir, monkeypatch):
    monkeypatch.setattr(fill_cache, "TOGETHER", 7)
    dataset = open_dataset("jpegs", "train", data_dir=data_dir)  # of different sizes
    cache = fill_cache.fill(dataset, side=24, mesh=meshed(), threads=2)
    assert cache.images.shape == (64, 24, 24, 3)  # 60, padded to 8 devices
    assert len(cache.images.addressable_shards) == 8
    np.testing.assert_array_equal(cache.labels, np.arange(60) % 3)
    np.testing.assert_allclose(cache.aspects, [(50 + i % 11) / (40 + i % 7) for i in range(60)], rtol=1e-6)
    images = np.asarray(cache.images)
    assert not images[60:].any()
    expected = np.asarray(Image.fromarray(picture(0)).resize((24, 24), Image.Resampling.BILINEAR), np.float32)
    assert np.abs(images[0] - expected).mean() < 4  # what JPEG loses
    again = np.asarray(fill_cache.fill(dataset, side=24, mesh=meshed(1), threads=1).images)
    np.testing.assert_array_equal(images[:60], again)


def test_images_of_one_square_are_kept_as_they_are(data_dir):
    dataset = open_dataset("unlabelled", "train", data_dir=data_dir)
    assert fill_cache.side_of(dataset, 224) == 16
    cache = fill_cache.fill(dataset, side=16, mesh=meshed(1))
    batch = next(eval_batches(dataset, batch=4, size=16, resize=16, process=(0, 1)))
    np.testing.assert_array_equal(cache.images, batch["image"])
    np.testing.assert_array_equal(cache.labels, -1)
    np.testing.assert_array_equal(cache.aspects, 1)


def test_other_datasets_are_kept_at_the_side_of_the_views(data_dir):
    assert fill_cache.side_of(open_dataset("jpegs", "train", data_dir=data_dir), 24) == 24


def test_a_folder_is_squeezed_as_pillow_does(folder):
    dataset = open_dataset(f"folder:{folder}", "train")
    cache = fill_cache.fill(dataset, side=20, mesh=meshed(2))
    for index, path in enumerate(dataset.paths):
        with Image.open(path) as file:
            expected = np.asarray(file.resize((20, 20), Image.Resampling.BILINEAR), np.int32)
        assert np.abs(np.asarray(cache.images)[index] - expected).max() <= 4  # of two JPEG decoders


def test_a_neighbour_stands_in_for_a_bad_record(data_dir, caplog):
    dataset = open_dataset("jpegs", "bad", data_dir=data_dir)
    cache = fill_cache.fill(dataset, side=24, mesh=meshed(1), max_bad_share=0.1)
    images = np.asarray(cache.images)
    np.testing.assert_array_equal(images[7], images[6])
    assert cache.labels[7] == cache.labels[6]
    assert (images[8] != images[6]).any()
    assert sum("does not decode" in record.message for record in caplog.records) == 2
    with pytest.raises(UserError, match="max_bad_share"):
        fill_cache.fill(dataset, side=24, mesh=meshed(1))
    with pytest.raises(UserError, match="none decodes"):
        fill_cache.fill(open_dataset("jpegs", "rotten", data_dir=data_dir), side=24, mesh=meshed(1))


def test_who_stands_in_depends_neither_on_the_devices_nor_on_what_is_read_together(data_dir, tmp_path, monkeypatch):
    """Records 8 and 40 begin the part of a device; 7 and 8, the first and the last stand alone in their batch."""
    bad, name = {0, 7, 8, 40, 41, 59}, "train/thing"
    (tmp_path / name).mkdir(parents=True)
    for index in range(60):
        (tmp_path / name / f"{index:02}.png").write_bytes(encoded(picture(index, 24, 24), "PNG"))
    folder = open_dataset(f"folder:{tmp_path}", "train")
    for index in bad:
        Path(folder.paths[index]).write_bytes(b"no image")
    images = {}
    for devices, together in ((1, 256), (8, 256), (8, 1)):
        monkeypatch.setattr(fill_cache, "TOGETHER", together)
        for dataset in (folder, open_dataset("jpegs", "bad", data_dir=data_dir)):
            cache = fill_cache.fill(dataset, side=24, mesh=meshed(devices), max_bad_share=0.1)
            first = images.setdefault(dataset.name, np.asarray(cache.images)[:60])
            np.testing.assert_array_equal(np.asarray(cache.images)[:60], first)
    first = images[folder.name]
    for index, other in {0: 1, 7: 6, 8: 9, 40: 39, 41: 42, 59: 58}.items():
        np.testing.assert_array_equal(first[index], first[other])


def test_too_large_is_refused_before_anything_is_read(data_dir, monkeypatch):
    monkeypatch.setattr(device_cache, "free_bytes", lambda mesh: 1000)
    monkeypatch.setattr(fill_cache.rows, "in_order", lambda *_: pytest.fail("read"))
    with pytest.raises(UserError, match="60 images of 24 px"):
        fill_cache.fill(open_dataset("jpegs", "train", data_dir=data_dir), side=24, mesh=meshed(1))


def test_progress_is_told(data_dir, monkeypatch, caplog):
    monkeypatch.setattr(progress, "EVERY", 0.0)
    monkeypatch.setattr(fill_cache, "TOGETHER", 20)
    dataset = open_dataset("jpegs", "train", data_dir=data_dir)
    with caplog.at_level("INFO", fill_cache.__name__):
        fill_cache.fill(dataset, side=24, mesh=meshed(1))
    told = [record.getMessage() for record in caplog.records if "onto the devices" in record.getMessage()]
    assert [line.partition(", ")[0].split(": ")[1] for line in told] == [f"{n} of 60 images" for n in (40, 60)]
