import logging
import multiprocessing
import os
import signal
import time

import numpy as np
import pytest
from builders import Imagenet2012, Unlabelled, encoded, picture

from ncl_jax.data import columns, datasets, folders, imagenet100, memory, overlap, prepared, rows, shapes_textures
from ncl_jax.data.datasets import open_dataset, split_names
from ncl_jax.errors import UserError


def refusal(*args, **kwargs) -> str:
    """The message of the one-line UserError."""
    with pytest.raises(UserError) as caught:
        open_dataset(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_tfds_dataset(data_dir):
    data = open_dataset("jpegs", "train", data_dir=data_dir)
    assert (data.num_examples, data.num_classes, data.image_key, data.label_key) == (60, 3, "image", "label")
    assert data.image_shape is None
    assert data.record_name(7).endswith("jpegs-train.tfrecord-00000-of-00001#7")
    part = open_dataset("jpegs:1.0.0", "train[:50%]+bad[10:13]", data_dir=data_dir)
    assert part.num_examples == 33
    assert (data.title, part.title) == ("jpegs/1.0.0[train]", "jpegs/1.0.0[train[:50%]+bad[10:13]]")
    assert part.record_name(31).endswith("jpegs-bad.tfrecord-00000-of-00001#11")


def test_folder(folder):
    data = open_dataset(f"folder:{folder}", "train")
    assert (data.num_examples, data.num_classes, data.class_names) == (6, 2, ("cat", "dog"))
    for path, label in zip(data.paths, data.folder_labels, strict=True):
        assert path.split(os.sep)[-2] == data.class_names[label]
    part = open_dataset(f"folder:{folder}", "train[:50%]")
    assert (part.num_examples, part.title) == (3, f"folder:{folder}[train[:50%]]")


def test_what_is_no_image_in_a_folder_is_told_once(folder, caplog):
    inside = folder / "train" / "cat"
    (inside / "deeper").mkdir()
    (inside / "deeper" / "a.jpg").write_bytes(encoded(picture(1)))
    (inside / "x.webp").write_bytes(b"")
    (inside / ".hidden").write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert open_dataset(f"folder:{folder}", "train").num_examples == 6
    assert caplog.messages == [f"left out of the images: {inside / 'deeper'}, which is a folder, and 1 more"]


def flat(tmp_path, labels=("cat", "dog"), count=5):
    for label in labels:
        (tmp_path / label).mkdir()
        for index in range(count):
            (tmp_path / label / f"{index}.jpg").write_bytes(encoded(picture(index)))
    return f"folder:{tmp_path}"


def test_folder_without_splits_opens_under_any_name(tmp_path):
    name = flat(tmp_path)
    whole, test = open_dataset(name, "train"), open_dataset(name, "test")
    assert whole.paths == test.paths == open_dataset(name, "all").paths
    assert (whole.num_examples, whole.class_names) == (10, ("cat", "dog"))
    parts = [open_dataset(name, split) for split in ("train[:80%]", "test[80%:]")]
    assert parts[0].paths + parts[1].paths == whole.paths
    assert split_names(name) == ("train",)
    assert f"{tmp_path}/cat has no folder per label" in refusal(name, "cat[:50%]")


def test_images_without_labels_open_by_the_name_of_their_folder_too(tmp_path):
    (tmp_path / "all").mkdir()
    for index in range(4):
        (tmp_path / "all" / f"{index}.jpg").write_bytes(encoded(picture(index)))
    name = f"folder:{tmp_path}"
    assert open_dataset(name, "all[:75%]").paths == open_dataset(name, "train[:75%]").paths
    for path in (tmp_path / "all").iterdir():
        path.rename(tmp_path / path.name)
    (tmp_path / "all").rmdir()
    assert refusal(name, "train").endswith(f"4 images lie in {tmp_path} itself; move them into {tmp_path}/all")


def test_images_that_are_in_both_parts_are_refused(data_dir, array_dir, tmp_path, monkeypatch):
    name = flat(tmp_path)
    monkeypatch.setattr(datasets, "has_tensorflow", lambda: False)  # drawn, not built
    drawn = [open_dataset("shapes_textures/px8", split) for split in ("train[:20]", "train[10:15]+test[:5]")]
    monkeypatch.undo()

    def parts(name, *splits, **options):
        return [open_dataset(name, split, **options) for split in splits]

    for shared, of, (train, test) in (
        (8, 10, parts(name, "train[:80%]", "test")),
        (10, 10, parts(name, "train", "test")),
        (5, 20, parts("jpegs", "bad+train[:35]", "train[10:15]+train[35:50]", data_dir=data_dir)),
        (5, 20, parts("jpegs", "bad+train[:35]", "train[10:15]+train[35:50]", data_dir=array_dir)),
        (5, 10, drawn),
    ):
        with pytest.raises(UserError, match=f": {shared} of the {of} images of .* are in .* too; name parts"):
            overlap.need_other_images(train, test)
    overlap.need_other_images(*parts(name, "train[:80%]", "test[80%:]"))
    for folder in (data_dir, array_dir):
        overlap.need_other_images(*parts("jpegs", "bad+train[:35]", "train[35:]", data_dir=folder))


def test_folder_has_the_files_of_tfds_in_its_order_and_leaves_other_splits_alone(folder, monkeypatch):
    import tensorflow_datasets as tfds

    theirs = tfds.folder_dataset.ImageFolder(str(folder))
    listed, entries = [], folders._entries
    monkeypatch.setattr(folders, "_entries", lambda folder: listed.append(str(folder)) or entries(folder))
    for split in ("train", "val"):
        ours = open_dataset(f"folder:{folder}", split)
        assert list(ours.paths) == [str(e.image_path) for e in theirs._split_examples[split]]
        assert list(ours.class_names) == theirs.info.features["label"].names
    assert split_names(f"folder:{folder}") == ("train", "val")
    listed.clear()
    open_dataset(f"folder:{folder}", "val")
    assert f"{folder}/val/cat" in listed
    assert f"{folder}/train/cat" not in listed


def test_refusals(data_dir, folder, tmp_path, monkeypatch):
    assert "unknown; did you mean" in refusal("shapes_texture", "train", data_dir=data_dir)
    assert "shapes_textures" in refusal("shapes_texture", "train", data_dir=data_dir)
    assert "cifar10" in refusal("cifar11", "train", data_dir=data_dir)
    assert "no split 'test'; it has train, bad, rotten" in refusal("jpegs", "test", data_dir=data_dir)
    assert "is empty" in refusal("jpegs", "train[:0]", data_dir=data_dir)
    build = f"tfds.builder('cifar10', data_dir='{data_dir}').download_and_prepare()"
    line = f'run: python -c "import tensorflow_datasets as tfds; {build}"'
    assert line in refusal("cifar10", "train", data_dir=data_dir)
    assert "downloads/manual" in refusal("imagenet2012_real", "validation", data_dir=data_dir)
    assert "no such folder" in refusal(f"folder:{tmp_path}/none", "train")
    assert "no images found" in refusal(f"folder:{tmp_path}", "train")
    assert "no split 'test'; it has train, val" in refusal(f"folder:{folder}", "test")
    assert "px8 to px1024" in refusal("shapes_textures/32", "train", data_dir=data_dir)
    assert "3.0.0" in refusal("shapes_textures:3.0.0", "train", data_dir=data_dir)
    assert "has no configs" in refusal("imagenet100/small", "train", data_dir=data_dir)
    monkeypatch.setattr(datasets, "has_tensorflow", lambda: False)
    build = "tfds.builder('jpegs', file_format='array_record').download_and_prepare()"
    assert build in refusal("jpegs", "train", data_dir=data_dir)
    assert "3.0.0: no such version; it is 1.3.0" in refusal("shapes_textures:3.0.0", "train")
    assert open_dataset("shapes_textures/px8:1.*.*", "train").num_examples == 4000


def test_what_is_beside_the_labels_is_no_class(tmp_path):
    (tmp_path / "train").mkdir()
    flat(tmp_path / "train")
    for path in ("train/.ipynb_checkpoints/a.jpg", "train/cat/._0.jpg", "test/images/a.jpg"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(encoded(picture(0)))
    data = open_dataset(f"folder:{tmp_path}", "train")
    assert (data.class_names, data.num_examples) == (("cat", "dog"), 10)
    assert "test/images/a.jpg: the split train has no such label" in refusal(f"folder:{tmp_path}", "test")


def test_what_does_not_fit_the_memory_is_not_held(data_dir, monkeypatch):
    monkeypatch.setattr(memory, "total", lambda: 8192)
    with pytest.raises(
        UserError, match=r"jpegs\[train\]: its 0.0 GiB would be held in memory, of which half is 0.0 GiB"
    ):
        rows.lookup(open_dataset("jpegs", "train", data_dir=data_dir))
    monkeypatch.setattr(memory, "total", lambda: 0)  # unknown
    rows.lookup(open_dataset("jpegs", "train", data_dir=data_dir))


def test_missing_file_is_named(tmp_path):
    prepared.prepare(lambda: Unlabelled(data_dir=str(tmp_path)))
    next(tmp_path.glob("unlabelled/1.0.0/*.tfrecord*")).unlink()
    assert "unlabelled-train.tfrecord-00000-of-00001 is missing" in refusal("unlabelled", "train", data_dir=tmp_path)


def test_labels_and_size_are_asked_for_where_needed(data_dir):
    data = open_dataset("unlabelled", "train", data_dir=data_dir)
    assert data.num_classes is None
    assert data.image_shape == (16, 16)
    with pytest.raises(UserError, match=r"unlabelled\[train\]: has no labels"):
        data.need_labels()
    with pytest.raises(UserError, match="4 examples are fewer than one batch of 5"):
        data.need_batch(5)
    assert data.need_batch(4) is data


def test_shapes_textures_is_built_on_first_use(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(shapes_textures, "COUNTS", {"train": 20, "test": 10, "cue_conflict": 90})
    with caplog.at_level(logging.INFO):
        data = open_dataset("shapes_textures/px16", "cue_conflict", data_dir=tmp_path)
    assert "built dataset shapes_textures: 120 images" in caplog.text
    assert (data.num_examples, data.num_classes, data.extra_keys) == (90, 10, ("shape", "texture"))
    assert data.names["texture"] == shapes_textures.TEXTURES
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*tfrecord*")}
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path)
    open_dataset("shapes_textures/px16", "train", data_dir=f"~/{tmp_path.name}")
    assert split_names("shapes_textures/px16", data_dir=f"~/{tmp_path.name}") == ("train", "test", "cue_conflict")
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*tfrecord*")}


def test_cue_conflict_is_balanced_and_the_other_splits_agree():
    pairs = [shapes_textures.cues("cue_conflict", index) for index in range(1800)]
    counts = np.zeros((10, 10), int)
    np.add.at(counts, tuple(np.array(pairs).T), 1)
    np.testing.assert_array_equal(counts, 20 * (1 - np.eye(10, dtype=int)))
    for split in ("train", "test"):
        assert all(shapes_textures.cues(split, i) == (i % 10, i % 10) for i in range(100))


def _build_slowly(folder, started, finished):
    from ncl_jax.data import drawn_records

    draw = drawn_records.draw

    def slow(*args):
        started.set()
        time.sleep(0.002)
        return draw(*args)

    drawn_records.draw = slow
    open_dataset("shapes_textures/px8", "test", data_dir=folder)
    finished.set()


def test_a_killed_build_is_repaired(tmp_path, monkeypatch):
    context = multiprocessing.get_context("spawn")
    started, finished = context.Event(), context.Event()
    process = context.Process(target=_build_slowly, args=(str(tmp_path), started, finished))
    process.start()
    assert started.wait(60)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert not finished.is_set()
    assert list(tmp_path.rglob("incomplete*"))
    monkeypatch.setattr(shapes_textures, "COUNTS", {"train": 20, "test": 10, "cue_conflict": 90})
    assert open_dataset("shapes_textures/px8", "test", data_dir=tmp_path).num_examples == 10
    assert not list(tmp_path.rglob("incomplete*"))


@pytest.mark.parametrize("stored", ["tfrecord", "array_record"])
def test_imagenet100_copies_bytes_and_renumbers(tmp_path, stored, monkeypatch):
    import tensorflow_datasets as tfds

    data_dir = tmp_path
    prepared.prepare(lambda: Imagenet2012(data_dir=str(data_dir), file_format=stored))
    data = open_dataset("imagenet100", "validation", data_dir=data_dir)
    assert (data.num_examples, data.num_classes) == (200, 100)
    assert list(data.class_names) == sorted(data.class_names) == imagenet100.classes()
    skip = {"image": tfds.decode.SkipDecoding()}
    source = Imagenet2012(data_dir=str(data_dir))
    if stored == "tfrecord":
        examples = source.as_dataset("validation", decoders=skip).as_numpy_iterator()
    else:
        examples = source.as_data_source("validation", decoders=skip)
    original = {e["file_name"]: e["image"] for e in examples}
    built = tfds.builder("imagenet100", data_dir=str(data_dir)).as_dataset(split="validation", decoders=skip)
    for example in built.as_numpy_iterator():
        assert example["image"] == original[example["file_name"]]
        assert example["file_name"].decode().startswith(data.class_names[example["label"]])
    monkeypatch.setattr(datasets, "has_tensorflow", lambda: False)
    build = "from ncl_jax.data.imagenet100 import Imagenet100; Imagenet100(file_format='array_record').download_and"
    assert f"prepare it elsewhere, in Python, with: {build}" in refusal("imagenet100", "train", data_dir=tmp_path)


def test_columns_are_not_read_from_array_record(array_dir):
    with pytest.raises(UserError, match="stored as array_record; its feature file_name is read from tfrecord only"):
        columns.read(open_dataset("jpegs", "train", data_dir=array_dir), "file_name")


def test_imagenet100_says_what_it_is_made_from(tmp_path):
    message = refusal("imagenet100", "train", data_dir=tmp_path)
    assert "ILSVRC2012_img_train.tar" in message
    assert f"tfds.builder('imagenet2012', data_dir='{tmp_path}').download_and_prepare()" in message


def test_imagenet100_list_is_the_published_one(shared_data):
    import json

    published = json.loads((shared_data / "class_lists.json").read_text())["imagenet100_cmc"]
    assert imagenet100.classes() == sorted(published)


def test_changed_imagenet100_list_is_refused(monkeypatch):
    monkeypatch.setattr(imagenet100, "SHA256", "0" * 64)
    with pytest.raises(UserError, match="was changed"):
        imagenet100.classes()
