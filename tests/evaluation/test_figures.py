"""Every figure is written; the grid of neighbours shows the right images."""

import numpy as np
import pytest
from PIL import Image

from ncl_jax.evaluation import curves, figures

RNG = np.random.default_rng(0)


def check(path, tmp_path):
    assert path.parent == tmp_path
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    assert min(pixels.shape[:2]) > 100
    assert pixels.std() > 5  # not an empty sheet


def test_plots(tmp_path):
    cosines = {kind: RNG.uniform(-1, 1, 200) for kind in ("positive", "queue", "patch", "other")}
    check(figures.similarity_histograms(cosines, tmp_path / "a.png"), tmp_path)
    rows = {m: {c: {"shape_bias": RNG.random()} for c in ("cat", "dog", "car")} for m in ("base", "patch")}
    rows["patch"]["dog"] = {"shape_bias": float("nan")}
    del rows["base"]["car"]
    check(figures.shape_bias_by_category(rows, tmp_path / "b.png"), tmp_path)
    changes = [(f"class {i}", 0.5, 0.5 + d, d) for i, d in enumerate(np.linspace(0.3, -0.2, 40))]
    check(figures.class_changes(changes, tmp_path / "c.png"), tmp_path)
    accuracy = RNG.random(30)
    accuracy[2] = np.nan
    table = {"depth": RNG.integers(3, 9, 30).tolist(), "siblings": RNG.integers(0, 4, 30).tolist()}
    check(figures.class_scatter(accuracy, table, tmp_path / "d.png"), tmp_path)


def test_curves_of_a_log_that_was_cut_short(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.0}\n{"step": 3, "lo')
    curves.draw(tmp_path / "metrics.jsonl", tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as image:
        assert min(image.size) > 100


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_map(method, tmp_path):
    features, labels = RNG.normal(size=(60, 8)), RNG.integers(0, 3, 60)
    path = figures.feature_map(features, labels, tmp_path / "m.png", names=("a", "b", "c"), method=method)
    check(path, tmp_path)


def test_neighbours_are_sorted_by_cosine(tmp_path):
    images = np.stack([np.full((16, 16, 3), v, np.uint8) for v in (10, 20, 30)])
    query = np.full((1, 16, 16, 3), 99, np.uint8)
    path = figures.nearest_neighbours(query, images[None, [2, 1]], tmp_path / "n.png")
    with Image.open(path) as image:
        row = np.asarray(image)[-64, :, 0]
        assert np.asarray(image)[:20].min() < 128  # their titles
    shown = [value for value in dict.fromkeys(row.tolist()) if value != 255]
    assert shown == [99, 30, 20]
