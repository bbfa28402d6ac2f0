"""Texture datasets: true to their source, and the same however the build went."""

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from builders import Jpegs, encoded, picture
from textures.builds import OPTIONS, files, plan

from ncl_jax.data import columns, datasets, stream, texture_datasets
from ncl_jax.errors import UserError
from ncl_jax.textures import build, build_examples, build_sample


def test_records_labels_and_ids_are_the_sources(data_dir, built):
    source = datasets.open_dataset("jpegs", "bad", data_dir=data_dir)
    made = datasets.open_dataset("textures/jpegs-draft", "bad", data_dir=data_dir)
    assert (made.num_examples, made.num_classes, made.image_shape) == (60, 3, (32, 32))
    assert len(made.chunks) == 6
    (images,) = stream.eval_batches(source, batch=60, size=40, resize=40, process=(0, 1))
    (textures,) = stream.eval_batches(made, batch=60, size=32, resize=32, process=(0, 1))
    for key in ("label", "mask", "id"):  # what does not decode gives what does not decode
        np.testing.assert_array_equal(textures[key], images[key])
    for index in (0, 33):
        whole = tf.io.decode_jpeg(
            encoded(picture(index, 40 + index % 7, 50 + index % 11)), dct_method="INTEGER_ACCURATE"
        )
        colours = {tuple(colour) for colour in whole.numpy().reshape(-1, 3)}
        assert {tuple(colour) for colour in textures["image"][index].reshape(-1, 3)} <= colours
    stored = next(iter(tf.data.TFRecordDataset(made.chunks[2].path)))
    assert tf.train.Example.FromString(stored.numpy()).features.feature["id"].int64_list.value == [20]


def test_what_does_not_decode_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(build, "NAMED", 1)
    folder = tmp_path / "photos" / "train" / "a"
    folder.mkdir(parents=True)
    for index, content in enumerate((b"no", encoded(picture(0, 40, 40)))):
        (folder / f"{index}.jpg").write_bytes(content)
    (folder / "2.jpg").symlink_to("nowhere.jpg")
    source = f"folder:{tmp_path / 'photos'}"
    build.build(*build.plan(source, splits=("train",), quality="draft", size=32, data_dir=str(tmp_path / "tfds")))
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "will not either" in line]
    assert line.endswith((f"either: {folder / '0.jpg'} and 1 more", f"either: {folder / '2.jpg'} and 1 more"))


def test_slices_of_a_folder_without_splits_find_their_textures(tmp_path):
    for label in ("a", "b"):
        (tmp_path / "flat" / label).mkdir(parents=True)
        for index in range(5):
            (tmp_path / "flat" / label / f"{index}.jpg").write_bytes(encoded(picture(index, 32, 32)))
    source, data_dir = f"folder:{tmp_path / 'flat'}", str(tmp_path / "tfds")
    recipe, splits = build.plan(source, quality="draft", size=32, data_dir=data_dir)
    build.build(recipe, splits)
    for split in ("train[:80%]", "test[80%:]", "any[:2]+any[4:5]", "all"):
        dataset = datasets.open_dataset(source, split)
        (made,) = texture_datasets.pair(dataset, [recipe.name], data_dir=data_dir).textures
        ids = [datasets.open_dataset(source, "train").paths.index(path) for path in dataset.paths]
        assert columns.read(made, "id") == ids


def test_another_folder_of_the_same_names_is_refused(tmp_path):
    """As a copy in which the images were made anew."""
    data_dir = str(tmp_path / "tfds")
    for number, place in enumerate(("first", "second")):
        (tmp_path / place / "photos" / "a").mkdir(parents=True)
        for index in range(4):
            image = picture(9 * number + index, 32, 32)
            (tmp_path / place / "photos" / "a" / f"{index}.jpg").write_bytes(encoded(image))
    plans = [
        build.plan(f"folder:{tmp_path / place / 'photos'}", quality="draft", size=32, data_dir=data_dir)
        for place in ("first", "second")
    ]
    folder, _ = build.build(*plans[0])
    with pytest.raises(UserError, match=r"holds another build \(train "):
        build.build(*plans[1])
    for split in ("train", "any[:50%]", "all"):  # nor does training take them for its own
        with pytest.raises(UserError, match=r"is none of .*second.*: it is of another folder, or files have changed"):
            texture_datasets.pair(
                datasets.open_dataset(plans[1][0].source, split), [plans[0][0].name], data_dir=data_dir
            )
    path = Path(folder) / "recipe.json"
    recipe = json.loads(path.read_text())
    shutil.move(tmp_path / "first", tmp_path / "elsewhere")
    moved = build.plan(f"folder:{tmp_path / 'elsewhere' / 'photos'}", quality="draft", size=32, data_dir=data_dir)
    assert build.build(*moved) == (folder, True)
    assert texture_datasets.pair(datasets.open_dataset(moved[0].source, "all"), [moved[0].name], data_dir=data_dir)
    del recipe["splits"]["train"]["sizes"]  # of an earlier version
    path.write_text(json.dumps(recipe))
    assert build.build(*moved) == (folder, True)


def test_a_killed_build_goes_on_to_the_same_files(data_dir, built, tmp_path):
    """By SIGKILL, in the middle of a file."""
    script = (
        "import sys; from ncl_jax.textures import build; build.SHARD = 10;"
        f"r, s = build.plan('jpegs', **{OPTIONS!r}, data_dir=sys.argv[1]);"
        "build.build(build.dataclasses.replace(r, data_dir=sys.argv[1]), s)"
    )
    (tmp_path / "jpegs").symlink_to(data_dir / "jpegs")
    folder = tmp_path / "textures" / "jpegs-draft" / build.VERSION
    child = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(done := list(folder.glob("*.tfrecord-*-of-00006"))) < 2:
        assert time.monotonic() < deadline
        assert child.poll() is None
        time.sleep(0.002)
    child.send_signal(signal.SIGKILL)
    child.wait()
    kept = {path: path.stat().st_mtime_ns for path in done}
    assert len(list(folder.glob("*.tfrecord-*-of-00006"))) < 12
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "SHARD", 10)
        assert build.build(*plan(tmp_path))[1]
    assert files(folder) == files(built)
    assert kept == {path: path.stat().st_mtime_ns for path in kept}


def test_processes_share_the_work_and_the_last_one_ends_it(data_dir, built, tmp_path, few):
    (tmp_path / "jpegs").symlink_to(data_dir / "jpegs")
    recipe, splits = plan(tmp_path)
    folder, complete = build.build(recipe, splits, process=(1, 3))
    assert not complete
    assert len(list(Path(folder).glob("*.tfrecord*"))) == 4
    assert not build.build(recipe, splits, process=(2, 3))[1]
    with pytest.raises(UserError):
        datasets.open_dataset(recipe.name, "train", data_dir=tmp_path)
    assert build.build(recipe, splits, process=(0, 3))[1]
    assert files(folder) == files(built)


def test_another_seed_gives_other_textures_beside(data_dir, few):
    recipe, _ = plan(data_dir, seed=1, splits=("train",))
    assert recipe.name == "textures/jpegs-draft-seed1"
    dataset = recipe.open("train")
    one, other = (
        next(build_examples.examples(dataclasses.replace(recipe, seed=seed), dataset, 0, 4))["image"] for seed in (0, 1)
    )
    assert one != other


def test_a_split_can_be_added(data_dir, built, few, tmp_path):
    (tmp_path / "jpegs").symlink_to(data_dir / "jpegs")
    for split in ("bad", "train"):
        folder, complete = build.build(*plan(tmp_path, splits=(split,)))
        assert complete
    assert files(folder).keys() == files(built).keys()
    assert all(files(folder)[name] == data for name, data in files(built).items() if "tfrecord" in name)
    made = datasets.open_dataset("textures/jpegs-draft", "train+bad", data_dir=tmp_path)
    assert made.num_examples == 120


def test_what_array_record_holds_gets_the_same_textures(data_dir, built, few, tmp_path):
    Jpegs(data_dir=str(tmp_path), file_format="array_record").download_and_prepare()
    folder, complete = build.build(*plan(tmp_path))
    assert complete
    for name, data in files(built).items():
        assert "tfrecord" not in name or files(folder)[name] == data


def test_a_folder_that_holds_another_build_is_refused(data_dir, built, few):
    recipe, splits = plan(data_dir, size=40)
    with pytest.raises(UserError, match=r"holds another build .size 32 is now 40"):
        build.build(recipe, splits)


def test_the_sample_is_what_is_stored(data_dir, built):
    recipe, _ = plan(data_dir)
    row = build_sample.sample(recipe, "train", built)
    assert row["collapsed"] == 0
    assert 0 <= row["nn7"] < 0.2
    sheet = tf.io.decode_png((Path(built) / "contact_sheet.png").read_bytes()).numpy()
    (Path(built) / "contact_sheet.png").unlink()
    made = datasets.open_dataset("textures/jpegs-draft", "train", data_dir=data_dir)
    (first,) = stream.eval_batches(made, batch=60, size=32, resize=32, process=(0, 1))
    np.testing.assert_array_equal(sheet[-36:-4, :32], first["image"][0])


def test_a_dataset_of_another_builder_is_left_alone(data_dir, built, few, tmp_path):
    (tmp_path / "jpegs").symlink_to(data_dir / "jpegs")
    folder = tmp_path / "textures" / "jpegs-draft" / build.VERSION
    shutil.copytree(built, folder)
    (folder / "recipe.json").unlink()
    with pytest.raises(UserError, match="holds a dataset that was built otherwise"):
        build.build(*plan(tmp_path))


def test_the_same_build_twice_at_a_time_is_refused(data_dir, built, few):
    with build._alone(built, "bad", 0), pytest.raises(UserError, match="another build of bad is at work there"):
        build.build(*plan(data_dir))


def test_a_split_that_comes_meanwhile_stays_in_the_dataset(data_dir, built, few, tmp_path, monkeypatch):
    (tmp_path / "jpegs").symlink_to(data_dir / "jpegs")
    write = build._write

    def write_and_wait(*parts):
        monkeypatch.setattr(build, "_write", write)
        assert build.build(*plan(tmp_path, splits=("bad",)))[1]
        write(*parts)

    monkeypatch.setattr(build, "_write", write_and_wait)
    assert build.build(*plan(tmp_path, splits=("train",)))[1]
    made = datasets.open_dataset("textures/jpegs-draft", "train+bad", data_dir=tmp_path)
    assert made.num_examples == 120


def test_a_sample_of_nothing_is_none(data_dir, tmp_path):
    assert build_sample.sample(plan(data_dir)[0], "rotten", str(tmp_path)) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"splits": ("tran",)}, "no split 'tran'; it has train, bad, rotten"),
        ({"quality": "best"}, "--quality=best: one of standard"),
        ({"size": 4}, "--size=4: want 8"),
        ({"seed": -1}, "--seed=-1: want 0 to 4294967295"),
        ({"seed": 2**32}, "--seed=4294967296"),
    ],
)
def test_refusals(data_dir, changes, message, monkeypatch):
    if "splits" not in changes:  # a source that is built on first use is not built for what is refused anyway
        monkeypatch.setattr(datasets, "split_names", None)
    with pytest.raises(UserError, match=message):
        plan(data_dir, **changes)


def test_the_home_folder_is_understood(data_dir, monkeypatch):
    monkeypatch.setenv("HOME", str(data_dir.parent))
    recipe, _ = plan(f"~/{data_dir.name}")
    assert recipe.data_dir == str(data_dir)


def test_sides(data_dir, monkeypatch):
    assert plan(data_dir, size=None)[0].size == 224  # images of many sizes
    fixed = datasets.dataclasses.replace(
        datasets.open_dataset("jpegs", "train", data_dir=data_dir), image_shape=(64, 64)
    )
    monkeypatch.setattr(datasets, "open_dataset", lambda *_, **__: fixed)
    recipe, _ = plan(data_dir, size=None)
    assert (recipe.size, recipe.exemplar, recipe.encoding) == (64, 27, "png")
