"""Textures beside their images: paired by id, whatever the files they lie in."""

import dataclasses
import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from builders import Jpegs, encoded, picture

from ncl_jax.data.datasets import Chunk, open_dataset
from ncl_jax.data.stream import CropStream
from ncl_jax.data.texture_datasets import pair, texture_name
from ncl_jax.errors import UserError


def take(dataset, count, **options):
    options = {"batch": 8, "image_size": 24, "seed": 1, "threads": 2, "fields": ("source", "texture", "id"), **options}
    stream = CropStream(dataset, **options)
    return stream, list(itertools.islice(stream, count))


def resharded(dataset, folder, sizes):
    """The same records in other files."""
    records = list(
        itertools.chain(*(tf.data.TFRecordDataset(c.path).skip(c.skip).take(c.take) for c in dataset.chunks))
    )
    chunks, start = [], 0
    for number, size in enumerate(sizes):
        path = str(folder / f"part{number}")
        with tf.io.TFRecordWriter(path) as writer:
            for record in records[start : start + size]:
                writer.write(record.numpy())
        chunks.append(Chunk(path, 0, size, start))
        start += size
    assert start == len(records)
    return dataclasses.replace(dataset, chunks=tuple(chunks))


@pytest.mark.parametrize("buffer", [100, 16])
def test_textures_come_with_their_image(data_dir, array_dir, tmp_path, buffer):
    """The images are their own textures, once in other files, once in a file of another kind; some do not decode."""
    dataset = open_dataset("jpegs", "bad", data_dir=data_dir)
    textures = (resharded(dataset, tmp_path, (25, 5, 30)), open_dataset("jpegs", "bad", data_dir=array_dir), dataset)
    dataset = dataclasses.replace(dataset, textures=textures)
    stream, batches = take(dataset, 10, shuffle_buffer=buffer, max_bad_share=1.0)
    for batch in batches:
        assert batch["texture"].shape == (8, 3, 24, 24, 3)
        for number in range(3):
            np.testing.assert_array_equal(batch["texture"][:, number], batch["source"])
    assert stream.skips > 0
    _, resumed = take(dataset, 1, shuffle_buffer=buffer, max_bad_share=1.0, position={"epoch": 1, "offset": 16})
    for one, two in zip(batches[9:], resumed, strict=True):
        np.testing.assert_array_equal(one["texture"], two["texture"])


def test_small_images_and_a_folder_of_textures(data_dir, tmp_path):
    (tmp_path / "train" / "any").mkdir(parents=True)
    for index in range(4):
        (tmp_path / "train" / "any" / f"{index}.png").write_bytes(encoded(picture(index, 20, 30), "PNG"))
    dataset = pair(open_dataset("unlabelled", "train", data_dir=data_dir), [f"folder:{tmp_path}"])
    shown = {}
    for buffer in (100, 2):
        _, batches = take(dataset, 2, batch=2, shuffle_buffer=buffer)
        ids, textures = (np.concatenate([batch[key] for batch in batches]) for key in ("id", "texture"))
        shown[buffer] = textures[np.argsort(ids)]
        assert sorted(ids) == [0, 1, 2, 3]
    np.testing.assert_array_equal(shown[100], shown[2])
    means = shown[100][:, 0].mean((1, 2))
    indices = [int(Path(path).stem) for path in dataset.textures[0].paths]
    expected = np.array([picture(index, 20, 30).mean((0, 1)) for index in indices])
    np.testing.assert_allclose(means, expected, atol=2)


@pytest.mark.parametrize("buffer", [100, 16])
def test_a_damaged_texture_is_named_and_not_its_image(data_dir, array_dir, folder, tmp_path, buffer):
    dataset = open_dataset("jpegs", "train", data_dir=data_dir)
    textures = [dataset, open_dataset("jpegs", "bad", data_dir=array_dir)]
    stream, _ = take(
        dataclasses.replace(dataset, textures=tuple(textures)), 14, shuffle_buffer=buffer, max_bad_share=1.0
    )
    assert sorted(stream.skipped) == ["jpegs[bad]#20", "jpegs[bad]#7"]
    shutil.copytree(folder, tmp_path / "copy")
    gone = open_dataset(f"folder:{tmp_path}/copy", "train")
    Path(gone.paths[4]).unlink()
    dataset = dataclasses.replace(open_dataset(f"folder:{folder}", "train"), textures=(gone,))
    stream, _ = take(dataset, 1, batch=6)
    assert stream.skipped == [gone.paths[4]]


def test_nothing_is_read_or_sent_that_is_not_asked_for(data_dir):
    dataset = open_dataset("jpegs", "train", data_dir=data_dir)
    dataset = dataclasses.replace(dataset, textures=(dataset,))
    stream, (batch,) = take(dataset, 1, fields=())
    assert batch.keys() == {"query", "key", "box", "label", "key_order"}
    assert stream.dataset.textures == ()


def test_names():
    assert texture_name("shapes_textures") == "textures/shapes_textures"
    assert texture_name("imagenette/160px-v2:1.0.0", seed=2) == "textures/imagenette-160px-v2-seed2"
    assert texture_name("folder:/data/my photos/", quality="faithful") == "textures/folder-my-photos-faithful"
    assert texture_name("imagenet100") == "imagenet_texture/imagenet100"


def test_refusals(data_dir, folder, tmp_path):
    dataset = open_dataset("jpegs", "train", data_dir=data_dir)
    with pytest.raises(
        UserError, match=r"textures/jpegs\[train\]: not there; make it with: ncl-jax textures --dataset=jp"
    ):
        pair(dataset, data_dir=str(data_dir))
    (tmp_path / "textures").mkdir()
    Jpegs(data_dir=str(tmp_path)).download_and_prepare()
    shutil.move(tmp_path / "jpegs", tmp_path / "textures" / "jpegs")
    with pytest.raises(UserError, match="dataset textures/jpegs: no split 'test'; it has train, bad, rotten"):
        pair(dataclasses.replace(dataset, split="test"), data_dir=str(tmp_path))  # there, and not to be made
    with pytest.raises(UserError, match=r"textures/jpegs-seed1.*--seed=1 "):
        pair(dataset, ["textures/jpegs-seed1"], count=2, data_dir=str(data_dir))
    with pytest.raises(UserError, match=r"folder.*is none of jpegs\[train\]: it has 6 records, not 60"):
        pair(dataset, [f"folder:{folder}"])
    fewer = open_dataset("jpegs", "train[:59]", data_dir=data_dir)
    shifted = dataclasses.replace(fewer, chunks=(dataclasses.replace(fewer.chunks[0], skip=1),))
    with pytest.raises(UserError, match=r"jpegs\[train\[:59\]\]: record 0 has label 0, not 1"):
        pair(shifted, ["jpegs"], data_dir=str(data_dir))
    for index, path in enumerate(open_dataset(f"folder:{folder}", "train").paths):  # 0 to 5, in an order of its own
        place = tmp_path / "renamed" / "train" / Path(path).parent.name
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place / (Path(path).name if index else "zebra.jpg"))
    images = open_dataset(f"folder:{folder}", "train")
    with pytest.raises(UserError, match=r"is where the texture of .* should be; give files the same names"):
        pair(images, [f"folder:{tmp_path}/renamed"])
    with pytest.raises(UserError, match="no texture dataset is paired with it"):
        take(dataset, 1)
