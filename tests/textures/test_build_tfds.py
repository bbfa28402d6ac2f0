"""Texture datasets as TFDS builds and reads them, and on Apache Beam."""

import importlib.util
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from builders import Imagenet2012
from textures.builds import OPTIONS, plan

from ncl_jax.data import datasets, prepared, stream
from ncl_jax.errors import UserError
from ncl_jax.textures import build


def train_records(folder):
    paths = sorted(map(str, Path(folder).glob("*-train.tfrecord*")))
    return [tf.train.Example.FromString(record.numpy()) for record in tf.data.TFRecordDataset(paths)]


def test_as_a_tfds_builder(data_dir, built, tmp_path):
    """TFDS's own way to prepare gives the same records."""
    from ncl_jax.textures import build_tfds

    recipe, splits = plan(data_dir)
    builder = build_tfds.Textures(config=build_tfds.texture_config(recipe, splits=splits), data_dir=str(tmp_path))
    prepared.prepare(lambda: builder)
    assert len(train_records(built)) == 60
    assert train_records(built) == train_records(builder.data_path)
    assert {"imagenet2012", "imagenet100"} == set(build_tfds.ImagenetTexture.builder_configs)


@pytest.mark.filterwarnings("ignore:::apache_beam")
def test_on_beam(data_dir, built, few, tmp_path, capsys):
    """In parts of ten, each opened anew by whoever draws it."""
    pytest.importorskip("apache_beam")
    (tmp_path / "jpegs").symlink_to(data_dir / "jpegs")
    build.run("jpegs", **OPTIONS, data_dir=str(tmp_path), beam_options="runner=DirectRunner")
    assert "dataset textures/jpegs-draft (train, bad) is in" in capsys.readouterr().out
    folder = tmp_path / "textures" / "jpegs-draft" / build.VERSION
    assert train_records(folder) == train_records(built)
    assert (folder / "contact_sheet.png").exists()
    assert datasets.open_dataset("textures/jpegs-draft", "train+bad", data_dir=tmp_path).num_examples == 120


def test_imagenet_texture(tmp_path):
    """Of images smaller than the exemplar; read by its TFDS name, also where the source is gone."""
    import tensorflow_datasets as tfds

    from ncl_jax.textures import build_tfds

    with pytest.raises(UserError, match="not there; make it with: ncl-jax textures"):
        datasets.open_dataset("imagenet_texture/imagenet100", "validation", data_dir=tmp_path)
    prepared.prepare(lambda: Imagenet2012(data_dir=str(tmp_path)))
    recipe, splits = build.plan("imagenet100", splits=("validation",), size=48, data_dir=str(tmp_path))
    assert (recipe.name, recipe.exemplar) == ("imagenet_texture/imagenet100", 21)
    build.build(recipe, splits)
    source = datasets.open_dataset("imagenet100", "validation", data_dir=tmp_path)
    made = datasets.open_dataset("imagenet_texture/imagenet100", "validation", data_dir=tmp_path)
    assert made.class_names == source.class_names
    (images,) = stream.eval_batches(source, batch=200, size=12, resize=12, process=(0, 1))
    assert build_tfds.ImagenetTexture.name == "imagenet_texture"
    shutil.rmtree(tmp_path / "imagenet100")
    shutil.rmtree(tmp_path / "imagenet2012")
    read = list(
        tfds.load("imagenet_texture/imagenet100", split="validation", data_dir=str(tmp_path)).as_numpy_iterator()
    )
    np.testing.assert_array_equal([example["label"] for example in read], images["label"])
    np.testing.assert_array_equal([example["id"] for example in read], np.arange(200))
    assert read[0]["image"].shape == (48, 48, 3)


@pytest.mark.skipif(importlib.util.find_spec("apache_beam") is not None, reason="apache-beam is installed")
def test_beam_is_asked_for_by_name(data_dir):
    with pytest.raises(UserError, match="pip install apache-beam"):
        build.run("jpegs", **OPTIONS, seed=7, data_dir=str(data_dir), beam_options="runner=DirectRunner")


@pytest.mark.filterwarnings("ignore:::apache_beam")
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("runner=Nope", "Unexpected pipeline runner: Nope. Valid values are"),
        ("direct_num_workers=two", "argument --direct_num_workers: invalid int value: 'two'"),
        ("runner=DataflowRunner", "Missing required option: region"),
    ],
)
def test_beams_options_that_are_none(data_dir, options, reason):
    pytest.importorskip("apache_beam")
    with pytest.raises(UserError, match=rf"--beam_options={options}: .*{reason}"):
        build.run("jpegs", **OPTIONS, seed=7, data_dir=str(data_dir), beam_options=options)


def test_beam_does_not_take_what_is_there_for_its_own(data_dir, built, monkeypatch):
    monkeypatch.setattr("ncl_jax.textures.build_tfds.parse_options", lambda options: None)  # also without Beam
    with pytest.raises(UserError, match=rf"{re.escape(build.VERSION)}: is there already; Beam builds in one go"):
        build.run("jpegs", **OPTIONS, data_dir=str(data_dir), beam_options="runner=DirectRunner")
