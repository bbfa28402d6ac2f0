"""Folders of drawn images whose classes are three of ImageNet's, and encoders on one device and on eight."""

import dataclasses

import jax
import numpy as np
import pytest
from PIL import Image

from ncl_jax import config, parallel
from ncl_jax.data import drawing
from ncl_jax.evaluation import protocol

# airliner, brown bear, cleaver: of the categories airplane, bear and knife.
WNIDS = {"n02690373": "airplane", "n02132136": "bear", "n03041632": "knife"}
CUES = {"airplane": ("arrow", "stripes"), "bear": ("circle", "dots"), "knife": ("cross", "checks")}


def draw(folder, name, seed, shape, texture, size=32):
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(drawing.draw(seed, CUES[shape][0], CUES[texture][1], size)).save(folder / f"{name}.png")


@pytest.fixture(scope="session")
def drawn(tmp_path_factory):
    """`data`: train and test of the three classes; `cue`: 9 pairs of categories; `categories`: airplane and bear;
    `sketch`: bear and a class that ImageNet has not, twelve in all."""
    root = tmp_path_factory.mktemp("drawn")
    for split, count in (("train", 20), ("test", 7)):
        for number, (wnid, category) in enumerate(WNIDS.items()):
            for index in range(count):
                seed = (split == "test", number, index)
                draw(root / "data" / split / wnid, f"{index:03}", seed, category, category)
    draw(root / "one" / "train" / "n02132136", "0", 1, "bear", "bear")
    draw(root / "one" / "train" / "n02132136", "1", 2, "bear", "bear")
    for shape in CUES:
        for texture in CUES:
            draw(root / "cue" / shape, f"{shape}1-{texture}2", 5, shape, texture)
    for index in range(6):
        draw(root / "sketch" / "n02132136", index, (7, index), "bear", "bear")
        draw(root / "sketch" / "n00000001", index, (8, index), "knife", "knife")
        draw(root / "categories" / "bear", index, (9, index), "bear", "bear")
        draw(root / "categories" / "airplane", index, (9, index), "airplane", "airplane")
    return root


def settings(drawn, sets, **evaluation):
    return config.parse(
        {
            "data": {
                "name": f"folder:{drawn}/data",
                "train_split": "train",
                "test_split": "test",
                "image_size": 32,
                "data_dir": str(drawn / "tfds"),
            },
            "model": {"name": "resnet10", "width": 0.125, "stem": "medium"},
            "evaluation": {"knn_k": 5, "resize": 32, "batch": 16, "sets": sets, **evaluation},
        }
    )


@pytest.fixture(scope="module")
def variables():
    model = protocol.Encoder(config.parse({"model": {"name": "resnet10", "width": 0.125, "stem": "medium"}}),
                             parallel.data_mesh(jax.devices()[:1])).model  # fmt: skip
    return jax.jit(lambda key, images: model.init(key, images, train=False))(
        jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32)
    )


@pytest.fixture(scope="module")
def make_subject(drawn, variables):
    """(sets, devices, batch, **keys of config.data) -> Subject; of two alike the encoder is compiled once."""
    encoders = {}

    def make(sets, *, devices=8, batch=16, say=lambda line: None, data=None, **evaluation):
        chosen = settings(drawn, sets, batch=batch, **evaluation)
        chosen = dataclasses.replace(chosen, data=dataclasses.replace(chosen.data, **(data or {})))
        if (devices, batch) not in encoders:
            encoders[devices, batch] = protocol.Encoder(chosen, parallel.data_mesh(jax.devices()[:devices]))
        encoder = encoders[devices, batch]
        subject = protocol.Subject(encoder, variables, say=say)
        subject.config = chosen
        return subject

    return make
