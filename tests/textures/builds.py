"""A small texture dataset, built of `builders.Jpegs`."""

from pathlib import Path

from ncl_jax.textures import build

OPTIONS = {"splits": ("train", "bad"), "quality": "draft", "size": 32}


def plan(data_dir, **changes):
    return build.plan("jpegs", **{**OPTIONS, **changes}, data_dir=str(data_dir))


def files(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}
