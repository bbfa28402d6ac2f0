"""Statistics of features, similarities, accuracies by class, and probes on few labels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from ncl_jax.errors import UserError
from ncl_jax.evaluation import class_accuracy, feature_statistics, few_shot, similarity


def test_effective_rank_counts_the_dimensions_in_use():
    corners = np.concatenate([np.eye(6), -np.eye(6)])  # centred, six equal directions
    assert float(feature_statistics.effective_rank(jnp.asarray(corners))) == pytest.approx(6.0, rel=1e-4)
    line = np.array([[1.0, 0, 0], [-1.0, 0, 0], [1.0, 0, 0], [-1.0, 0, 0]])
    assert float(feature_statistics.effective_rank(jnp.asarray(line))) == pytest.approx(1.0, rel=1e-3)


def test_alignment_and_uniformity_by_hand():
    a = jnp.array([[2.0, 0.0], [0.0, 3.0]])
    b = jnp.array([[1.0, 0.0], [0.0, -1.0]])
    assert float(feature_statistics.alignment(a, b)) == pytest.approx(2.0)  # 0 and 4
    # Pairs of a square's corners: distance² 2 for four, 4 for two.
    square = jnp.array([[1.0, 0], [0, 1.0], [-1.0, 0], [0, -1.0]])
    want = np.log((4 * np.exp(-4.0) + 2 * np.exp(-8.0)) / 6)
    assert float(feature_statistics.uniformity(square)) == pytest.approx(want, rel=1e-5)
    assert float(feature_statistics.uniformity(jnp.ones((5, 3)))) == pytest.approx(0.0, abs=1e-5)


def test_uniformity_of_random_directions():
    x = jax.random.normal(jax.random.key(0), (1000, 128))
    assert float(feature_statistics.uniformity(x)) == pytest.approx(-4.0, abs=0.1)


def test_similarities_by_hand():
    query = np.array([[2.0, 0.0], [0.0, 1.0]])
    got = similarity.similarities(
        query,
        positive=np.array([[1.0, 0.0], [1.0, 1.0]]),
        queue=np.array([[0.0, 5.0], [-1.0, 0.0], [1.0, 0.0]]),
        negatives={"patch": np.array([[[1.0, 1.0]], [[0.0, 2.0]]])},
    )
    half = np.sqrt(0.5)
    np.testing.assert_allclose(got["positive"], [1.0, half], rtol=1e-6)
    np.testing.assert_allclose(got["queue"], [0, -1, 1, 1, 0, 0], atol=1e-7)
    np.testing.assert_allclose(got["patch"], [half, 1.0], rtol=1e-6)
    rows = similarity.summary(got)
    assert rows["queue"]["above_positive"] == pytest.approx(2 / 6)
    assert rows["patch"]["mean"] == pytest.approx((1 + half) / 2)


def test_accuracy_by_class_and_what_changed():
    labels = np.array([0, 0, 1, 1, 1, 3])
    before = class_accuracy.per_class(np.eye(4)[[0, 1, 1, 1, 0, 0]], labels)
    np.testing.assert_allclose(before, [0.5, 2 / 3, np.nan, 0.0])
    after = class_accuracy.per_class(np.eye(4)[[0, 0, 1, 0, 0, 0]], labels)
    rows = class_accuracy.changes(before, after, ["a", "b", "c", "d"])
    assert [row[0] for row in rows] == ["a", "d", "b"]
    assert rows[0][3] == pytest.approx(0.5)
    assert rows[2][3] == pytest.approx(-1 / 3)


def test_rank_correlation_is_spearmans():
    rng = np.random.default_rng(0)
    accuracy, depth = rng.random(40), rng.integers(3, 9, 40)  # with ties
    accuracy[5] = np.nan
    got = class_accuracy.against_hierarchy(accuracy, {"depth": depth, "siblings": np.zeros(40, int)})
    seen = np.isfinite(accuracy)
    assert got["depth"] == pytest.approx(stats.spearmanr(accuracy[seen], depth[seen]).statistic)
    assert np.isnan(got["siblings"])


def test_balanced_subset():
    labels = np.repeat([0, 1, 2, 3], [500, 300, 150, 50])
    small, large = (few_shot.balanced_subset(labels, share, seed=4) for share in (0.02, 0.2))
    np.testing.assert_array_equal(np.bincount(labels[small]), [5, 5, 5, 5])
    np.testing.assert_array_equal(np.bincount(labels[large]), [50, 50, 50, 50])
    assert set(small) <= set(large)
    assert not np.array_equal(small, few_shot.balanced_subset(labels, 0.02, seed=5))
    np.testing.assert_array_equal(np.bincount(labels[few_shot.balanced_subset(labels, 1e-9)]), [1, 1, 1, 1])
    half = few_shot.balanced_subset(labels, 0.5)  # small classes have no 125: the larger ones make up for it
    np.testing.assert_array_equal(np.bincount(labels[half]), [150, 150, 150, 50])
    np.testing.assert_array_equal(few_shot.balanced_subset(labels, 1.0), np.arange(1000))
    with pytest.raises(UserError, match="share = 2"):
        few_shot.balanced_subset(labels, 2)


def test_more_labels_help():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 800).astype(np.int32)
    features = (np.eye(4)[labels] @ rng.normal(size=(4, 16)) + rng.normal(size=(800, 16))).astype(np.float32)
    train = {"features": features[:400], "label": labels[:400]}
    test = {"features": features[400:], "label": labels[400:]}
    got = few_shot.accuracies(train, test, num_classes=4, shares=(0.02, 0.5), seeds=(0,))
    assert list(got) == ["top1_2%", "top1_50%"]
    assert 0.3 < got["top1_2%"] < got["top1_50%"]
