"""Corruption means and class subsets, by hand."""

import json

import numpy as np
import pytest

from ncl_jax.errors import UserError
from ncl_jax.evaluation import imagenet_classes, robustness


def test_mce_of_alexnet_is_100(shared_data):
    lists = json.loads((shared_data / "class_lists.json").read_text())
    assert robustness.mean_corruption_error(lists["alexnet_c_errors"]) == pytest.approx(100.0)
    assert lists["alexnet_c_errors"] == robustness.ALEXNET_ERRORS


def test_mce_by_hand():
    halved = {name: 0.5 * error for name, error in robustness.ALEXNET_ERRORS.items()}
    assert robustness.mean_corruption_error(halved) == pytest.approx(50.0)
    halved["fog"] = 1.0
    assert robustness.mean_corruption_error(halved) == pytest.approx((14 * 50 + 100 / 0.819324) / 15)
    with pytest.raises(UserError, match="mCE: fog was not measured"):
        robustness.mean_corruption_error({k: v for k, v in halved.items() if k != "fog"})


def test_mce_only_where_it_compares():
    accuracy = {name: [1 - error] * 5 for name, error in robustness.ALEXNET_ERRORS.items()}
    got = robustness.summarize_corruptions({**accuracy, "spatter": [0.0] * 5}, num_classes=1000, image_size=224)
    assert got["mce"] == pytest.approx(100.0)
    assert got["mean"] == pytest.approx(1 - np.mean(list(robustness.ALEXNET_ERRORS.values())))
    assert got["per_corruption"]["spatter"] == 0.0
    extras = robustness.summarize_corruptions({"spatter": [0.2, 0.4]}, num_classes=1000, image_size=224)
    assert extras["per_corruption"] == {"spatter": pytest.approx(0.3)}
    assert (extras["corruptions"], {"mean", "mce"} & extras.keys()) == (0, set())
    for classes, size in ((100, 224), (1000, 64)):
        assert "mce" not in robustness.summarize_corruptions(accuracy, num_classes=classes, image_size=size)
    some = {name: values[:1] for name, values in accuracy.items()}  # AlexNet's errors are means over five severities
    assert "mce" not in robustness.summarize_corruptions(some, num_classes=1000, image_size=224)


@pytest.mark.parametrize("size", [4, 7, 32])
def test_corruptions_by_hand_for_any_batch(size):
    """An image of value v is class v; "shift" adds its severity to the even ids. Severity 1 spares the odd ids."""
    values, ids = np.arange(20) % 5, np.arange(20)

    def batches():
        for start in range(0, 20, size):
            part = slice(start, start + size)
            fill = size - len(ids[part])
            yield {
                "image": np.tile(np.pad(values[part], (0, fill))[:, None, None, None], (1, 2, 2, 3)).astype(np.uint8),
                "label": np.pad(values[part], (0, fill)),
                "id": np.pad(ids[part], (0, fill)),
                "mask": np.arange(size) < size - fill,
            }

    def corrupt(images, name, severity, ids):
        shift = severity if name == "shift" else 0
        return images + np.where(ids % 2 == 0, shift, 0).astype(np.uint8)[:, None, None, None]

    def predict(images):
        return np.eye(16)[images[:, 0, 0, 0]]

    got = robustness.evaluate_corruptions(predict, batches(), corrupt, names=("shift", "none"), severities=(1, 5))
    assert got == {"shift": [0.5, 0.5], "none": [1.0, 1.0]}
    with pytest.raises(UserError, match="no images"):
        robustness.evaluate_corruptions(predict, iter(()), corrupt)


def test_masked_and_unmasked_by_hand():
    # The probe knows a, b, c, d; the test set holds d, x and b in this order.
    columns = robustness.class_map(["d", "x", "b"], ["a", "b", "c", "d"])
    np.testing.assert_array_equal(columns, [3, -1, 1])
    probabilities = np.array(
        [
            [0.1, 0.2, 0.1, 0.6],  # d: right in both
            [0.6, 0.1, 0.0, 0.3],  # d: a without the mask, d with it
            [0.0, 0.3, 0.1, 0.6],  # b: d in both
            [0.3, 0.3, 0.4, 0.0],  # b: c without, b with
            [1.0, 0.0, 0.0, 0.0],  # x: unknown to the probe
        ]
    )
    got = robustness.subset_accuracy(probabilities, np.array([0, 0, 2, 2, 1]), columns)
    assert got == {"masked": 0.75, "unmasked": 0.25, "classes": 2, "images": 4}
    with pytest.raises(UserError, match="no class in common"):
        robustness.class_map(["x"], ["a"])
    with pytest.raises(UserError, match="no image of the test set"):
        robustness.subset_accuracy(probabilities[4:], np.array([1]), columns)


def test_real_labels():
    probabilities = np.eye(4)[[0, 1, 2, 3]]
    assert robustness.multi_label_accuracy(probabilities, [[0, 3], [2], [], [3]]) == pytest.approx(2 / 3)


def test_the_table_of_classes(shared_data):
    lists = json.loads((shared_data / "class_lists.json").read_text())
    table = imagenet_classes.classes()
    assert [c.wnid for c in table] == lists["imagenet2012_wnids"]
    assert {c.wnid for c in table if c.rendition} == set(lists["imagenet_r_200"])
    assert {c.wnid for c in table if c.adversarial} == set(lists["imagenet_a_200"])
    # 19 classes of ImageNet-R are among CMC's 100 (DESIGN, 5)
    rendition = [c.wnid for c in table if c.rendition]
    assert np.sum(robustness.class_map(rendition, lists["imagenet100_cmc"]) >= 0) == 19


def test_hierarchy():
    # goldfish and tench are cyprinids; an airliner is nobody's sibling here.
    got = imagenet_classes.hierarchy(["n01443537", "n01440764", "n02690373"])
    assert got["siblings"] == [1, 1, 0]
    assert got["depth"][0] == got["depth"][1] == 16
    with pytest.raises(UserError, match="is no WordNet id"):
        imagenet_classes.hierarchy(["cat"])
