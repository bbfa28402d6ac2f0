"""Decisions by shape and by texture: by hand, and from published raw decisions."""

import json
import re

import numpy as np
import pytest

from ncl_jax.errors import UserError
from ncl_jax.evaluation import shape_bias as module


def one_hot(decisions, classes=4):
    return np.eye(classes)[np.asarray(decisions)]


def test_by_hand():
    shapes = np.array([0, 1, 2, 3, 1, 2])
    textures = np.array([1, 1, 3, 0, 0, 0])  # the second agrees and is left out
    decisions = [0, 1, 3, 3, 2, 2]  # shape, (left out), texture, shape, neither, shape
    got = module.shape_bias(one_hot(decisions), shapes, textures)
    assert got == pytest.approx({"shape": 0.6, "texture": 0.2, "other": 0.2, "shape_bias": 0.75})
    each = module.per_category(one_hot(decisions), shapes, textures, ["a", "b", "c", "d"])
    assert {name: row["shape_bias"] for name, row in each.items() if name != "b"} == {"a": 1.0, "c": 0.5, "d": 1.0}
    assert np.isnan(each["b"]["shape_bias"])


def test_category_probability_is_the_mean_over_its_classes():
    # bear has four classes with .2 each, airplane one with .15, knife one with .05: the mean decides, not the sum.
    wnids = [*module.CATEGORIES["bear"], "n02690373", "n03041632", "n00000000"]
    got, names = module.category_probabilities(np.array([[0.01, 0.01, 0.01, 0.3, 0.1, 0.5, 0.07]]), wnids)
    assert names == ["airplane", "bear", "knife"]
    np.testing.assert_allclose(got, [[0.1, 0.0825, 0.5]])
    with pytest.raises(UserError, match="WordNet ids"):
        module.category_probabilities(np.ones((1, 2)), ["cat", "dog"])


def test_mapping_is_the_published_one(shared_data):
    lists = json.loads((shared_data / "class_lists.json").read_text())
    assert lists["geirhos16"] == module.CATEGORIES
    text = (shared_data / "MSCOCO_to_ImageNet_category_mapping.txt").read_text()
    published = {name: re.findall(r"n\d{8}", body) for name, body in re.findall(r"(\w+)\s*=\s*\[(.*?)\]", text, re.S)}
    known = set(lists["imagenet2012_wnids"])
    assert {n: sorted(w for w in ws if w in known) for n, ws in published.items()} == {
        name: sorted(wnids) for name, wnids in module.CATEGORIES.items()
    }


@pytest.mark.parametrize(
    ("file", "bias"),
    [("resnet50_session-1", 0.2207), ("subject-01_session_1", 0.9617), ("resnet50_train_60_epochs_session-1", 0.8061)],
)
def test_published_decisions(shared_data, file, bias):
    path = shared_data / "cue_conflict_decisions" / f"style-transfer-512-nomask-experiment_{file}.csv"
    got = module.from_decisions(path)
    assert got["shape_bias"] == pytest.approx(bias, abs=5e-5)
    assert got["shape"] + got["texture"] + got["other"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("shapes", "textures", "message"),
    [([0, 1], [0, 1], "differ"), ([0], [1], "2 predictions, 1 shapes"), ([0, 9], [1, 1], "none of the 4 classes")],
)
def test_bad_input(shapes, textures, message):
    with pytest.raises(UserError, match=message):
        module.shape_bias(one_hot([0, 1]), np.array(shapes), np.array(textures))


def test_no_decision_by_either_cue_is_not_a_number():
    got = module.shape_bias(one_hot([2, 3]), np.array([0, 0]), np.array([1, 1]))
    assert np.isnan(got["shape_bias"])
    assert got["other"] == 1.0
